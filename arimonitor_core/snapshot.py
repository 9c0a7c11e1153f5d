"""The whole state as one versioned document, and back.

A snapshot is a cache of what replaying all inputs would give: one that cannot be read is set aside, and the journal is
replayed. Directory and policies are configuration and not part of it.
"""

from __future__ import annotations

from typing import Any, Final

import cattrs
import msgspec
from attrs import Factory, frozen
from cattrs.preconf.json import make_converter
from cattrs.v import format_exception

from arimonitor_core.call import Call, Channel
from arimonitor_core.directory import Directory
from arimonitor_core.endpoints import Address, EndpointState
from arimonitor_core.errors import SnapshotError
from arimonitor_core.inputs import FilterMode
from arimonitor_core.monitor import Monitor
from arimonitor_core.policies import Policies
from arimonitor_core.push import Waiting

VERSION: Final = 1


@frozen(kw_only=True)
class StateDocument:
    """Everything that decides what the next inputs will do."""

    version: int
    server: str
    next_callnumber: int
    calls: list[Call]
    """Calls that go on, in order of their beginning, then ended ones whose channels still live."""
    channels: list[Channel]
    calls_of_channels: dict[str, str]
    """Guid by channel id."""
    bridges: dict[str, list[str]] = Factory(dict)
    gone: list[str] = Factory(list)
    endpoints: dict[str, EndpointState] = Factory(dict)
    addresses: dict[str, Address] = Factory(dict)
    waiting: list[Waiting] = Factory(list)
    filter_types: dict[str, FilterMode] = Factory(dict)
    filter_variables: dict[str, FilterMode] = Factory(dict)
    lost_at: float | None = None
    history: list[bytes] = Factory(list)


def _unstructure_channel(channel: Channel) -> dict[str, Any]:
    """A channel's call is written once, among the calls; which one it is stands beside."""
    return {name: getattr(channel, name) for name in Channel.__struct_fields__ if name != "call"}


def _structure(raw: Any, kind: Any) -> Any:
    return msgspec.convert(raw, kind)


def _describe(error: BaseException, kind: type | None) -> str:
    """What is wrong, in the words of who found it: msgspec reads calls and channels, cattrs all else."""
    return str(error) if isinstance(error, msgspec.ValidationError) else format_exception(error, kind)


def _converter() -> cattrs.Converter:
    converter = make_converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Call, msgspec.structs.asdict)
    converter.register_unstructure_hook(Channel, _unstructure_channel)
    converter.register_structure_hook(Call, _structure)
    converter.register_structure_hook(Channel, _structure)
    return converter


_CONVERTER: Final = _converter()


def take_snapshot(monitor: Monitor) -> bytes:
    """The state as a JSON document, UTF-8; equal states give equal bytes."""
    book = monitor.book
    channels = list(book.table.channels.values())
    calls = {call.guid: call for call in book.calls.values()}
    for channel in channels:
        if channel.call is not None:
            calls.setdefault(channel.call.guid, channel.call)
    document = StateDocument(
        version=VERSION,
        server=book.writer.server,
        next_callnumber=book.next_callnumber,
        calls=list(calls.values()),
        channels=channels,
        calls_of_channels={channel.id: channel.call.guid for channel in channels if channel.call is not None},
        bridges={bridge: list(members) for bridge, members in book.table.bridges.items()},
        gone=list(book.table.gone),
        endpoints=monitor.endpoint_book.states,
        addresses=monitor.endpoint_book.addresses,
        waiting=list(monitor.push_desk.waiting),
        filter_types=monitor.filter.types,
        filter_variables=monitor.filter.variables,
        lost_at=monitor.lost_at,
        history=book.history.dump(),
    )
    return msgspec.json.encode(_CONVERTER.unstructure(document))


def restore_snapshot(document: bytes, *, directory: Directory, policies: Policies | None = None) -> Monitor:
    """A monitor in the state that a document holds.

    Raises:
        SnapshotError: the document is damaged, or of a version that this code does not know.
    """
    state = _read(document)
    monitor = Monitor(
        server=state.server, directory=directory, policies=policies, first_callnumber=state.next_callnumber
    )
    book = monitor.book
    by_guid = {call.guid: call for call in state.calls}
    try:
        for channel in state.channels:
            guid = state.calls_of_channels.get(channel.id)
            channel.call = by_guid[guid] if guid is not None else None
            book.table.add(channel)
        book.history.load(state.history)
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotError(f"the snapshot contradicts itself: {error!r}") from error
    book.calls.update({call.key: call for call in state.calls if not call.is_over})
    book.table.bridges.update({bridge: tuple(members) for bridge, members in state.bridges.items()})
    book.table.gone.update(dict.fromkeys(state.gone))
    monitor.endpoint_book.states.update(state.endpoints)
    monitor.endpoint_book.addresses.update(state.addresses)
    monitor.resume(state.waiting, state.filter_types, state.filter_variables, state.lost_at)
    return monitor


def _read(document: bytes) -> StateDocument:
    try:
        raw: Any = msgspec.json.decode(document)
        version = raw["version"]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError) as error:
        raise SnapshotError(f"not a snapshot: {error}") from error
    if version != VERSION:
        raise SnapshotError(f"snapshot of version {version!r}, this program reads version {VERSION}")
    try:
        return _CONVERTER.structure(raw, StateDocument)
    except (cattrs.BaseValidationError, ValueError, TypeError) as error:
        raise SnapshotError("; ".join(cattrs.transform_error(error, format_exception=_describe))) from error
