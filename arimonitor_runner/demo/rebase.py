"""Move a capture log in time: every instant in it, the recorder's and Asterisk's, by the same number of seconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from attrs import evolve

from arimonitor_core.inputs import AriEventReceived, ConnectionRestored, Input

INSTANT = re.compile(rb'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4})"')
"""An instant as Asterisk writes it, the only texts of this form in an event: timestamp and creationtime."""


def moved(records: Sequence[Input], *, by_s: float) -> list[Input]:
    """The same log as if it had been recorded `by_s` seconds later (earlier, where negative), to the millisecond.

    What lies between two instants stays as it was; channel ids, which hold a time in their text, stay too.
    """
    shift = timedelta(milliseconds=round(by_s * 1000))

    def move_text(raw: bytes) -> bytes:
        return INSTANT.sub(lambda found: b'"%b"' % _moved_instant(found[1], shift), raw)

    return [_moved_record(record, shift.total_seconds(), move_text) for record in records]


def _moved_record(record: Input, by_s: float, move_text: Callable[[bytes], bytes]) -> Input:
    received_at = record.received_at + by_s
    if isinstance(record, AriEventReceived):
        return AriEventReceived(received_at, move_text(record.raw))
    if isinstance(record, ConnectionRestored):
        return evolve(
            record, received_at=received_at, channels=move_text(record.channels), bridges=move_text(record.bridges)
        )
    return evolve(record, received_at=received_at)


def _moved_instant(text: bytes, shift: timedelta) -> bytes:
    instant = datetime.strptime(text.decode(), "%Y-%m-%dT%H:%M:%S.%f%z") + shift
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3].encode() + text[-5:]
