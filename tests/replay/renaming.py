"""Captures moved in time and given other ids, so that several can have happened on one Asterisk at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import msgspec

from arimonitor_core.inputs import AriEventReceived, ConnectionLost, Input
from tests.replay.captures import list_captures, load_capture, load_read

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4}")
_UNIQUE_NAME = re.compile(r"(\w+/.+-)[0-9a-f]([0-9a-f]{7}(?:;[12])?)")
_ENDPOINT_EVENT = re.compile(rb'"type":"(?:Peer|Contact|Endpoint)Sta[a-zA-Z]*"')


@cache
def list_whole_captures() -> list[str]:
    """Captures whose connection never broke."""
    return [
        capture
        for capture in list_captures()
        if not any(isinstance(item, ConnectionLost) for item in load_capture(capture))
    ]


@cache
def load_calls(capture: str) -> tuple[AriEventReceived, ...]:
    """The events of a capture's calls: no endpoint states, which are everybody's."""
    return tuple(
        item
        for item in load_read(capture)
        if isinstance(item, AriEventReceived) and not _ENDPOINT_EVENT.search(item.raw)
    )


def move(
    capture: str, *, tag: str, start: float, events: Sequence[AriEventReceived] | None = None
) -> list[AriEventReceived]:
    """The calls of a capture, beginning at `start` (Unix seconds), with ids and names that hold `tag` (a hex digit).

    Of its events those that are read, unless others are given.
    """
    events = load_calls(capture) if events is None else events
    shift = timedelta(milliseconds=round((start - events[0].received_at) * 1000)) if events else timedelta()
    decoded = [msgspec.json.decode(event.raw) for event in events]
    ids = {one for event in decoded for one in _ids(event)}
    return [
        AriEventReceived(
            event.received_at + shift.total_seconds(), msgspec.json.encode(_renamed(body, ids, tag, shift))
        )
        for event, body in zip(events, decoded, strict=True)
    ]


def _ids(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if isinstance(value.get("id"), str):
            yield value["id"]
        for part in value.values():
            yield from _ids(part)


def _renamed(value: Any, ids: set[str], tag: str, shift: timedelta) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(part, ids, tag, shift) for key, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part, ids, tag, shift) for part in value]
    if not isinstance(value, str):
        return value
    if value in ids:
        return f"{tag}-{value}"
    if _TIME.fullmatch(value):
        return (datetime.fromisoformat(value) + shift).isoformat(timespec="milliseconds")
    return _UNIQUE_NAME.sub(rf"\g<1>{tag}\g<2>", value) if "/" in value else value


def merge_by_time(*streams: Iterable[Input]) -> list[Input]:
    """All inputs in order of their arrival, those of each stream in theirs."""
    return sorted((item for stream in streams for item in stream), key=lambda item: item.received_at)
