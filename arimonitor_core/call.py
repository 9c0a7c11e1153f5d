"""One call: raw facts as Asterisk told them. What the web system reads is projected from them in `messages`."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from arimonitor_core.call_states import ANNOUNCED, FINAL_STATES, TRANSITIONS

_find_following = dict(TRANSITIONS).get


class CallKey(NamedTuple):
    """What makes a call unique: its caller channel's creation.

    `creationtime` alone is not enough: in a burst half of the callers share their millisecond with another call.
    """

    creationtime: str
    """As ARI sent it."""
    channel_id: str


class Key(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A digit that somebody pressed."""

    at_ms: int
    digit: str
    by: str
    """Number of the endpoint."""


class Recording(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A recording that a channel announced."""

    path: str
    """Absolute path of the WAV on the PBX."""
    own: bool
    """True: announced by the caller's or a party's own channel; False: by a Local half (a consultation, a forward)."""


class Transfer(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A transfer that was made."""

    kind: Literal["blind", "attended"]
    by: str
    to: str
    """The number dialed for it."""
    at_ms: int


# Calls and channels are structs outside the garbage collector's sight: 50,000 calls made a full collection stop the
# event loop for 0.13 s. Nothing they hold can lead back to them (a call names its channels by id), so none is missed.


class Call(msgspec.Struct, eq=False, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """A call that is being followed. Times are milliseconds since the Unix epoch; 0 means not yet."""

    key: CallKey
    guid: str
    created_ms: int
    channel: str
    """Name of the caller channel at its creation."""
    origin: str
    dialed: str
    """The number first dialed."""
    vhost: str
    anchor: str
    """Id of the channel on the origin's side: the caller's, or that of whom the caller left to speak for him."""
    members: tuple[str, ...]
    """Ids of the living channels that talk or talked in it, in order of joining."""
    state: str = ANNOUNCED
    callnumber: int = 0
    """0 until the first message."""
    opened_ms: int = 0
    answered_ms: int = 0
    destiny: str = ""
    """Number dialed, then that of who talks or talked last."""
    party: str = ""
    """Id of the channel that talks with the anchor, or talked last."""
    extra_channel: str = ""
    """Name of the channel that answered."""
    ring_group: str = ""
    """The group first rung."""
    consulted: str = ""
    """Number of a consultation that is going on or was the last."""
    transfers: tuple[Transfer, ...] = ()
    keys: tuple[Key, ...] = ()
    recordings: tuple[Recording, ...] = ()
    dial_status: str = ""
    """Dial status of the last leg that ended its dialing before anybody answered; ANSWER from then on."""
    cause: int = 0
    cause_text: str = ""
    linked_guid: str = ""
    pushed: tuple[str, ...] = ()
    """Endpoints that a push message was sent for."""
    has_gap: bool = False
    """Part of it passed unseen."""

    @property
    def is_over(self) -> bool:
        """Has it reached a final state?"""
        return self.state in FINAL_STATES

    @property
    def is_published(self) -> bool:
        """Has the web system been told of it, and not yet of its end?"""
        return self.state != ANNOUNCED and self.state not in FINAL_STATES

    def apply(self, event: str) -> bool:
        """Make a transition; False: it is illegal, and nothing changed."""
        following = _find_following((self.state, event))
        if following is None:
            return False
        self.state = following
        return True


class Channel(msgspec.Struct, eq=False, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """A living channel. It is known by its id: the name changes when Asterisk swaps channels."""

    id: str
    name: str
    exten: str = ""
    """The first dialable extension that it was seen at."""
    dialer: str = ""
    """Id of the channel that dialed it."""
    dialed: str = ""
    """Number that was dialed on this leg."""
    answered_ms: int = 0
    """When Dial said ANSWER of it."""
    bridge: str = ""
    """Id of the bridge that it is in."""
    call: Call | None = None
    """The call that it belongs to; it may be over."""
    keys: tuple[Key, ...] = ()
    """Digits pressed before it had a call."""
    recordings: tuple[str, ...] = ()
    """Every path that it announced."""
    is_local: bool = False
    """Half of a Local pair: carries voices, has none."""
    fully_seen: bool = False
    """From its creation on, without a gap."""


class Waiting(NamedTuple):
    """A call that may need a push message, once it has waited."""

    due: float
    """Unix seconds, in the time of `received_at`."""
    at_ms: int
    """The same moment in Asterisk's time, for the message."""
    key: CallKey
