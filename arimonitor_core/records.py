r"""Capture log, format 1: every input of the core as one line of NDJSON, and back.

The same lines are captured by `arimonitor record`, appended to the daemon's journal, and replayed. Each holds
`received_at` (Unix seconds, six decimals) and says what the input was by its other keys, and by nothing else::

    {"received_at":1795345104.128555,"event":{...}}                               AriEventReceived
    {"received_at":1795345104.128555,"connection":"lost"}                         ConnectionLost
    {"received_at":1795345104.128555,"connection":"restored",                     ConnectionRestored
     "channels":[...],"bridges":[...],"endpoints":[...],
     "info":{...},"variables":{...}}                                              these two where they were asked for
    {"received_at":1795345104.128555,"connection":"replaced"}                     ConnectionReplaced
    {"received_at":1795345104.128555,"deadline":true}                             DeadlineReached
    {"received_at":1795345104.128555,"filter":{"types":{},"variables":{}}}        FilterChanged
    {"received_at":1795345104.128555,"directory":{"clients":[],"endpoints":[],    DirectoryChanged
     "ring_groups":[],"ai_entries":[]}}
    {"received_at":1795345104.128555,"numbers":{"<guid>":17}}                     CallsNumbered

What Asterisk said stands in the line byte for byte, never decoded and written anew, so that a replay sees what the
daemon saw. That needs one line of JSON, an object or an array. Whatever else came (ARI set to `pretty`, an HTML error
page, text that is no JSON at all) is kept as well: as a JSON string that holds its base64.

A directory is written without its RabbitMQ servers: they hold passwords, and the core does not use them.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, assert_never

import attrs
import msgspec

from arimonitor_core.directory import Client, Directory, Endpoint, RingGroup
from arimonitor_core.errors import RecordError
from arimonitor_core.inputs import (
    AriEventReceived,
    CallsNumbered,
    ConnectionLost,
    ConnectionReplaced,
    ConnectionRestored,
    DeadlineReached,
    DirectoryChanged,
    FilterChanged,
    FilterMode,
    Input,
)

RECEIVED_AT_MAX = 2.0**33
"""Unix seconds, in the year 2242: from here on a float no longer tells two microseconds apart."""

_T = TypeVar("_T")


class _EventLine(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The line that nearly every line is; its event is found, not decoded."""

    received_at: float
    event: msgspec.Raw


class _FilterPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    types: dict[str, FilterMode] = {}
    variables: dict[str, FilterMode] = {}


class _DirectoryPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    clients: msgspec.Raw = msgspec.Raw(b"[]")
    endpoints: msgspec.Raw = msgspec.Raw(b"[]")
    ring_groups: msgspec.Raw = msgspec.Raw(b"[]")
    ai_entries: tuple[str, ...] = ()


_decode_event_line = msgspec.json.Decoder(_EventLine).decode
_decode_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode

