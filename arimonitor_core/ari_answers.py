"""What Asterisk answered when it was asked what lives: the picture of a ConnectionRestored as typed objects.

A bad item never takes the good ones down, and nothing here raises on any input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from attrs import frozen

from arimonitor_core.ari_events import (
    UNREADABLE,
    BornChannel,
    BornDialplan,
    BridgeSnapshot,
    CallerId,
    ChannelVars,
    EndpointSnapshot,
    MalformedEvent,
    malformed,
)
from arimonitor_core.inputs import ConnectionRestored
from arimonitor_core.values import parse_time_ms

_T = TypeVar("_T")


class ListedDialplan(BornDialplan, gc=False, frozen=True):
    """Where a listed channel is, with what its application was told."""

    app_data: str = ""
    """``PJSIP/1121&PJSIP/1122,15,tT`` of Dial."""


class ListedVars(ChannelVars, gc=False, frozen=True, rename={"linkedid": "CHANNEL(linkedid)"}):
    """Variables of a listed channel, from its snapshot or read one by one."""

    linkedid: str | None = None
    """Id of the channel that Asterisk groups it under; empty or missing: not known."""


class ListedChannel(BornChannel, gc=False):
    """A channel of GET /channels: nobody saw its dialing, so what it runs and whom it is connected to matter too."""

    connected: CallerId = CallerId()
    dialplan: ListedDialplan = ListedDialplan()
    channelvars: ListedVars | None = None


class _Status(msgspec.Struct, gc=False, frozen=True):
    startup_time: str = ""


class _Info(msgspec.Struct, gc=False, frozen=True):
    status: _Status = _Status()


_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_table: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_channel: Final = msgspec.json.Decoder(ListedChannel).decode
_decode_bridge: Final = msgspec.json.Decoder(BridgeSnapshot).decode
_decode_endpoint: Final = msgspec.json.Decoder(EndpointSnapshot).decode
_decode_vars: Final = msgspec.json.Decoder(ListedVars).decode
_decode_info: Final = msgspec.json.Decoder(_Info).decode


@frozen(kw_only=True)
class Answers:
    """The readable part of a picture."""

    channels: list[ListedChannel]
    bridges: list[BridgeSnapshot]
    endpoints: list[EndpointSnapshot]
    startup_time: str
    """As Asterisk wrote it, and readable as a time; empty: nobody asked, or it is not."""
    is_complete: bool
    """Could all channels and bridges be read? Else nothing may be concluded from an absence."""
    faults: list[MalformedEvent]


def read_answers(item: ConnectionRestored) -> Answers:
    """Decode what Asterisk answered."""
    faults: list[MalformedEvent] = []
    channels = _read_items(item.channels, _decode_channel, faults)
    bridges = _read_items(item.bridges, _decode_bridge, faults)
    is_complete = not faults
    endpoints = _read_items(item.endpoints, _decode_endpoint, faults)
    _add_variables(channels, item.variables, faults)
    return Answers(
        channels=channels,
        bridges=bridges,
        endpoints=endpoints,
        startup_time=_read_startup_time(item.info, faults),
        is_complete=is_complete,
        faults=faults,
    )


def _read(
    raw: bytes | msgspec.Raw, decode: Callable[[bytes | msgspec.Raw], _T], faults: list[MalformedEvent]
) -> _T | None:
    try:
        return decode(raw)
    except UNREADABLE as error:
        faults.append(malformed(error))
        return None


def _read_items(raw: bytes, decode: Callable[[bytes | msgspec.Raw], _T], faults: list[MalformedEvent]) -> list[_T]:
    parts = _read(raw, _decode_list, faults) or []
    items = (_read(part, decode, faults) for part in parts)
    return [item for item in items if item is not None]


def _add_variables(channels: list[ListedChannel], raw: bytes, faults: list[MalformedEvent]) -> None:
    """Variables that were read one by one stand in for those that the snapshots do not bring."""
    table = _read(raw, _decode_table, faults) or {}
    for channel in channels:
        part = table.get(channel.id)
        read = _read(part, _decode_vars, faults) if part is not None else None
        if read is not None:
            shown = channel.channelvars or ListedVars()
            channel.channelvars = ListedVars(
                recording=shown.recording or read.recording, linkedid=shown.linkedid or read.linkedid
            )


def _read_startup_time(raw: bytes, faults: list[MalformedEvent]) -> str:
    info = _read(raw, _decode_info, faults)
    text = info.status.startup_time if info is not None else ""
    if text and parse_time_ms(text) is None:
        faults.append(MalformedEvent("malformed-startup-time", text[:40]))
        return ""
    return text
