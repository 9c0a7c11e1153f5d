"""Real calls through a real Asterisk, the real daemon and a real RabbitMQ, against what truly happened."""

import gzip
import json
import signal
from collections import defaultdict

import pytest

from arimonitor_core.inputs import ConnectionLost
from arimonitor_core.records import decode_record
from tests.live.conftest import VERSIONS, on
from tests.live.evening import APPLICATION
from tests.live.lab import ARI_PASSWORD, READER, build
from tests.live.verdicts import find_gaps, judge_messages
from tests.runner.processes import Process, daemon_arguments
from tests.runner.replays import messages_of

TWENTY_CALLS = "concurrent_20_calls"
GAP = "websocket_drop_midcall"


def read_log(evening):
    """The recorder's log, as the lab packed it."""
    path = evening.folder / f"{evening.name}.ndjson.gz"
    return [decode_record(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def by_call(bodies, leave_out=("callnumber",)):
    """The received-call and push messages of each call, in order, without what two daemons may number differently."""
    calls = defaultdict(list)
    for body in map(json.loads, bodies):
        if body["operation"]["type"] in ("received-call", "push"):
            for name in leave_out:
                body["data"].pop(name, None)
            calls[body["data"]["guid"]].append(body)
    return dict(calls)


@pytest.mark.parametrize("version", [on(version) for version in VERSIONS])
def test_a_real_asterisk_of_this_version_is_there(version):
    """Made where it is missing. What fails here makes all other tests of the version fail."""
    done = build(version)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Asterisk {version}." in done.stdout


def test_twenty_concurrent_calls_are_told_as_they_were(site, judge):
    """Answered, cancelled, busy, rejected, unanswered, all at once: each message agrees with Asterisk's own records."""
    evening = site.evening(TWENTY_CALLS)
    assert judge_messages(judge, evening) == []


def test_every_call_has_one_beginning_and_one_end_in_that_order(site):
    """As a consumer gets them from the queue."""
    calls = by_call(site.evening(TWENTY_CALLS).bodies)
    assert len(calls) == 20
    for messages in calls.values():
        statuses = [message["data"]["channelstatus"] for message in messages]
        assert statuses in (["open", "oncall", "closed"], ["open", "unanswered"])


def test_every_message_has_an_id_of_its_own(site):
    """Nothing came twice, and the id says which message of which call it is."""
    delivered = site.evening(TWENTY_CALLS).delivered
    ids = [properties.message_id for _, properties, _ in delivered]
    assert len(set(ids)) == len(ids)
    for _, properties, body in delivered:
        data = json.loads(body)["data"]
        if "channelstatus" in data:
            assert properties.message_id == f"{data['guid']}:{data['channelstatus']}"


def test_the_recorders_log_replays_to_the_daemons_messages(site):
    """Two programs listened to the same calls: what one wrote down leads to what the other one told."""
    evening = site.evening(TWENTY_CALLS)
    replayed = by_call(message.body for message in messages_of(read_log(evening), "pbx"))
    told = by_call(evening.bodies)
    vhosts = dict(zip(("vila-madalena", "jardim-paulista", "alto-da-lapa"), site.vhosts, strict=True))
    for messages in replayed.values():
        for message in messages:
            message["operation"]["vhost"] = vhosts[message["operation"]["vhost"]]
    assert told == replayed


def test_it_stops_at_sigterm_and_leaves_nothing_behind(site):
    """Exit status 0, everything confirmed, no file but the outbox and the journal, no error in the log."""
    evening = site.evening(TWENTY_CALLS)
    assert evening.exit_statuses == (0, 0)
    assert evening.left_in_outbox == 0
    assert [path for path in evening.left_behind if not path.startswith("journal/")] == ["outbox.db"]
    assert [line for line in evening.log if line["level"] in ("error", "critical")] == []


def test_channelvarset_is_filtered_out_where_it_can_be(site):
    """With channelvars the recording's path comes with the snapshots; without them its events stay on."""
    log = site.evening(TWENTY_CALLS).log
    events = [line["event"] for line in log]
    assert any("ChannelVarset is let through until" in event for event in events)
    assert any("ChannelVarset is filtered out" in event for event in events) is site.pair.with_channelvars
    assert any("snapshots lack the recording's path" in event for event in events) is not site.pair.with_channelvars


def test_what_happened_in_a_gap_is_found_out(site, judge):
    """The websocket is away in mid-call: ended calls are force-closed, living ones resumed, new ones adopted."""
    evening = site.evening(GAP)
    assert len(find_gaps(judge, evening.journal)) == 1
    assert judge_messages(judge, evening) == []
    assert evening.exit_statuses == (0, 0)
    assert evening.left_in_outbox == 0


def test_the_recorder_saw_no_gap(site):
    """Its connection held all the time: there is no loss in its log."""
    log = read_log(site.evening(TWENTY_CALLS))
    assert not any(isinstance(record, ConnectionLost) for record in log)


async def start(site, tmp_path, name, **options):
    """Start a daemon of this site with an outbox of its own."""
    spool = tmp_path / name
    spool.mkdir()
    arguments = daemon_arguments(site.pair.url, str(spool), str(site.directory), ari_application=APPLICATION)
    user = options.get("user", "arimonitor")
    return await Process.start("arimonitor_runner.daemon", *arguments, f"--ari-user={user}", password=ARI_PASSWORD)


def test_a_successor_takes_over_and_the_first_one_leaves(site, tmp_path, run):
    """A second daemon with the same application name: Asterisk says so, the first ends with status 3."""

    async def scenario():
        first = await start(site, tmp_path, "first")
        await first.until_logged("ARI connection up")
        second = await start(site, tmp_path, "second")
        await second.until_logged("ARI connection up")
        left = await first.end()
        return left, await second.end(signal.SIGTERM)

    assert run(scenario()) == (3, 0)


def test_a_read_only_user_is_told_what_to_change(site, tmp_path, run):
    """Real Asterisk's 403, and its meaning."""

    async def scenario():
        daemon = await start(site, tmp_path, "reader", user=READER)
        line = await daemon.until_logged("Asterisk refuses us")
        return line["reason"], await daemon.end(signal.SIGTERM)

    reason, status = run(scenario())
    assert f"user {READER} may not write" in reason
    assert status == 0
