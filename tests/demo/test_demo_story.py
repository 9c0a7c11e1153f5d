"""The demonstration's story: what is packaged is what the tool composes from the captures."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored
from arimonitor_core.records import decode_record, encode_record
from arimonitor_runner.demo.rebase import INSTANT, moved

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


def test_moving_a_log_there_and_back_changes_nothing() -> None:
    """To the millisecond, also across a time zone's midnight."""
    records, _ = make_story.read_capture("attended_transfer")
    there = moved(records, by_s=86_399.999)
    back = moved(there, by_s=-86_399.999)
    assert [getattr(r, "raw", b"") for r in back] == [getattr(r, "raw", b"") for r in records]
    assert [getattr(r, "raw", b"") for r in there] != [getattr(r, "raw", b"") for r in records]
