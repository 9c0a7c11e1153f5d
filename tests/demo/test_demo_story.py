"""The demonstration's story: what is packaged is what the tool composes from the captures."""

from __future__ import annotations

import gzip
import json
import sys
from datetime import datetime
from pathlib import Path

from arimonitor_core.effects import PublishMessage
from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored
from arimonitor_core.monitor import Monitor
from arimonitor_core.records import decode_record, encode_record
from arimonitor_runner.demo.rebase import INSTANT, retimed
from arimonitor_runner.demo.story import compare, load_story
from arimonitor_runner.directory_sources.text import load_directory

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "arimonitor_runner" / "demo"
sys.path.insert(0, str(ROOT / "tools"))

import make_story  # noqa: E402  # a script, not a package

STALE = "run .venv/bin/python tools/make_story.py and commit what it writes"


def test_the_packaged_story_is_what_the_tool_composes_from_the_captures() -> None:
    """A changed capture or tool is noticed."""
    records, expected = make_story.compose()
    assert gzip.decompress((DEMO / "story.ndjson.gz").read_bytes()) == b"".join(map(encode_record, records)), STALE
    assert json.loads((DEMO / "story.expected.json").read_text()) == expected, STALE


def test_the_packaged_directory_is_the_captures_own() -> None:
    """The demonstration knows the numbers that the captures use."""
    for name in ("__CLIENTES__.DEF", "endpoints_pjsip.def", "mqservers.def"):
        assert (DEMO / name).read_text() == (make_story.DIRECTORY / name).read_text(), STALE


def test_every_event_of_the_story_is_one_that_asterisk_sent() -> None:
    """Only instants differ from the captures."""
    captured: set[bytes] = set()
    for piece in make_story.STORY:
        records, _ = make_story.read_capture(piece.scenario)
        captured |= {without_instants(r) for r in records if isinstance(r, AriEventReceived)}
    with gzip.open(DEMO / "story.ndjson.gz") as lines:
        story = [decode_record(line) for line in lines]
    assert {without_instants(r) for r in story if isinstance(r, AriEventReceived)} <= captured


def without_instants(record: AriEventReceived) -> bytes:
    return INSTANT.sub(b'""', record.raw)


def test_the_story_tells_all_that_it_is_meant_to_show() -> None:
    """Answered, unanswered, pushed, transferred and recovered calls, and one gap in which the connection is lost."""
    expected = json.loads((DEMO / "story.expected.json").read_text())
    endings = {status for call in expected["calls"] for status in call["statuses"]}
    assert endings == {"open", "oncall", "closed", "unanswered", "FORCECLOSE"}
    assert expected["pushes"] == 1
    assert any(call["dialed"] == "1130" and call["destiny"] == "1132" for call in expected["calls"]), "ring group"
    assert any(call["dialed"] == "1122" and call["destiny"] == "1123" for call in expected["calls"]), "transfer"
    with gzip.open(DEMO / "story.ndjson.gz") as lines:
        other = [r for r in map(decode_record, lines) if not isinstance(r, AriEventReceived)]
    assert [type(record) for record in other] == [ConnectionRestored, ConnectionLost, ConnectionRestored]


def replayed() -> list[bytes]:
    """Message bodies of the packaged story, followed by the core alone."""
    monitor = Monitor(server="demo", directory=load_directory(DEMO, {}).directory)
    records, _ = load_story()
    effects = [effect for record in records for effect in monitor.handle(record)]
    assert monitor.active_calls() == []
    return [effect.body for effect in effects if isinstance(effect, PublishMessage)]


def test_the_core_tells_of_the_story_exactly_what_truly_happened() -> None:
    """The messages agree with Asterisk's own records of the calls."""
    _, expected = load_story()
    assert compare(replayed(), expected) == []


def test_every_difference_from_the_truth_is_named() -> None:
    """A missing message, one too many, a wrong digit and a missing push are all seen."""
    _, expected = load_story()
    bodies = replayed()
    assert compare([b for b in bodies if b"FORCECLOSE" not in b], expected) != []
    assert compare([*bodies, bodies[-1].replace(b'"guid":"', b'"guid":"0')], expected) != []
    assert len(compare([b.replace(b'"dtmf":"42#"', b'"dtmf":"42"') for b in bodies], expected)) == 2
    assert compare([b for b in bodies if b'"push"' not in b], expected) == ["0 push messages, expected 1"]


def test_moving_a_log_there_and_back_changes_nothing() -> None:
    """To the millisecond, also across a time zone's midnight."""
    records, _ = make_story.read_capture("attended_transfer")
    began_at = records[0].received_at
    there = retimed(records, start_at=began_at + 86_399.999)
    back = retimed(there, start_at=began_at)
    assert [getattr(r, "raw", b"") for r in back] == [getattr(r, "raw", b"") for r in records]
    assert [getattr(r, "raw", b"") for r in there] != [getattr(r, "raw", b"") for r in records]


def test_a_log_is_drawn_together_by_the_speed_in_the_pbx_s_own_time_zone() -> None:
    """Ten seconds at twice the speed are five, also in a log from a PBX that does not live in UTC."""
    with gzip.open(make_story.CAPTURES.parent / "asterisk-16-lean" / "answered_caller_hangs_up.ndjson.gz") as lines:
        records = [decode_record(line) for line in lines]
    faster = retimed(records, start_at=records[0].received_at, speed=2)
    for old, new in zip(records, faster, strict=True):
        assert abs((new.received_at - records[0].received_at) * 2 - (old.received_at - records[0].received_at)) < 0.003
    old, new = (INSTANT.findall(events[-1].raw)[0].decode() for events in (records, faster))
    assert new.endswith("-0300")
    began_at = datetime.fromisoformat(INSTANT.findall(records[1].raw)[0].decode())
    played, lasted = (datetime.fromisoformat(text) - began_at for text in (new, old))
    assert abs(played.total_seconds() * 2 - lasted.total_seconds()) < 0.02