_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""All that msgspec raises for text from outside: wrong JSON or shape, too deep nesting, keys or texts not in UTF-8."""


def decode_record(line: bytes) -> Input:
    """Read one line of a capture log, with or without its line end.

    Raises RecordError where the line is not a record of format 1; its text says what is wrong.
    """
    try:
        record = _decode_event_line(line)
    except _UNREADABLE:
        # Another kind of record, or a damaged line: both are rare, so finding out which may cost a second look.
        return _decode_by_keys(line)
    raw = bytes(record.event)
    return AriEventReceived(_checked_time(record.received_at), raw if raw[:1] == b"{" else _verbatim(raw, "event"))


def encode_record(record: Input) -> bytes:
    r"""Write one input as a line of a capture log, with its ``\n``.

    `received_at` is written with six decimals: an input whose time holds whole microseconds (`round(seconds, 6)`)
    is read back equal. Raises RecordError where `received_at` is no time that a record can hold.
    """
    received_at = _checked_time(record.received_at)
    if isinstance(record, AriEventReceived):
        return b'{"received_at":%.6f,"event":%b}\n' % (received_at, _inline(record.raw))
    head = b'{"received_at":%.6f' % received_at
    match record:
        case ConnectionLost():
            return head + b',"connection":"lost"}\n'
        case ConnectionRestored():
            return head + b',"connection":"restored"%b}\n' % _encode_answers(record)
        case ConnectionReplaced():
            return head + b',"connection":"replaced"}\n'
        case CallsNumbered():
            return b'%b,"numbers":%b}\n' % (head, msgspec.json.encode(record.numbers))
        case DeadlineReached():
            return head + b',"deadline":true}\n'
        case FilterChanged():
            payload = {"types": record.types, "variables": record.variables}
            return b'%b,"filter":%b}\n' % (head, msgspec.json.encode(payload))
        case DirectoryChanged():
            return b'%b,"directory":%b}\n' % (head, encode_directory(record.directory))
        case _:
            assert_never(record)


def encode_directory(directory: Directory) -> bytes:
    """Write a directory without its RabbitMQ servers; equal entries in equal order give equal bytes."""
    return msgspec.json.encode(
        {
            "clients": _as_dicts(directory.clients.values(), Client),
            "endpoints": _as_dicts(directory.endpoints.values(), Endpoint),
            "ring_groups": _as_dicts(directory.ring_groups.values(), RingGroup),
            "ai_entries": sorted(directory.ai_entries),
        }
    )


def decode_directory(raw: msgspec.Raw) -> Directory:
    """Read what `encode_directory` wrote. Raises RecordError, whose text names the key and says what is wrong."""
    payload = _decode(raw, _DirectoryPayload, "directory")
    return Directory.of(
        clients=_decode_entries(payload.clients, Client, "directory.clients"),
        endpoints=_decode_entries(payload.endpoints, Endpoint, "directory.endpoints"),
        ring_groups=_decode_entries(payload.ring_groups, RingGroup, "directory.ring_groups"),
        ai_entries=payload.ai_entries,
    )


def _decode_by_keys(line: bytes) -> Input:
    """Read a line that is not a readable event line."""
    try:
        values = _decode_keys(line)
    except _UNREADABLE as error:
        raise RecordError(f"not a line of JSON with an object in it: {_reason(error)}") from error
    if "received_at" not in values:
        raise RecordError("received_at is missing")
    received_at = _checked_time(_decode(values.pop("received_at"), float, "received_at"))
    keys = " ".join(sorted(values))
    decode = _RECORD_KINDS.get(keys)
    if decode is None:
        # Among them event lines with a further key: what the key means is unknown, so the line is not half understood.
        raise RecordError(f"no kind of record has received_at and these keys: {keys[:200] or 'none'}")
    return decode(received_at, values)


def _decode_end(received_at: float, values: dict[str, msgspec.Raw]) -> Input:
    said = bytes(values["connection"])
    if said == b'"replaced"':
        return ConnectionReplaced(received_at=received_at)
    _expect(values["connection"], b'"lost"', "connection")
    return ConnectionLost(received_at=received_at)


def _decode_restored(received_at: float, values: dict[str, msgspec.Raw]) -> Input:
    _expect(values.pop("connection"), b'"restored"', "connection")
    answers = {name: _verbatim(bytes(raw), name) for name, raw in values.items()}
    return ConnectionRestored(received_at=received_at, **answers)


def _decode_numbers(received_at: float, values: dict[str, msgspec.Raw]) -> Input:
    return CallsNumbered(received_at=received_at, numbers=_decode(values["numbers"], dict[str, int], "numbers"))


def _decode_deadline(received_at: float, values: dict[str, msgspec.Raw]) -> Input:
    _expect(values["deadline"], b"true", "deadline")
    return DeadlineReached(received_at=received_at)


def _decode_filter(received_at: float, values: dict[str, msgspec.Raw]) -> Input:
    payload = _decode(values["filter"], _FilterPayload, "filter")
    return FilterChanged(received_at=received_at, types=payload.types, variables=payload.variables)


def _decode_directory(received_at: float, values: dict[str, msgspec.Raw]) -> Input:
    return DirectoryChanged(received_at=received_at, directory=decode_directory(values["directory"]))


_RECORD_KINDS: dict[str, Callable[[float, dict[str, msgspec.Raw]], Input]] = {
    "connection": _decode_end,
    "bridges channels connection endpoints": _decode_restored,
    "bridges channels connection endpoints info": _decode_restored,
    "bridges channels connection endpoints variables": _decode_restored,
    "bridges channels connection endpoints info variables": _decode_restored,
    "numbers": _decode_numbers,
    "deadline": _decode_deadline,
    "filter": _decode_filter,
    "directory": _decode_directory,
}
"""By the keys that a record, not an event's, has beside `received_at`, sorted; with others it could only be misread."""


