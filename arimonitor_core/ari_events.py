"""Raw ARI JSON becomes typed events here, and nowhere else.

One pass of msgspec over the bytes: the `type` field chooses the class, and each class names only the fields that the
core uses, so that nine events in ten cost no more than being skipped. A type that is not listed is `UnhandledEvent`;
text that is no ARI event is `MalformedEvent` with a stable reason. Nothing here raises on any input.

Shapes: Asterisk's `rest-api/api-docs/events.json`, corrected by real traffic of both versions (docs/ari-events.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Union

import msgspec


class CallerId(msgspec.Struct, gc=False, frozen=True):
    """Caller or connected line."""

    number: str = ""


class Dialplan(msgspec.Struct, gc=False, frozen=True):
    """Where the channel is in the dialplan at this moment."""

    exten: str = ""
    app_name: str = ""


class BornDialplan(Dialplan, gc=False, frozen=True):
    """Where a new channel is."""

    context: str = ""


class ChannelVars(msgspec.Struct, gc=False, frozen=True, rename={"recording": "MIXMONITOR_FILENAME"}):
    """Variables in the snapshot, where ari.conf has `channelvars`."""

    recording: str | None = None
    """Absolute path of the WAV; empty or missing: none."""


NO_CALLER: Final = CallerId()
NO_DIALPLAN: Final = Dialplan()


class ChannelSnapshot(msgspec.Struct, gc=False):
    """A channel as it was when the event was published."""

    id: str
    name: str
    creationtime: str = ""
    state: str = ""
    caller: CallerId = NO_CALLER
    dialplan: Dialplan = NO_DIALPLAN
    channelvars: ChannelVars | None = None


class BornChannel(ChannelSnapshot, gc=False):
    """A channel of ChannelCreated: its context may say that it is no call."""

    dialplan: BornDialplan = BornDialplan()


class BridgeSnapshot(msgspec.Struct, gc=False):
    """A bridge; `channels` are the ids of those in it."""

    id: str
    creationtime: str = ""
    channels: tuple[str, ...] = ()
    bridge_type: str = ""

    @property
    def is_waiting_room(self) -> bool:
        """A holding bridge: all parked calls share one, and nobody in it talks with anybody."""
        return self.bridge_type == "holding"


class EndpointSnapshot(msgspec.Struct, gc=False, frozen=True):
    """An endpoint of GET /endpoints and of endpoint events."""

    resource: str
    technology: str = ""
    state: str = ""
    """online, offline, unknown."""


class PeerState(msgspec.Struct, gc=False, frozen=True):
    """The `peer` of PeerStatusChange: not a channel."""

    peer_status: str
    cause: str = ""
    address: str = ""


class ContactInfo(msgspec.Struct, gc=False, frozen=True):
    """One registered contact."""

    uri: str = ""
    contact_status: str = ""
    aor: str = ""


class Event(msgspec.Struct, gc=False, tag_field="type", tag=str):
    """Base of the typed events; the tag is the ARI type, which is the class's name."""


class _Timed(Event, gc=False):
    timestamp: str = ""
    """Local time of the PBX with its offset, milliseconds."""


class ChannelCreated(_Timed, gc=False, kw_only=True):
    """A channel was born: a caller's (exten is the number dialed) or an outgoing leg (exten is `s`)."""

    channel: BornChannel


class ChannelDestroyed(_Timed, gc=False, kw_only=True):
    """A channel is gone. It may still appear in events of the same millisecond."""

    channel: ChannelSnapshot
    cause: int = 0
    cause_txt: str = ""


class ChannelStateChange(_Timed, gc=False, kw_only=True):
    """Ring, Ringing, Up ..."""

    channel: ChannelSnapshot


class ChannelHangupRequest(_Timed, gc=False, kw_only=True):
    """Somebody hung up, or Asterisk asks the channel to end: a story tells it, ChannelDestroyed acts."""

    channel: ChannelSnapshot


