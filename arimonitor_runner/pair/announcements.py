"""What the members of a pair tell each other: JSON, one object a message."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from arimonitor_core.ari_events import UNREADABLE
from arimonitor_core.messages import ENDPOINT_STATUS, ONCALL, OPEN, RECEIVED_CALL

Covers = Literal["message", "older", "call"]
"""What a delivered message makes needless: itself, all of its ordering key up to its time, or all of its call."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class Delivered(msgspec.Struct, frozen=True, array_like=True):
    """A message that the clients' broker has confirmed."""

    message_id: str
    ordering_key: str
    timestamp: int
    """The message's own, in Unix seconds."""
    covers: Covers


class Announcement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One announcement. Everything but the sender may be missing."""

    sender: str
    """The member and which run of it: `a/5f0c19e2`."""
    term: _Count = 0
    """Which leadership this was said in; they are numbered from 1. 0: not by a leader."""
    numbers: dict[str, Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]] = {}
    """callnumber by guid, of calls that are going to be told of."""
    highest: _Count = 0
    """No callnumber up to this one may be given to another call."""
    delivered: tuple[Delivered, ...] = ()
    mark: str = ""
    """A member's word to itself: who reads it has read all that was said before."""
    hello: bool = False
    """The sender wants to know all numbers of calls that go on; `highest` is the highest that it knows."""


class AnnouncementError(ValueError):
    """Not an announcement; the text says where it fails."""


_decoder: Final = msgspec.json.Decoder(Announcement)
_encode: Final = msgspec.json.Encoder().encode


def decode_announcement(body: bytes) -> Announcement:
    """Read an announcement; fields that are not known are skipped. Raises AnnouncementError."""
    try:
        return _decoder.decode(body)
    except UNREADABLE as error:
        raise AnnouncementError(str(error)) from error


def encode_announcement(announcement: Announcement) -> bytes:
    """Write an announcement."""
    return _encode(announcement)


def covers_of(kind: str, routing_key: str) -> Covers:
    """Say what a delivered message of this type and routing key makes needless.

    A call's last message is recognised by what it is not: the spelling of a forced close can be set.
    """
    if kind == ENDPOINT_STATUS:
        return "older"
    if kind == RECEIVED_CALL and routing_key not in _GOING_ON:
        return "call"
    return "message"


_GOING_ON: Final[frozenset[Any]] = frozenset({f"{RECEIVED_CALL}.{OPEN}", f"{RECEIVED_CALL}.{ONCALL}"})