def _decode_entries(raw: msgspec.Raw, entry_class: type[_T], where: str) -> Iterable[_T]:
    """Read a list of directory entries; msgspec ignores an attrs class's unknown keys, we refuse them."""
    entries = _decode(raw, list[entry_class], where)  # type: ignore[valid-type]  # a type made at run time
    known = attrs.fields_dict(entry_class).keys()  # type: ignore[arg-type]  # every entry class is an attrs class
    for given in _decode(raw, list[dict[str, Any]], where):
        unknown = sorted(given.keys() - known)
        if unknown:
            raise RecordError(f"{where}: unknown key {unknown[0][:80]}")
    return entries


def _encode_answers(record: ConnectionRestored) -> bytes:
    text = b',"channels":%b,"bridges":%b,"endpoints":%b' % (
        _inline(record.channels),
        _inline(record.bridges),
        _inline(record.endpoints),
    )
    if record.info != b"{}":
        text += b',"info":%b' % _inline(record.info)
    if record.variables != b"{}":
        text += b',"variables":%b' % _inline(record.variables)
    return text


def _as_dicts(entries: Iterable[object], entry_class: type[attrs.AttrsInstance]) -> list[dict[str, object]]:
    """The fields in the order of their declaration; `attrs.asdict` looks into each value: ten times slower."""
    names = tuple(attrs.fields_dict(entry_class))
    return [{name: getattr(entry, name) for name in names} for entry in entries]


def _decode(raw: msgspec.Raw, shape: type[_T], where: str) -> _T:
    try:
        return msgspec.json.decode(raw, type=shape)
    except _UNREADABLE as error:
        raise RecordError(f"{where}: {_reason(error)}") from error


def _checked_time(received_at: float) -> float:
    if 0 <= received_at < RECEIVED_AT_MAX:
        return received_at
    raise RecordError(f"received_at: {received_at!r} is no time between 0 and {RECEIVED_AT_MAX:.0f} Unix seconds")


def _expect(raw: msgspec.Raw, wanted: bytes, where: str) -> None:
    value = bytes(raw)
    if value != wanted:
        raise RecordError(f"{where}: expected {wanted.decode()}, got {value[:80].decode('utf-8', 'backslashreplace')}")


def _inline(raw: bytes) -> bytes:
    """Give the bytes back where they are one line of JSON; else a JSON string with their base64."""
    # Blanks around a value would be lost on reading: it has to begin and end with its own brackets.
    if raw[:1] in b"{[" and raw[-1:] in b"}]" and b"\n" not in raw:
        try:
            _decode_raw(raw)
        except _UNREADABLE:
            pass
        else:
            return raw
    return b'"%b"' % b64encode(raw)


def _verbatim(value: bytes, where: str) -> bytes:
    """Recover what `_inline` was given."""
    first = value[:1]
    if first in b"{[":
        return value
    if first != b'"':
        raise RecordError(f"{where}: neither an object nor an array nor base64 in a string")
    try:
        return b64decode(value[1:-1], validate=True)
    except binascii.Error as error:
        raise RecordError(f"{where}: a string that is not base64: {error}") from error


def _reason(error: Exception) -> str:
    """Say what a decoder complained of, in a bounded number of characters and without the data itself."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    return str(error)[:200]
