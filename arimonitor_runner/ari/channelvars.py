"""Do Asterisk's channel snapshots carry the variables that we need? Where they do, ChannelVarset need not be sent."""

from __future__ import annotations

import msgspec

from arimonitor_core.ari_events import UNREADABLE

NEEDED = "MIXMONITOR_FILENAME"
"""The recording's path; all else that a variable could tell, the lean events tell as well."""

RECOMMENDED = "channelvars = CHANNEL(linkedid),MIXMONITOR_FILENAME,DIALEDPEERNUMBER,DIALEDPEERNAME"
"""The line for `[general]` of ari.conf."""


class _Channel(msgspec.Struct):
    id: str
    """Required: the `peer` of a PeerStatusChange is no channel, and has none."""
    channelvars: dict[str, str | None] | None = None


class _Event(msgspec.Struct):
    channel: _Channel | None = None
    peer: _Channel | None = None


_decode_channels = msgspec.json.Decoder(list[_Channel]).decode
_decode_event = msgspec.json.Decoder(_Event).decode


def look_at_channels(answer: bytes) -> bool | None:
    """Look at the answer of GET /channels; None where it shows no channel."""
    try:
        channels = _decode_channels(answer)
    except UNREADABLE:
        return None
    return _verdict(channels[0]) if channels else None


def look_at_event(raw: bytes) -> bool | None:
    """Look at an event; None where it shows no channel."""
    try:
        event = _decode_event(raw)
    except UNREADABLE:
        return None
    channel = event.channel or event.peer
    return _verdict(channel) if channel is not None else None


def _verdict(channel: _Channel) -> bool:
    return channel.channelvars is not None and NEEDED in channel.channelvars
