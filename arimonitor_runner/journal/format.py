"""The journal's bytes: what a segment, a chunk and a record look like. No files here.

A segment is a file: a header, then chunks. A chunk holds the records of one append and a part of a zstd frame. A frame
runs over many chunks, flushed at each one's end, so that an event costs a few bytes and yet every chunk can be read as
soon as it is written. A new frame begins at least every `FRAME_BYTES_MAX` of raw input; damage costs what comes after
it in the same frame, never more.

::

    segment   magic (8), format version (u32), first position (u64), creation time (f64, Unix seconds),
              CRC-32 of all that (u32); then chunks
    chunk     marker (4), flags (u32; bit 0: a frame begins), payload length (u32), raw length (u32),
              number of records (u32), position of the first (u64), CRC-32 of all that and the payload (u32); payload
    raw       columns: kind of each record (u8), received_at of each (f64), length of each (u32); then their bytes

All numbers are little-endian. A record's bytes are the ARI event verbatim (kind 0), or, of every other input, its line
of capture log format 1 (kind 1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final
from zlib import crc32

import attrs
from attrs import frozen

from arimonitor_core.errors import RecordError
from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_core.records import decode_record, encode_record

FORMAT_VERSION: Final = 1
FRAME_BYTES_MAX: Final = 1024 * 1024
"""Raw bytes in one zstd frame, unless a single record is larger."""
ZSTD_LEVEL: Final = 3

_MAGIC: Final = b"ARIMJNL\n"
MARKER: Final = b"\xc5JC\x1e"
"""Begins each chunk; by it reading finds its way back after damage."""

_SEGMENT: Final = struct.Struct("<8sIQd")
_CHUNK: Final = struct.Struct("<4sIIIIQ")
_CRC: Final = struct.Struct("<I")
SEGMENT_HEADER_BYTES: Final = _SEGMENT.size + _CRC.size
CHUNK_HEADER_BYTES: Final = _CHUNK.size + _CRC.size

_BEGINS_FRAME: Final = 1
_EVENT: Final = 0
_LINE: Final = 1
_COLUMN_BYTES: Final = 1 + 8 + 4
"""Of one record, in all columns."""


@frozen
class SegmentHeader:
    """The first bytes of a segment."""

    version: int
    first_position: int
    created_at: float
    """Unix seconds."""


@frozen
class ChunkHeader:
    """What stands before a chunk's payload."""

    begins_frame: bool
    payload_length: int
    raw_length: int
    """Bytes that the payload decompresses to."""
    count: int
    """Records; at least one."""
    first_position: int
    crc: int
    _text: bytes

    @property
    def last_position(self) -> int:
        """Position of the last record."""
        return self.first_position + self.count - 1

    def fits(self, payload: bytes) -> bool:
        """Is this payload, and is this header, what was written?"""
        return crc32(payload, crc32(self._text)) == self.crc


def encode_segment_header(first_position: int, created_at: float) -> bytes:
    """Write a segment's first bytes."""
    text = _SEGMENT.pack(_MAGIC, FORMAT_VERSION, first_position, created_at)
    return text + _CRC.pack(crc32(text))


def decode_segment_header(data: bytes) -> SegmentHeader | None:
    """Read a segment's first bytes; None where they are cut off or damaged."""
    if len(data) < SEGMENT_HEADER_BYTES or not data.startswith(_MAGIC):
        return None
    text = data[: _SEGMENT.size]
    if _CRC.unpack_from(data, _SEGMENT.size)[0] != crc32(text):
        return None
    _, version, first_position, created_at = _SEGMENT.unpack(text)
    return SegmentHeader(version, first_position, created_at)


def encode_chunk(payload: bytes, *, begins_frame: bool, raw_length: int, count: int, first_position: int) -> bytes:
    """Write a chunk with its header."""
    flags = _BEGINS_FRAME if begins_frame else 0
    text = _CHUNK.pack(MARKER, flags, len(payload), raw_length, count, first_position)
    return b"%b%b%b" % (text, _CRC.pack(crc32(payload, crc32(text))), payload)


def decode_chunk_header(data: bytes) -> ChunkHeader | None:
    """Read a chunk's first bytes; None where they are none. Whether they are true is known with the payload."""
    if len(data) < CHUNK_HEADER_BYTES or not data.startswith(MARKER):
        return None
    text = data[: _CHUNK.size]
    _, flags, payload_length, raw_length, count, first_position = _CHUNK.unpack(text)
    if not count:
        return None
    (crc,) = _CRC.unpack_from(data, _CHUNK.size)
    return ChunkHeader(bool(flags & _BEGINS_FRAME), payload_length, raw_length, count, first_position, crc, text)


def encode_records(records: Sequence[Input]) -> Iterator[tuple[int, bytes]]:
    """Give the number of records and the raw bytes of each chunk: one, or several where they are many bytes.

    Raises RecordError where an input that is no event has a `received_at` that no record can hold.
    """
    raws = [item.raw if type(item) is AriEventReceived else encode_record(item) for item in records]
    kinds = bytes([_EVENT if type(item) is AriEventReceived else _LINE for item in records])
    times = [item.received_at for item in records]
    return _columns(kinds, times, raws)


def _columns(kinds: bytes, times: list[float], raws: list[bytes]) -> Iterator[tuple[int, bytes]]:
    lengths = list(map(len, raws))
    count = len(raws)
    if count > 1 and sum(lengths) > FRAME_BYTES_MAX:
        half = count // 2
        yield from _columns(kinds[:half], times[:half], raws[:half])
        yield from _columns(kinds[half:], times[half:], raws[half:])
        return
    yield count, b"".join([kinds, struct.pack(f"<{count}d", *times), struct.pack(f"<{count}I", *lengths), *raws])


def decode_records(raw: bytes, count: int) -> tuple[list[Input], dict[int, RecordError]]:
    """Read the raw bytes of a chunk.

    Returns the records, and by index why one cannot be read; an event of no bytes stands in its place then.

    Raises:
        ValueError: the columns contradict the length.
    """
    begin = count * _COLUMN_BYTES
    if begin > len(raw):
        raise ValueError(f"{count} records in {len(raw)} bytes")
    times: tuple[float, ...] = struct.unpack_from(f"<{count}d", raw, count)
    lengths: tuple[int, ...] = struct.unpack_from(f"<{count}I", raw, count * 9)
    ends = list(accumulate(lengths, initial=begin))
    if ends[-1] != len(raw):
        raise ValueError(f"{count} records end at byte {ends[-1]} of {len(raw)}")
    parts = [raw[start:end] for start, end in pairwise(ends)]
    records: list[Input] = list(map(AriEventReceived, times, parts))
    errors: dict[int, RecordError] = {}
    if not raw.startswith(bytes(count)):
        for index, kind in enumerate(raw[:count]):
            if kind != _EVENT:
                try:
                    records[index] = _decode_line(kind, times[index], parts[index])
                except RecordError as error:
                    errors[index] = error
    return records, errors


def _decode_line(kind: int, received_at: float, part: bytes) -> Input:
    if kind != _LINE:
        raise RecordError(f"kind {kind} of record is not known to this program")
    record: Any = decode_record(part)
    # A line holds six decimals; what was appended may have been finer.
    exact: Input = record if record.received_at == received_at else attrs.evolve(record, received_at=received_at)
    return exact
