"""The whole state as one versioned document, and back.

A snapshot is a cache of what replaying all inputs would give: one that cannot be read is set aside, and the journal is
replayed. It holds the directory too, because that is an input; policies are configuration and not part of it.

It is taken in the event loop of a daemon that may follow tens of thousands of calls: msgspec writes calls, channels
and history as they stand, and what is at its default is left out.
"""

from __future__ import annotations

from base64 import b85decode
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec

from arimonitor_core.call import Call, Channel, Waiting
from arimonitor_core.calls import CallBook
from arimonitor_core.endpoint import Address, EndpointState
from arimonitor_core.errors import RecordError, SnapshotError
from arimonitor_core.inputs import FilterMode
from arimonitor_core.monitor import Monitor
from arimonitor_core.policies import Policies
from arimonitor_core.records import decode_directory, encode_directory
from arimonitor_core.values import is_local_half

VERSION: Final = 2

_Index = Annotated[int, msgspec.Meta(ge=0)]


class StateDocument(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides what the next inputs will do."""

    version: int
    server: str
    next_callnumber: int
    given_numbers: dict[str, int]
    """By guid, the callnumbers of calls that are not known here yet, oldest first."""
    directory: msgspec.Raw
    """As the record format writes it."""
    startup_time: str
    lost_at: float | None
    calls: list[Call]
    """Calls that go on, in order of their beginning, then ended ones whose channels still live."""
    channels: list[Channel]
    """Without their calls."""
    calls_of_channels: list[_Index | None]
    """For each channel its call's place in `calls`. A guid would not do: a channel that was taken for a caller twice
    has an ended call and a living one of the same name."""
    halves: dict[str, str]
    """The order in which Local halves of one name were seen decides: it is not that of the channels."""
    bridges: dict[str, tuple[str, ...]]
    gone: list[str]
    endpoints: dict[str, EndpointState]
    addresses: dict[str, Address]
    waiting: list[Waiting]
    filter_types: dict[str, FilterMode]
    filter_variables: dict[str, FilterMode]
    history: list[msgspec.Raw]


class _Head(msgspec.Struct):
    version: int


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(StateDocument).decode
_decode_head: Final = msgspec.json.Decoder(_Head).decode

_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def take_snapshot(monitor: Monitor) -> bytes:
    """The state as a JSON document, UTF-8; equal states give equal bytes."""
    book = monitor.book
    channels = book.table.channels.values()
    places = {call: place for place, call in enumerate(book.calls.values())}  # calls are told apart by identity
    for channel in channels:
        if channel.call is not None:
            places.setdefault(channel.call, len(places))
    without_call = msgspec.structs.replace
    return _encode(
        StateDocument(
            version=VERSION,
            server=book.writer.server,
            next_callnumber=book.next_callnumber,
            given_numbers=book.given_numbers,
            directory=msgspec.Raw(encode_directory(book.directory)),
            startup_time=monitor.startup_time,
            lost_at=monitor.lost_at,
            calls=list(places),
            channels=[without_call(channel, call=None) for channel in channels],
            calls_of_channels=[None if channel.call is None else places[channel.call] for channel in channels],
            halves=book.table.halves,
            bridges=book.table.bridges,
            gone=list(book.table.gone),
            endpoints=monitor.endpoint_book.states,
            addresses=monitor.endpoint_book.addresses,
            waiting=list(monitor.push_desk.waiting),
            filter_types=monitor.filter.types,
            filter_variables=monitor.filter.variables,
            history=book.history.dump(),
        )
    )


def restore_snapshot(document: bytes, *, policies: Policies | None = None) -> Monitor:
    """A monitor in the state that a document holds; of a document of version 1, without a directory.

    Raises:
        SnapshotError: the document is damaged, or of a version that this code does not know.
    """
    state = _read(document)
    try:
        directory = decode_directory(state.directory)
        monitor = Monitor(
            server=state.server, directory=directory, policies=policies, first_callnumber=state.next_callnumber
        )
        for channel, place in zip(state.channels, state.calls_of_channels, strict=True):
            channel.call = None if place is None else state.calls[place]
        monitor.book.history.load(state.history)
    except (RecordError, IndexError, ValueError, *_UNREADABLE) as error:
        raise SnapshotError(f"the snapshot contradicts itself: {error}") from error
    _restore_book(monitor.book, state)
    monitor.endpoint_book.states.update(state.endpoints)
    monitor.endpoint_book.addresses.update(state.addresses)
    monitor.resume(state.waiting, state.filter_types, state.filter_variables, state.lost_at, state.startup_time)
    return monitor


def _restore_book(book: CallBook, state: StateDocument) -> None:
    for call in state.calls:
        if not call.is_over:
            book.add(call)
    book.given_numbers.update(state.given_numbers)
    table = book.table
    table.channels.update({channel.id: channel for channel in state.channels})
    table.halves.update(state.halves)
    table.bridges.update(state.bridges)
    table.gone.update(dict.fromkeys(state.gone))


def _read(document: bytes) -> StateDocument:
    try:
        version = _decode_head(document).version
    except _UNREADABLE as error:
        raise SnapshotError(f"not a snapshot: {error}") from error
    try:
        while version != VERSION:
            upcast = _UPCASTS.get(version)
            if upcast is None:
                raise SnapshotError(f"snapshot of version {version}, this program reads versions 1 to {VERSION}")
            document = _encode(upcast(msgspec.json.decode(document)))
            version += 1
        return _decode(document)
    except (AttributeError, LookupError, TypeError, ValueError, *_UNREADABLE) as error:
        # Only an older document is looked into before its shape is known.
        raise SnapshotError(f"damaged snapshot: {error!r}") from error


def upcast_v1_v2(old: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had no directory, named calls by guid, and kept the history as MessagePack in base85."""
    places = {call["guid"]: place for place, call in enumerate(old["calls"])}
    guids = old.pop("calls_of_channels")
    return old | {
        "version": 2,
        "channels": [channel | {"fully_seen": True} for channel in old["channels"]],
        "given_numbers": {},
        "directory": {},
        "startup_time": "",
        "calls_of_channels": [
            places[guids[channel["id"]]] if channel["id"] in guids else None for channel in old["channels"]
        ],
        "halves": {channel["name"]: channel["id"] for channel in old["channels"] if is_local_half(channel["name"])},
        "history": [msgspec.msgpack.decode(b85decode(record)) for record in old["history"]],
    }


_UPCASTS: Final[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {1: upcast_v1_v2}
