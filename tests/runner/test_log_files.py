"""Logs on disk: what they are packed with, where they are damaged, how far they have been read."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from arimonitor_core.inputs import ConnectionLost
from arimonitor_runner import log_files
from arimonitor_runner.log_files import LogFile, read_records

LINES = [b'{"received_at":%d,"connection":"lost"}\n' % second for second in range(1, 4000)]
DATA = b"".join(LINES)


def plain(data: bytes) -> bytes:
    return data


def in_two_gzip_members(data: bytes) -> bytes:
    half = len(data) // 2
    return gzip.compress(data[:half]) + gzip.compress(data[half:])


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def in_two_zstd_frames(data: bytes) -> bytes:
    half = len(data) // 2
    return zstd(data[:half]) + zstd(data[half:])


class Faults(list[tuple[str, int, str]]):
    """Remembers what was reported, with the file's bare name."""

    def report(self, name: str, line: int, text: str) -> None:
        """Take a report."""
        self.append((Path(name).name, line, text))


@pytest.mark.parametrize("pack", [plain, gzip.compress, in_two_gzip_members, zstd, in_two_zstd_frames])
def test_a_log_is_unpacked_by_its_first_bytes_whatever_its_name(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """All lines, numbered, with their line ends, and the position reaches the size."""
    path = tmp_path / "log.txt"
    path.write_bytes(pack(DATA))
    faults = Faults()
    with LogFile.open(str(path), faults.report) as log:
        assert log.size == path.stat().st_size
        assert list(log) == LINES
        assert log.line_number == len(LINES)
        assert log.position == log.size
    assert faults == []


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_truncated_archive_gives_what_it_holds_and_says_where_it_ends(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    """Cut in the middle: whole lines come out, then the fault with the line after them."""
    path = tmp_path / "log.ndjson.gz"
    packed = pack(DATA)
    path.write_bytes(packed[: len(packed) * 2 // 3])
    faults = Faults()
    with LogFile.open(str(path), faults.report) as log:
        lines = list(log)
    assert lines == LINES[: len(lines)]
    assert [(name, line) for name, line, _ in faults] == [("log.ndjson.gz", len(lines) + 1)]
    assert "damaged or cut off here: Compressed file ended" in faults[0][2]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_damaged_archive_is_reported(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """Bytes overwritten in the middle: the fault stands behind whatever came out before it was seen."""
    packed = pack(DATA)
    middle = len(packed) // 2
    path = tmp_path / "log"
    path.write_bytes(packed[:middle] + b"\xff" * 40 + packed[middle + 40 :])
    faults = Faults()
    with LogFile.open(str(path), faults.report) as log:
        lines = list(log)
    assert [(name, line) for name, line, _ in faults] == [("log", len(lines) + 1)]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_something_else_behind_an_archive_is_reported(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """All lines are whole, and the log may have gone on."""
    path = tmp_path / "log"
    path.write_bytes(pack(DATA) + b"something else")
    faults = Faults()
    with LogFile.open(str(path), faults.report) as log:
        assert list(log) == LINES
    assert [(name, line) for name, line, _ in faults] == [("log", len(LINES) + 1)]


def test_an_empty_log_is_an_empty_log(tmp_path: Path) -> None:
    """Nothing in it, nothing wrong with it."""
    path = tmp_path / "empty"
    path.write_bytes(b"")
    faults = Faults()
    assert list(read_records([str(path)], faults.report)) == []
    assert faults == []


def test_several_logs_are_one_stream_of_records_in_the_order_given(tmp_path: Path) -> None:
    """Blank lines and a byte order mark do not matter; each log is announced when it is opened."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"\xef\xbb\xbf" + LINES[1] + b"\n \r\n" + LINES[2].rstrip())
    two.write_bytes(gzip.compress(LINES[0]))
    faults, opened = Faults(), []
    records = list(read_records([str(one), str(two)], faults.report, lambda log: opened.append(log.name)))
    assert records == [ConnectionLost(received_at=second) for second in (2.0, 3.0, 1.0)]
    assert opened == [str(one), str(two)]
    assert faults == []


def test_a_damaged_line_is_reported_and_skipped(tmp_path: Path) -> None:
    """With its number; the last line of a log that was cut off is one of those."""
    path = tmp_path / "log"
    path.write_bytes(LINES[0] + b"\x00\xff\n" + LINES[1] + b'{"received_at":5}\n' + LINES[2][:-9])
    faults = Faults()
    assert [record.received_at for record in read_records([str(path)], faults.report)] == [1.0, 2.0]
    assert [(name, line) for name, line, _ in faults] == [("log", 2), ("log", 4), ("log", 5)]


def test_an_endless_line_is_skipped_without_holding_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines around it count; one of exactly the bound is read."""
    monkeypatch.setattr(log_files, "LINE_BYTES_MAX", len(LINES[0]))
    path = tmp_path / "log"
    path.write_bytes(LINES[0] + b"x" * 1000 + b"\n" + LINES[1] + b"y" * 1000)
    faults = Faults()
    assert [record.received_at for record in read_records([str(path)], faults.report)] == [1.0, 2.0]
    text = f"line longer than {len(LINES[0])} bytes"
    assert faults == [("log", 2, text), ("log", 4, text)]


def test_lines_come_out_while_the_log_is_still_being_written() -> None:
    """A pipe: the first line is there before the writer is done; there is no size and no position."""
    reading, writing = os.pipe()
    os.write(writing, LINES[0])
    faults = Faults()
    with LogFile.open(f"/dev/fd/{reading}", faults.report) as log:
        lines = iter(log)
        assert next(lines) == LINES[0]
        os.write(writing, LINES[1])
        os.close(writing)
        assert list(lines) == [LINES[1]]
        assert (log.size, log.position) == (None, 0)
    os.close(reading)


@pytest.mark.parametrize("pack", [plain, gzip.compress, zstd])
def test_standard_input_is_a_log_too(pack: Callable[[bytes], bytes]) -> None:
    """Packed or not."""
    program = (
        "from arimonitor_runner.log_files import LogFile\n"
        "with LogFile.open('-', print) as log: print(len(list(log)), log.line_number)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], input=pack(DATA), capture_output=True, check=True)
    assert run.stdout.split() == [b"3999", b"3999"]


def test_a_disk_that_fails_is_reported_like_a_damaged_archive() -> None:
    """What came before it is used."""

    class FailingDisk(io.RawIOBase):
        def __init__(self) -> None:
            self.left = [LINES[0]]

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:
            if not self.left:
                raise OSError(5, "Input/output error")
            line = self.left.pop()
            buffer[: len(line)] = line
            return len(line)

    faults = Faults()
    stream = io.BufferedReader(FailingDisk())
    log = LogFile("disk", None, stream, stream, faults.report)
    assert list(log) == [LINES[0]]
    assert faults == [("disk", 2, "damaged or cut off here: [Errno 5] Input/output error")]
