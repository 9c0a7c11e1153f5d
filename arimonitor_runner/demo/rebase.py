"""Move a capture log in time: every instant in it, the recorder's and Asterisk's, and none of its other bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone

from attrs import evolve

from arimonitor_core.inputs import AriEventReceived, ConnectionRestored, Input

INSTANT = re.compile(rb'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4})"')
"""An instant as Asterisk writes it, the only texts of this form in an event: timestamp and creationtime."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def retimed(records: Sequence[Input], *, start_at: float, speed: float = 1.0) -> list[Input]:
    """The same log as if its first record had been made at `start_at`, in a world that ran `speed` times as fast.

    With a speed of 1 every distance between two instants stays exactly as it was. Channel ids, which hold a time in
    their text, stay in any case.

    Args:
        records: a capture log in order; at least one record.
        start_at: Unix seconds.
        speed: above 0.
    """
    first_ms, start_ms = (round(instant * 1000) for instant in (records[0].received_at, start_at))

    def move(at_ms: float) -> float:
        return start_ms + (at_ms - first_ms) / speed

    def move_text(raw: bytes) -> bytes:
        return INSTANT.sub(lambda found: b'"%b"' % _moved_instant(found[1], move), raw)

    return [_moved_record(record, move, move_text) for record in records]


def _moved_record(record: Input, move: Callable[[float], float], move_text: Callable[[bytes], bytes]) -> Input:
    received_at = round(move(record.received_at * 1000) / 1000, 6)
    if isinstance(record, AriEventReceived):
        return AriEventReceived(received_at, move_text(record.raw))
    if isinstance(record, ConnectionRestored):
        return evolve(
            record, received_at=received_at, channels=move_text(record.channels), bridges=move_text(record.bridges)
        )
    return evolve(record, received_at=received_at)


def _moved_instant(text: bytes, move: Callable[[float], float]) -> bytes:
    before = datetime.strptime(text.decode(), "%Y-%m-%dT%H:%M:%S.%f%z")
    after = _EPOCH + round(move((before - _EPOCH) / _MILLISECOND)) * _MILLISECOND
    local = after.astimezone(timezone(before.utcoffset() or timedelta()))
    return local.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3].encode() + text[-5:]