class ChannelDtmfReceived(_Timed, gc=False, kw_only=True):
    """A key was pressed on this channel's phone."""

    channel: ChannelSnapshot
    digit: str


class ChannelHold(_Timed, gc=False, kw_only=True):
    """The phone put the other side on hold."""

    channel: ChannelSnapshot


class ChannelUnhold(_Timed, gc=False, kw_only=True):
    """The phone took it back."""

    channel: ChannelSnapshot


class ChannelVarset(Event, gc=False, kw_only=True):
    """A variable was set; the rest is decoded only for the variables that the core wants."""

    variable: str


class RecordingVarset(msgspec.Struct, gc=False, kw_only=True):
    """A ChannelVarset of MIXMONITOR_FILENAME, in full. `channel` is missing for global variables."""

    value: str = ""
    timestamp: str = ""
    channel: ChannelSnapshot | None = None


class Dial(_Timed, gc=False, kw_only=True):
    """A leg is dialed or its dialing changed. No `caller`: dialed on behalf of no channel (originate, consultation)."""

    peer: ChannelSnapshot
    caller: ChannelSnapshot | None = None
    dialstatus: str = ""
    dialstring: str = ""
    forwarded: ChannelSnapshot | None = None
    """The leg that takes this one's place after a SIP 302."""


class ChannelEnteredBridge(_Timed, gc=False, kw_only=True):
    """A channel joined a bridge."""

    channel: ChannelSnapshot
    bridge: BridgeSnapshot


class ChannelLeftBridge(_Timed, gc=False, kw_only=True):
    """A channel left a bridge."""

    channel: ChannelSnapshot
    bridge: BridgeSnapshot


class BridgeBlindTransfer(_Timed, gc=False, kw_only=True):
    """Somebody sent the other side to an extension. `transferee` is missing when several channels were sent."""

    channel: ChannelSnapshot
    transferee: ChannelSnapshot | None = None
    replace_channel: ChannelSnapshot | None = None
    bridge: BridgeSnapshot | None = None
    exten: str = ""
    result: str = ""


class BridgeAttendedTransfer(_Timed, gc=False, kw_only=True):
    """Somebody joined the two sides that he talked with."""

    transferer_first_leg: ChannelSnapshot
    transferer_second_leg: ChannelSnapshot
    transferee: ChannelSnapshot | None = None
    transfer_target: ChannelSnapshot | None = None
    transferer_first_leg_bridge: BridgeSnapshot | None = None
    transferer_second_leg_bridge: BridgeSnapshot | None = None
    result: str = ""


class PeerStatusChange(_Timed, gc=False, kw_only=True):
    """An endpoint became reachable or unreachable."""

    endpoint: EndpointSnapshot
    peer: PeerState


class EndpointStateChange(_Timed, gc=False, kw_only=True):
    """The same for technologies that say it so; PJSIP does not."""

    endpoint: EndpointSnapshot


class ContactStatusChange(_Timed, gc=False, kw_only=True):
    """A contact was registered, answered or failed to answer OPTIONS, or was removed: it tells the address."""

    endpoint: EndpointSnapshot
    contact_info: ContactInfo


class ApplicationReplaced(_Timed, gc=False):
    """Another monitor took this application's name; nothing comes after it."""


class UnhandledEvent(msgspec.Struct, gc=False):
    """An event of a type that the core has no use for. `type` and `variable` are what the event filter asks."""

    type: str
    variable: str = ""


class MalformedEvent(msgspec.Struct, gc=False, frozen=True):
    """Bytes that are no event: counted by reason, reported, and nothing else."""

    reason: str
    """malformed-json, malformed-utf8, malformed-depth, malformed-shape."""
    detail: str


class _Skipped(Event, gc=False):
    """Base of the types that every call sends and the core does not read: listed only so that skipping is cheap."""


def _skipped(name: str) -> type[msgspec.Struct]:
    return msgspec.defstruct(name, [], bases=(_Skipped,), gc=False, tag=name)


