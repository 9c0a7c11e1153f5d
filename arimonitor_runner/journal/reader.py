"""Records out of segments. Whatever the files hold, nothing is raised: it is reported, and reading goes on after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import accumulate, pairwise
from pathlib import Path
from typing import BinaryIO, Final, Literal

import zstandard
from attrs import frozen

from arimonitor_core.errors import RecordError
from arimonitor_core.inputs import ConnectionReplaced, Input
from arimonitor_runner.journal import format as fmt
from arimonitor_runner.journal.scanning import Chunk, Damage, Frame, read_frames
from arimonitor_runner.journal.segments import Segment, list_segments

BUFFER_BYTES: Final = 1024 * 1024
TAIL_BYTES: Final = 1024 * 1024
"""Where the end is looked for first; a frame's chunks are together smaller, as a rule."""


ProblemKind = Literal["torn", "damaged", "missing", "unreadable"]


@frozen(kw_only=True)
class JournalProblem:
    """Something in the journal that cannot be read."""

    path: Path
    offset: int
    """Where in the file, in bytes from its begin."""
    length: int = 0
    """Bytes that cannot be read."""
    kind: ProblemKind
    """torn: writing was cut off by a crash. missing: positions that no segment holds. unreadable: the file system's."""
    text: str
    lost: tuple[int, int] | None = None
    """First and last position that cannot be read; None where none is known to be lost."""

    @property
    def reason(self) -> str:
        """What is wrong, and what is lost by it."""
        lost = f"; positions {self.lost[0]} to {self.lost[1]} are lost" if self.lost else ""
        return f"{self.text}{lost}"

    def __str__(self) -> str:
        return f"{self.path}: byte {self.offset}: {self.reason}"


ProblemReport = Callable[[JournalProblem], None]

Batch = tuple[int, list[Input]]
"""The position of the first record, and records that follow one another."""


@frozen(kw_only=True)
class JournalEnd:
    """Where a journal ends."""

    position: int
    """Of the last record, readable or not; 0 where there is none."""
    received_at: float
    """Of the last readable record, Unix seconds; 0.0 where there is none."""
    is_replaced: bool
    """The last record says that a successor went on from there."""


def read_journal(folder: Path, *, after: int = 0, on_problem: ProblemReport) -> Iterator[tuple[int, Input]]:
    """Read the records after a position, in order, each with its position.

    Reads as it is asked for more; what is appended meanwhile may or may not be among it. A problem is reported before
    the records behind it are given out; one that concerns only positions up to `after` is not.
    """
    for first, records in read_batches(folder, after=after, on_problem=on_problem):
        yield from enumerate(records, first)


def read_batches(folder: Path, *, after: int = 0, on_problem: ProblemReport) -> Iterator[Batch]:
    """Read as `read_journal` does, as many records at once as were appended at once."""
    try:
        segments = list_segments(folder)
    except OSError as error:
        on_problem(JournalProblem(path=folder, offset=0, kind="unreadable", text=str(error)))
        return
    expected = 0
    for index, segment in enumerate(segments):
        until = segments[index + 1].first_position - 1 if index + 1 < len(segments) else None
        if until is not None and until <= after:
            continue
        reading = _SegmentReading(segment, until, after, on_problem)
        if expected and segment.first_position > expected:
            reading.report(0, "missing", "no segment holds these positions", (expected, segment.first_position - 1))
        yield from reading.batches()
        expected = reading.expected


def find_end(folder: Path) -> JournalEnd:
    """Look at the end of the journal only; damage is passed over. Raises OSError."""
    position = 0
    for segment in reversed(list_segments(folder)):
        seen, records = _read_last(segment)
        position = max(position, seen)
        if records:
            at, record = records[-1]
            is_replaced = at == position and isinstance(record, ConnectionReplaced)
            return JournalEnd(position=position, received_at=record.received_at, is_replaced=is_replaced)
    return JournalEnd(position=position, received_at=0.0, is_replaced=False)


def _read_last(segment: Segment) -> tuple[int, list[tuple[int, Input]]]:
    """The last position that a segment knows of, and the records of its last frame that has any."""
    with segment.path.open("rb", buffering=BUFFER_BYTES) as file:
        size = os.fstat(file.fileno()).st_size
        seen, records = _read_from(file, max(0, size - TAIL_BYTES), size)
        if not records and size > TAIL_BYTES:
            seen, records = _read_from(file, 0, size)
    return max(seen, segment.first_position - 1), records


def _read_from(file: BinaryIO, begin: int, size: int) -> tuple[int, list[tuple[int, Input]]]:
    seen = 0
    frames: list[Frame] = []
    for part in read_frames(file, begin, size):
        if isinstance(part, Damage):
            seen = max(seen, part.last_position)
        else:
            seen = max(seen, part[-1].header.last_position)
            frames.append(part)
    records: list[tuple[int, Input]] = []
    while frames and not records:
        with suppress(zstandard.ZstdError, ValueError):
            for chunk, raw in unpack(frames.pop()):
                for first, batch in _decode(chunk, raw, lambda *_: None):
                    records.extend(enumerate(batch, first))
    return seen, records


