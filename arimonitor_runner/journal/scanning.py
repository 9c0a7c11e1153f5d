"""Chunks and frames of one segment's file, and what lies between them that is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from attrs import frozen

from arimonitor_runner.journal import format as fmt

SEARCH_BYTES: Final = 1024 * 1024
"""Read at once while looking for the next chunk behind damage."""


@frozen
class Chunk:
    """A chunk as it was written: its checksum is right."""

    offset: int
    """Of its header, in bytes from the file's begin."""
    header: fmt.ChunkHeader
    payload: bytes


@frozen
class Damage:
    """Bytes that are no chunk, or a chunk that cannot be decompressed without what was before it."""

    offset: int
    end: int
    """Offset behind the last byte."""
    is_torn: bool = False
    """The file ends before the chunk that begins here does: writing was cut off."""
    last_position: int = 0
    """The last position known to lie in it; 0 where none is."""

    def joined(self, following: Damage) -> Damage:
        """Both as one."""
        last_position = max(self.last_position, following.last_position)
        return Damage(self.offset, following.end, is_torn=False, last_position=last_position)


Frame = list[Chunk]
"""Chunks that follow one another from the begin of a zstd frame; at least one."""


def read_frames(file: BinaryIO, begin: int, size: int) -> Iterator[Frame | Damage]:
    """Everything from an offset to the file's size, in order. Raises OSError."""
    frame: Frame = []
    for part in _read_chunks(file, begin, size):
        if isinstance(part, Chunk):
            header = part.header
            if frame and not header.begins_frame and header.first_position == frame[-1].header.last_position + 1:
                frame.append(part)
                continue
        if frame:
            yield frame
            frame = []
        if isinstance(part, Damage):
            yield part
        elif part.header.begins_frame:
            frame.append(part)
        else:
            yield Damage(part.offset, _end(part), last_position=part.header.last_position)
    if frame:
        yield frame


def _read_chunks(file: BinaryIO, begin: int, size: int) -> Iterator[Chunk | Damage]:
    offset = begin
    while offset < size:
        chunk = _read_chunk(file, offset, size)
        if chunk is not None:
            yield chunk
            offset = _end(chunk)
            continue
        found = _find_chunk(file, offset + 1, size)
        yield Damage(offset, found or size, is_torn=found is None and _is_unfinished(file, offset, size))
        offset = found or size


def _read_chunk(file: BinaryIO, offset: int, size: int) -> Chunk | None:
    file.seek(offset)
    header = fmt.decode_chunk_header(file.read(fmt.CHUNK_HEADER_BYTES))
    # The length may be damaged as well: never ask for more than there is.
    if header is None or offset + fmt.CHUNK_HEADER_BYTES + header.payload_length > size:
        return None
    payload = file.read(header.payload_length)
    return Chunk(offset, header, payload) if header.fits(payload) else None


def _find_chunk(file: BinaryIO, begin: int, size: int) -> int | None:
    """Offset of the next chunk."""
    for offset in range(begin, size, SEARCH_BYTES):
        file.seek(offset)
        block = file.read(SEARCH_BYTES + len(fmt.MARKER) - 1)
        found = block.find(fmt.MARKER)
        while found >= 0:
            if _read_chunk(file, offset + found, size) is not None:
                return offset + found
            found = block.find(fmt.MARKER, found + 1)
    return None


def _is_unfinished(file: BinaryIO, offset: int, size: int) -> bool:
    """Does a chunk begin here that the file is too short for?"""
    file.seek(offset)
    text = file.read(fmt.CHUNK_HEADER_BYTES)
    if len(text) < fmt.CHUNK_HEADER_BYTES:
        return text.startswith(fmt.MARKER[: len(text)])
    header = fmt.decode_chunk_header(text)
    return header is not None and offset + fmt.CHUNK_HEADER_BYTES + header.payload_length > size


def _end(chunk: Chunk) -> int:
    return chunk.offset + fmt.CHUNK_HEADER_BYTES + chunk.header.payload_length
