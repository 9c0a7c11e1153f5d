"""Faults under twenty concurrent calls, on a real Asterisk and a real RabbitMQ: nothing that can be known is lost.

ARIMONITOR_FAULTS=full has them strike as often as it takes to be sure; without it, as often as a run of all tests can
afford.
"""

import os
import sys

import pytest

from tests.live.conftest import VERSIONS
from tests.live.kills import FAULTS
from tests.live.verdicts import (
    compare_events,
    compare_with_unbroken,
    count,
    count_events,
    find_contradictions,
    find_gaps,
    judge_messages,
    read_recorded,
)

IS_FULL = os.environ.get("ARIMONITOR_FAULTS") == "full"

NEVER_LOGGED = ("core failed", "crashed", "decided twice", "set aside", "begins too late", "Traceback")

TRIALS = [
    pytest.param(
        (version, "channelvars"), fault, marks=pytest.mark.xdist_group(f"asterisk-{version}"), id=f"{version}-{fault}"
    )
    for version in VERSIONS
    for fault in FAULTS
    # Only Asterisk 22 is known to suffer from connections that break.
    if version == 22 or fault != "disconnects"
]
pytestmark = pytest.mark.timeout(3600 if IS_FULL else 600)

GAPS = [
    ("websocket_drop_midcall", "daemon"),
    ("asterisk_restart_midcall", "asterisk"),
    ("asterisk_crash_midcall", "asterisk"),
]
SITES = [
    pytest.param(
        (version, "channelvars"), marks=pytest.mark.xdist_group(f"asterisk-{version}"), id=f"{version}-channelvars"
    )
    for version in VERSIONS
]

HANDOVERS = [trial for trial in TRIALS if trial.values[1] == "handovers"]

# Both are fixtures of the session, and so a trial takes place once for all tests that look at it.
with_each_fault = pytest.mark.parametrize(("site", "fault"), TRIALS, indirect=True)


@pytest.fixture(scope="session")
def fault(request):
    """The name of what strikes."""
    return request.param


@pytest.fixture
def evidence(site, fault, judge):
    """What is left of the trial, which takes place the first time that somebody asks."""
    chosen = FAULTS[fault]
    evidence = site.trial(fault, chosen, chosen.full_count if IS_FULL else chosen.count)
    sys.stdout.write(f"{count(judge, evidence)}\n")  # shown where a test fails, and by -rP
    return evidence


@pytest.mark.parametrize("site", SITES, indirect=True)
@pytest.mark.parametrize(("scenario", "way"), GAPS, ids=["daemon-killed", "asterisk-restarted", "asterisk-killed"])
def test_what_happened_while_nobody_listened_is_found_out(site, judge, scenario, way):
    """Calls that rang, talked, began and ended meanwhile: what can be known is told, and that there was a gap."""
    evening = site.evening(scenario, way)
    assert len(find_gaps(judge, evening.journal)) == 1
    assert judge_messages(judge, evening) == []
    assert evening.exit_statuses == (0, 0)
    assert evening.left_in_outbox == 0


@with_each_fault
def test_every_call_is_told_as_it_was(evidence, judge):
    """Complete, in order, right parties, right times; a gap where there was one, and only there."""
    assert judge_messages(judge, evidence) == []


@with_each_fault
def test_no_message_is_ever_told_in_two_ways(evidence):
    """A consumer that drops repeats by message_id drops nothing else."""
    assert find_contradictions(evidence) == []


@with_each_fault
def test_every_event_that_could_be_heard_is_journaled_once(evidence):
    """Event by event as a recorder heard them whose connection held."""
    assert compare_events(evidence.journal, read_recorded(evidence)) == []
    assert evidence.problems == []


@pytest.mark.parametrize(("site", "fault"), HANDOVERS, indirect=True)
def test_handed_over_the_daemon_tells_what_an_unbroken_one_tells(evidence, site):
    """Byte for byte what the log of a recorder leads to that was connected all the time, and not one event less."""
    assert compare_with_unbroken(evidence, site.directory) == []
    recorded = read_recorded(evidence)
    assert count_events(evidence.journal) == count_events(recorded)


@with_each_fault
def test_nothing_is_left_when_all_calls_are_over(evidence, fault):
    """No message that waits, no call in memory, no complaint in the log, and each daemon left as it should."""
    assert evidence.left_in_outbox == 0
    assert evidence.left_in_memory == 0
    *ended, last = evidence.exit_statuses
    assert last == 0
    assert set(ended) <= {FAULTS[fault].exit_status}
    assert [line for line in evidence.logs if any(text in line["event"] for text in NEVER_LOGGED)] == []