SKIPPED_TYPES: Final = (
    "ApplicationRegistered", "ApplicationMoveFailed", "BridgeCreated", "BridgeDestroyed", "BridgeMerged",
    "BridgeVideoSourceChanged", "ChannelCallerId", "ChannelConnectedLine", "ChannelDialplan", "ChannelTalkingFinished",
    "ChannelTalkingStarted", "ChannelToneDetected", "ChannelTransfer", "ChannelUserevent", "DeviceStateChanged",
    "PlaybackContinuing", "PlaybackFinished", "PlaybackStarted", "RecordingFailed", "RecordingFinished",
    "RecordingStarted", "StasisEnd", "StasisStart", "TextMessageReceived",
)  # fmt: skip

_SKIPPED: Final = {name: _skipped(name) for name in SKIPPED_TYPES}

_READ: Final[tuple[type[Event], ...]] = (
    ChannelCreated, ChannelDestroyed, ChannelStateChange, ChannelHangupRequest, ChannelDtmfReceived, ChannelHold,
    ChannelUnhold, ChannelVarset, Dial, ChannelEnteredBridge, ChannelLeftBridge, BridgeBlindTransfer,
    BridgeAttendedTransfer, PeerStatusChange, EndpointStateChange, ContactStatusChange, ApplicationReplaced,
)  # fmt: skip

decode_known: Final[Callable[[bytes], Event]] = msgspec.json.Decoder(Union[(*_READ, *_SKIPPED.values())]).decode
"""One websocket message as a typed event, raising what msgspec raises: the monitor's hot path."""

RECORDING_VARIABLE: Final = "MIXMONITOR_FILENAME"

# Three in four events are ignored, and both versions of Asterisk put what says so first: such an event is known by its
# first bytes and not read any further. One that is written differently is decoded, with the same outcome.
VARSET_MARK: Final = b"v"
"""The third byte of a ChannelVarset; no other type begins with a key of that letter."""
VARSET_HEAD: Final = b'{"variable":"'
"""Only a ChannelVarset begins so."""
RECORDING_HEAD: Final = VARSET_HEAD + RECORDING_VARIABLE.encode() + b'"'
IGNORED_KEY_BYTES: Final = 20
"""Enough to tell those that a call sends from each other; the whole head is compared then."""
IGNORED_HEADS: Final[dict[bytes, tuple[bytes, type]]] = {
    head[:IGNORED_KEY_BYTES]: (head, kind)
    for head, kind in ((b'{"type":"%b",' % name.encode(), kind) for name, kind in _SKIPPED.items())
}

_decode_unknown: Final = msgspec.json.Decoder(UnhandledEvent).decode
_decode_recording: Final = msgspec.json.Decoder(RecordingVarset).decode

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises for text from outside: wrong JSON or shape, keys or texts not in UTF-8, too deep nesting."""


def decode_event(raw: bytes) -> Event | UnhandledEvent | MalformedEvent:
    """One websocket message as a typed event; never raises."""
    try:
        return decode_known(raw)
    except msgspec.ValidationError as error:
        if "at `$.type`" not in str(error):
            return MalformedEvent("malformed-shape", str(error))
    except UNREADABLE as error:
        return malformed(error)
    try:
        return _decode_unknown(raw)
    except UNREADABLE as error:
        return malformed(error)


def decode_recording(raw: bytes) -> RecordingVarset | MalformedEvent:
    """A ChannelVarset of MIXMONITOR_FILENAME, in full; never raises."""
    try:
        return _decode_recording(raw)
    except UNREADABLE as error:
        return malformed(error)


def malformed(error: Exception) -> MalformedEvent:
    """Say why text could not be decoded."""
    match error:
        case msgspec.ValidationError():
            reason = "malformed-shape"
        case UnicodeDecodeError():
            reason = "malformed-utf8"
        case RecursionError():
            reason = "malformed-depth"
        case _:
            reason = "malformed-json"
    return MalformedEvent(reason, str(error))
