"""Capture logs on disk: plain, gzip or Zstandard, told apart by their first bytes, read line by line.

Nothing is read ahead beyond a buffer, so a log of any length can be replayed and standard input is read as it comes.
Damage (a truncated archive, an endless line, a bad disk) is reported with file and line; what was readable before it
has been given out by then. What a log is written as, its name says.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from attrs import define, field

from arimonitor_core.errors import RecordError
from arimonitor_core.inputs import Input
from arimonitor_core.records import decode_record

LINE_BYTES_MAX = 64 * 1024 * 1024
"""A connection-restored record lists every channel, so lines can be long; not this long."""

STANDARD_INPUT = "-"
STANDARD_OUTPUT = "-"

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_CHUNK_BYTES = 8 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

FaultReport = Callable[[str, int, str], None]
"""Called with a file's name, a line number (from 1) and what is wrong there."""


@define(eq=False)
class LogFile:
    """One log, open for reading. Iterate over it once; close it, or use it in a `with` statement."""

    name: str
    """As the operator gave it; `-` is standard input."""
    size: int | None
    """Bytes on disk, compressed or not; None where there is no telling."""
    line_number: int = field(default=0, init=False)
    """Of the line given out last, from 1."""
    _stored: BinaryIO
    _lines: BinaryIO
    _report: FaultReport

    @classmethod
    def open(cls, name: str, report: FaultReport) -> LogFile:
        """Open a log by its name; raises OSError."""
        stored = sys.stdin.buffer if name == STANDARD_INPUT else open(name, "rb")  # noqa: SIM115  # closed by `close`
        status = os.fstat(stored.fileno())
        size = status.st_size if stat.S_ISREG(status.st_mode) else None
        return cls(name, size, stored, _decompressed(stored), report)

    @property
    def position(self) -> int:
        """Bytes of `size` that have been read; 0 where there is no telling."""
        return self._stored.tell() if self.size is not None else 0

    def __iter__(self) -> Iterator[bytes]:
        """Give out the lines, with their line ends; damage is reported and ends the log."""
        try:
            while line := self._lines.readline(LINE_BYTES_MAX):
                self.line_number += 1
                if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
                    self._report(self.name, self.line_number, f"line longer than {LINE_BYTES_MAX} bytes")
                    self._skip_line()
                else:
                    yield line.removeprefix(_BYTE_ORDER_MARK) if self.line_number == 1 else line
        except (OSError, EOFError, zlib.error) as error:
            # gzip.BadGzipFile is an OSError; a disk that fails raises one too.
            self._report(self.name, self.line_number + 1, f"damaged or cut off here: {error}")

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self.name != STANDARD_INPUT:
            self._lines.close()
            self._stored.close()

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _skip_line(self) -> None:
        while (rest := self._lines.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
            pass


def read_records(
    names: Iterable[str], report: FaultReport, on_open: Callable[[LogFile], None] = lambda _: None
) -> Iterator[Input]:
    """Read the records of several logs as one stream, in the order given.

    Blank lines are skipped; damaged ones are reported and skipped. Raises OSError where a file cannot be opened.
    """
    for name in names:
        with LogFile.open(name, report) as log:
            on_open(log)
            for line in log:
                try:
                    record = decode_record(line)
                except RecordError as error:
                    if line.strip():
                        report(name, log.line_number, str(error))
                    continue
                yield record


class LogWriter(Protocol):
    """A log that is being written."""

    def write(self, data: bytes, /) -> int:
        """Append lines."""
        ...

    def flush(self) -> object:
        """Let others read what was written so far."""
        ...

    def close(self) -> None:
        """End the log."""
        ...


@contextmanager
def open_log(output: str, *, append: bool) -> Iterator[LogWriter]:
    """Open a log to be written: NAME.zst and NAME.gz are compressed, - is standard output.

    Appending to a compressed log gives it a further frame, which every reader understands; else what the file held is
    replaced. Raises OSError.
    """
    if output == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with Path(output).open("ab" if append else "wb") as file:
        writer = _compressed(output, file)
        try:
            yield writer
        finally:
            if writer is not file:
                writer.close()


def _compressed(output: str, file: BinaryIO) -> LogWriter:
    if output.endswith(".zst"):
        import zstandard  # noqa: PLC0415  # see `_ZstdStream`

        return zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False)
    if output.endswith(".gz"):
        return gzip.GzipFile(fileobj=file, mode="ab")
    return file


def _decompressed(stored: BinaryIO) -> BinaryIO:
    """Look at the first bytes, not at the name: logs get renamed, and standard input has none."""
    magic = cast("io.BufferedReader", stored).peek(len(_ZSTD_MAGIC))
    if magic.startswith(_GZIP_MAGIC):
        return cast("BinaryIO", gzip.GzipFile(fileobj=stored, mode="rb"))
    if magic.startswith(_ZSTD_MAGIC):
        return io.BufferedReader(_ZstdStream(stored))
    return stored


class _ZstdStream(io.RawIOBase):
    """Decompressed bytes of one or more Zstandard frames; says so when the last one is cut off.

    The library's own stream reader ends silently there, and a log without its end would pass for a whole one.
    """

    def __init__(self, stored: BinaryIO) -> None:
        import zstandard  # noqa: PLC0415  # only few logs need it, and every start would pay for it

        self._stored = stored
        self._zstd = zstandard
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._is_within_frame = False
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # BufferedReader gives a memoryview
        while not self._ready:
            chunk = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = self._zstd.ZstdDecompressor().decompressobj()
                self._is_within_frame = False
            chunk = chunk or self._stored.read(_ZSTD_CHUNK_BYTES)
            if not chunk:
                if self._is_within_frame:
                    raise EOFError("Compressed file ended before the end of a frame")
                return 0
            self._is_within_frame = True
            try:
                self._ready = self._frame.decompress(chunk)
            except self._zstd.ZstdError as error:
                raise OSError(str(error)) from error
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count
