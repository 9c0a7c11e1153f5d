#!/usr/bin/env python3
"""Compose the demonstration's story: calls out of several captures of a real Asterisk, laid over each other in time.

    .venv/bin/python tools/make_story.py        writes into arimonitor_runner/demo/

Every event is one that Asterisk sent; only the instants are moved. What must come out of it is not taken from the
monitor but from the captures' truth files, which the scenarios' scripts and Asterisk's own CEL and CDR established.
"""

from __future__ import annotations

import gzip
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored, Input
from arimonitor_core.records import decode_record, encode_record
from arimonitor_runner.demo.rebase import retimed

ROOT = Path(__file__).resolve().parent.parent
CAPTURES = ROOT / "fixtures" / "captures" / "asterisk-22-lean"
DIRECTORY = ROOT / "fixtures" / "directory"
TARGET = ROOT / "arimonitor_runner" / "demo"

EPOCH = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
"""When the story happens if it is not moved; any time would do."""
LEAD_S = 1.0
"""Nothing happens for so long after the start: a monitor reads channels and endpoints first."""


@frozen
class Piece:
    """Calls of one capture, begun `at` seconds into the story."""

    scenario: str
    at: float
    calls: tuple[int, ...] = ()
    """Numbers (`n`) of the truth file; empty: all of them, and whatever else happens in the capture."""


STORY = (
    Piece("ia_94", 0.0, calls=(1,)),
    Piece("push_registers_then_answers", 1.0),
    Piece("blind_transfer", 4.2, calls=(1,)),
    Piece("concurrent_20_calls", 5.0),
    Piece("ring_group_local_channels", 11.5, calls=(1,)),
    Piece("anonymous_attack", 13.0, calls=(2, 3, 4, 5, 6, 7)),
    Piece("websocket_drop_midcall", 22.5, calls=(1, 2, 4, 5, 6, 7, 8, 9)),
)
"""Its last piece holds the gap: the connection is lost and comes back; nothing else may be going on by then."""


def read_capture(scenario: str) -> tuple[list[Input], dict[str, Any]]:
    """A capture's records and its truth."""
    with gzip.open(CAPTURES / f"{scenario}.ndjson.gz") as lines:
        records = [decode_record(line) for line in lines]
    return records, json.loads((CAPTURES / f"{scenario}.truth.json").read_text())


def linked_ids(event: dict[str, Any]) -> set[str]:
    """Linked ids of all channels that an event shows."""
    things = (value for value in event.values() if isinstance(value, dict))
    return {thing["channelvars"]["CHANNEL(linkedid)"] for thing in things if "channelvars" in thing}


def only_of(record: Input, linked: set[str]) -> Input | None:
    """A record without the channels of other calls; None where nothing of it is left."""
    if isinstance(record, AriEventReceived):
        return record if linked_ids(json.loads(record.raw)) & linked else None
    if isinstance(record, ConnectionRestored):
        channels = [c for c in json.loads(record.channels) if c["channelvars"]["CHANNEL(linkedid)"] in linked]
        ids = {channel["id"] for channel in channels}
        bridges = [bridge for bridge in json.loads(record.bridges) if ids & set(bridge["channels"])]
        return evolve(record, channels=encode(channels), bridges=encode(bridges))
    return record


def encode(items: list[dict[str, Any]]) -> bytes:
    """JSON as Asterisk writes it."""
    return json.dumps(items, separators=(",", ":")).encode()


def cut_out(piece: Piece) -> tuple[list[Input], list[dict[str, Any]]]:
    """The records of a piece at their place in the story, and the truth of its calls, moved alike."""
    records, truth = read_capture(piece.scenario)
    calls = [call for call in truth["calls"] if not piece.calls or call["n"] in piece.calls]
    if piece.calls:
        linked = {linkedid for call in calls for linkedid in call["record"]["linkedids"]}
        records = [kept for record in records if (kept := only_of(record, linked)) is not None]
    # What was known when the capture began is told once, at the start of the story.
    records = records[isinstance(records[0], ConnectionRestored) :]
    start_at = EPOCH + LEAD_S + piece.at
    by_s = start_at - records[0].received_at
    for call in calls:
        record = call.get("record") or {}
        for key in ("created_at", "peer_answered_at", "last_channel_ended_at"):
            if record.get(key):
                record[key] += by_s
    return retimed(records, start_at=start_at), calls


def is_published(call: dict[str, Any]) -> bool:
    """Is the web system to hear of the call? Only where an extension, or the AI entry, was really dialed."""
    record = call.get("record")
    if not record or call.get("noise"):
        return False
    return call["dialed"] == "94" or bool(record["hangup"].get("dialstatus"))


def expected_call(call: dict[str, Any], lost_at: float, restored_at: float) -> dict[str, Any] | None:
    """What a call's messages must say; None where there must be none."""
    record = call.get("record") or {}
    created, ended, answered = (record.get(k) for k in ("created_at", "last_channel_ended_at", "peer_answered_at"))
    if not is_published(call) or (lost_at <= created and ended <= restored_at):
        return None
    unseen_end = lost_at <= ended <= restored_at
    talked = call["status"] == "closed"
    oncall = talked and not (unseen_end and answered is not None and lost_at <= answered)
    end = "FORCECLOSE" if unseen_end else "closed" if talked else "unanswered"
    answered_by = [call["answered_by"] or call["dialed"], *(t["answered_by"] for t in call["transfers"])]
    return {
        "origin": call["origin"],
        "dialed": call["dialed"],
        "statuses": ["open", *(["oncall"] if oncall else []), end],
        "destiny": [number for number in answered_by if number][-1] if oncall else call["dialed"],
        "dtmf": "".join(pressed["digits"] for pressed in call["dtmf"]) if end == "closed" else None,
    }


def compose() -> tuple[list[Input], dict[str, Any]]:
    """The story's records in order, and what must come out of it."""
    pieces = [cut_out(piece) for piece in STORY]
    # The first thing a monitor reads: the telephones as they were when the smartphone still slept.
    start = next(r for r in read_capture(STORY[1].scenario)[0] if isinstance(r, ConnectionRestored))
    records: list[Input] = retimed([start], start_at=EPOCH)
    for number, (piece, _) in enumerate(pieces):
        if number < len(pieces) - 1 and any(not isinstance(record, AriEventReceived) for record in piece):
            raise ValueError(f"only the last piece may hold a gap, {STORY[number].scenario} has one")
        records += piece
    records.sort(key=lambda record: record.received_at)
    lost_at = next(r.received_at for r in records if isinstance(r, ConnectionLost))
    restored_at = next(r.received_at for r in records if isinstance(r, ConnectionRestored) and r.received_at > lost_at)
    calls = [expected_call(call, lost_at, restored_at) for _, truths in pieces for call in truths]
    pushes = sum(call["dialed"] == "1129" for _, truths in pieces for call in truths)
    return records, {"calls": [call for call in calls if call], "silent": calls.count(None), "pushes": pushes}


def main() -> int:
    """Write the story, what is expected of it, and the directory that it plays in."""
    records, expected = compose()
    log = b"".join(encode_record(record) for record in records)
    (TARGET / "story.ndjson.gz").write_bytes(gzip.compress(log, mtime=0))
    (TARGET / "story.expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    for source in DIRECTORY.glob("*.[dD][eE][fF]"):
        (TARGET / source.name).write_text(source.read_text())
    sys.stdout.write(
        f"{len(records)} records, {records[-1].received_at - EPOCH:.1f} s, {len(expected['calls'])} calls\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