class _SegmentReading:
    """One segment's records."""

    def __init__(self, segment: Segment, until: int | None, after: int, on_problem: ProblemReport) -> None:
        self.expected = segment.first_position
        """The position that comes next."""
        self._path = segment.path
        self._until = until
        self._after = after
        self._on_problem = on_problem

    def batches(self) -> Iterator[Batch]:
        """Give out records; report what is none."""
        try:
            with self._path.open("rb", buffering=BUFFER_BYTES) as file:
                yield from self._read(file, os.fstat(file.fileno()).st_size)
        except OSError as error:
            last = self._until or 0
            self.report(0, "unreadable", str(error), (self.expected, last))
            self.expected = max(self.expected, last + 1)

    def report(self, offset: int, kind: ProblemKind, text: str, lost: tuple[int, int], *, length: int = 0) -> None:
        """Report a problem, with the positions lost by it; where the last is less than the first, none is."""
        first, last = lost
        is_known = first <= last
        if last > self._after or not is_known:
            problem = JournalProblem(
                path=self._path, offset=offset, length=length, kind=kind, text=text, lost=lost if is_known else None
            )
            self._on_problem(problem)

    def _read(self, file: BinaryIO, size: int) -> Iterator[Batch]:
        damage: Damage | None = None
        begin = self._check_header(file, size)
        for part in read_frames(file, begin, size):
            if isinstance(part, Damage):
                damage = damage.joined(part) if damage else part
                continue
            first = part[0].header.first_position
            if damage or first > self.expected:
                self._report_gap(damage or Damage(part[0].offset, part[0].offset), first - 1)
                damage = None
            yield from self._read_frame(part)
        if damage:
            self._report_gap(damage, damage.last_position if self._until is None else self._until)

    def _check_header(self, file: BinaryIO, size: int) -> int:
        """Offset from which there is something to read."""
        text = file.read(fmt.SEGMENT_HEADER_BYTES)
        header = fmt.decode_segment_header(text)
        if size < fmt.SEGMENT_HEADER_BYTES:
            self._report_gap(Damage(0, size, is_torn=True), self._until or 0)
            return size
        if header is None:
            # Whatever chunks there are can be read without it; the rest is found to be no chunk.
            return 0
        if header.version != fmt.FORMAT_VERSION:
            what = f"written in format {header.version}, this program reads format {fmt.FORMAT_VERSION}"
            self.report(0, "unreadable", what, (self.expected, self._until or 0))
            self.expected = max(self.expected, (self._until or 0) + 1)
            return size
        return fmt.SEGMENT_HEADER_BYTES

    def _report_gap(self, damage: Damage, last: int) -> None:
        kind: ProblemKind
        length = damage.end - damage.offset
        if damage.is_torn:
            kind, text = "torn", f"writing was cut off: the last {length} bytes are unfinished"
        elif length:
            kind, text = "damaged", f"{length} bytes cannot be read"
        else:
            kind, text = "missing", "these positions are not there"
        self.report(damage.offset, kind, text, (self.expected, last), length=length)
        self.expected = max(self.expected, last + 1)

    def _read_frame(self, frame: Frame) -> Iterator[Batch]:
        last = frame[-1].header.last_position
        if last > self._after:
            try:
                for chunk, raw in unpack(frame):
                    for batch in _decode(chunk, raw, self._report_record):
                        yield from self._clip(*batch)
                    self.expected = max(self.expected, chunk.header.last_position + 1)
            except (zstandard.ZstdError, ValueError) as error:
                self.report(frame[0].offset, "damaged", f"a frame cannot be decoded: {error}", (self.expected, last))
        self.expected = max(self.expected, last + 1)

    def _report_record(self, chunk: Chunk, position: int, error: RecordError) -> None:
        self.report(chunk.offset, "unreadable", f"a record cannot be read: {error}", (position, position))

    def _clip(self, first: int, records: list[Input]) -> Iterator[Batch]:
        """Leave out what is not asked for, was given out before, or is in the next segment as well."""
        begin = max(first, self._after + 1, self.expected)
        end = first + len(records) if self._until is None else min(first + len(records), self._until + 1)
        if begin < end:
            yield begin, records if end - begin == len(records) else records[begin - first : end - first]


def unpack(frame: Frame) -> Iterator[tuple[Chunk, bytes]]:
    """Decompress a frame; gives each chunk's raw bytes. Raises ZstdError, and ValueError where lengths contradict."""
    raw = zstandard.ZstdDecompressor().decompressobj().decompress(b"".join(chunk.payload for chunk in frame))
    ends = list(accumulate((chunk.header.raw_length for chunk in frame), initial=0))
    if ends[-1] != len(raw):
        raise ValueError(f"{len(raw)} bytes instead of {ends[-1]}")
    for chunk, (begin, end) in zip(frame, pairwise(ends), strict=True):
        yield chunk, raw[begin:end]


def _decode(chunk: Chunk, raw: bytes, on_bad: Callable[[Chunk, int, RecordError], None]) -> Iterator[Batch]:
    """A chunk's records; more than one batch where one between them cannot be read."""
    first = chunk.header.first_position
    records, errors = fmt.decode_records(raw, chunk.header.count)
    begin = 0
    for index, error in errors.items():
        on_bad(chunk, first + index, error)
        if begin < index:
            yield first + begin, records[begin:index]
        begin = index + 1
    if begin < len(records):
        yield first + begin, records[begin:] if begin else records
