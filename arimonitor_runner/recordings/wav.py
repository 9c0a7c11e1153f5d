"""A recording as Asterisk leaves it: is it still being written, what is in it, and its header mended.

Whether somebody is writing a file only the kernel knows for certain. It is asked for a read lease, which it grants only
where nobody has the file open for writing, in this or any other mount namespace, and which is given back at once. That
needs the file to be our own or CAP_LEASE; and a file system of the network does not know the writers on other machines.
Where the kernel cannot vouch, a file counts as finished when two looks found the same size and time; the caller makes
the looks after the call has ended, and some seconds apart.

Asterisk writes the sizes in the header when it closes the file. Where it crashed before that they are 0 or all ones, or
say less than there is; LAME would take them literally and end, with success, after nothing.
"""

from __future__ import annotations

import fcntl
import functools
import os
import signal
import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal

from attrs import frozen

from arimonitor_runner.recordings import RecordingError

Status = Literal["missing", "open", "growing", "empty", "damaged", "finished"]

HEADER_BYTES = 44
"""Of a WAV as Asterisk writes it, before its first sample."""

_RIFF_SIZE_AT = 4
_UNSET_SIZES = frozenset({0, 0xFFFFFFFF})
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "glusterfs"})
_PCM_ENCODINGS = frozenset({1, 3, 0xFFFE})
"""Integers, floats, either of them: what LAME reads. Asterisk's WAV49 (GSM) is not among them."""
_HEADER_BYTES_MAX = 2**20
"""More than this before the samples is no header that Asterisk, or anybody, writes."""


@frozen(kw_only=True)
class WavLook:
    """What one look at a recording found."""

    status: Status
    """
    missing: no such file. open: somebody writes to it. growing: nobody can say whether somebody does, and there has
    been no earlier look with the same size. empty: no sample in it, and none will come. damaged: its header does not
    fit what is in it (`mend`), or it is no WAV that LAME reads. finished: whole.
    """
    size_bytes: int = 0
    seconds: float = 0.0
    """Of the samples that are there, whatever the header says; 0 where that cannot be known."""
    modified_ns: int = 0
    reason: str = ""
    """What is wrong with it, for an operator; empty where nothing is."""
    can_be_mended: bool = False


@frozen(kw_only=True)
class _Header:
    """Where the samples are."""

    size_at: int
    """Offset of the 32 bits that give the size of the samples."""
    said_bytes: int
    """That size."""
    bytes_per_s: int
    block_bytes: int
    """Of one sample of all channels."""

    @property
    def data_at(self) -> int:
        return self.size_at + 4


def examine(path: Path, *, seen: WavLook | None = None) -> WavLook:
    """Look at a recording; `seen` is what the look before found.

    Reads the header only, which takes well under a millisecond on a disk of this machine.

    Raises:
        RecordingError: the file is there and cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _examine(file, seen)
    except (FileNotFoundError, NotADirectoryError):
        return WavLook(status="missing", reason="there is no such file")
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error


def mend(path: Path) -> None:
    """Make the header say what is there; a file that is whole stays as it is.

    Writes only the sizes, in place, so that whoever opens the file at this very moment loses nothing, and an
    interruption leaves a file that is mended by the next attempt. Samples are never touched.

    Raises:
        RecordingError: somebody has it open, or it cannot be mended (final), or it cannot be written.
    """
    look = examine(path, seen=examine(path))
    if look.status == "finished":
        return
    if look.status in {"missing", "open", "growing"}:
        raise RecordingError(f"{path} is not mended: {look.reason}")
    if not look.can_be_mended:
        raise RecordingError(f"{path} cannot be mended: {look.reason}", is_final=True)
    try:
        with path.open("rb+") as file:
            header = _read_header(file)
            size = os.fstat(file.fileno()).st_size
            # The last sample may be there in part.
            data_bytes = (size - header.data_at) // header.block_bytes * header.block_bytes
            os.pwrite(file.fileno(), struct.pack("<I", data_bytes), header.size_at)
            os.pwrite(file.fileno(), struct.pack("<I", header.data_at - 8 + data_bytes), _RIFF_SIZE_AT)
            os.fsync(file.fileno())
    except OSError as error:
        raise RecordingError(f"{path} cannot be mended: {error.strerror}") from error


def find_holder(path: Path) -> int | None:
    """The id of a process that has the file open for writing, as far as /proc lets us see; None: unknown.

    Looks at every descriptor of every process: tens of milliseconds, for a thread and for what an operator reads.
    Without root's rights only our own user's processes are seen.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        # A process that ends meanwhile, or another user's.
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if _is_writing(process, descriptor, found):
                    return int(process.name)
    return None


def _examine(file: BinaryIO, seen: WavLook | None) -> WavLook:
    """Look at an open file."""
    is_held = _is_held(file.fileno(), os.fstat(file.fileno()).st_dev)
    # After the question, so that what was written before its answer is seen.
    found = os.fstat(file.fileno())
    size, modified_ns = found.st_size, found.st_mtime_ns
    if is_held:
        reason = "somebody is still writing to it"
        return WavLook(status="open", size_bytes=size, modified_ns=modified_ns, reason=reason)
    if is_held is None and (seen is None or (seen.size_bytes, seen.modified_ns) != (size, modified_ns)):
        reason = "it may still be written to: its size has not been the same twice"
        return WavLook(status="growing", size_bytes=size, modified_ns=modified_ns, reason=reason)
    return _judge(file, size, modified_ns)


def _judge(file: BinaryIO, size: int, modified_ns: int) -> WavLook:
    """Say what is in a file that nobody writes to."""

    def look(status: Status, reason: str = "", *, seconds: float = 0.0, can_be_mended: bool = False) -> WavLook:
        return WavLook(
            status=status,
            size_bytes=size,
            seconds=seconds,
            modified_ns=modified_ns,
            reason=reason,
            can_be_mended=can_be_mended,
        )

    if size <= HEADER_BYTES:
        return look("empty", f"nothing was recorded: {size} bytes")
    try:
        header = _read_header(file)
    except ValueError as error:
        return look("damaged", str(error))
    there = size - header.data_at
    if there < header.block_bytes:
        return look("empty", "nothing was recorded: no sample follows the header")
    seconds = there / header.bytes_per_s
    if header.said_bytes in _UNSET_SIZES or header.said_bytes > there:
        reason = f"its header says {header.said_bytes} bytes of samples, there are {there}"
        return look("damaged", reason, seconds=seconds, can_be_mended=True)
    # A torn last sample is not worth a word.
    if there - header.said_bytes >= header.block_bytes and not _is_chunk_list(
        file, header.data_at + header.said_bytes, size
    ):
        reason = f"its header says {header.said_bytes} bytes of samples, and more follow: {there} in all"
        return look("damaged", reason, seconds=seconds, can_be_mended=True)
    return look("finished", seconds=header.said_bytes / header.bytes_per_s)


def _read_header(file: BinaryIO) -> _Header:
    """Find format and samples among the chunks.

    Raises:
        ValueError: it is no WAV; the text says why.
    """
    file.seek(0)
    riff = file.read(12)
    if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        raise ValueError("it is no WAV file")
    bytes_per_s = block_bytes = 0
    while file.tell() < _HEADER_BYTES_MAX:
        chunk = file.read(8)
        if len(chunk) < 8:
            break
        kind, length = chunk[:4], int.from_bytes(chunk[4:], "little")
        if kind == b"data":
            if not bytes_per_s or not block_bytes:
                raise ValueError("its WAV header gives no format")
            return _Header(size_at=file.tell() - 4, said_bytes=length, bytes_per_s=bytes_per_s, block_bytes=block_bytes)
        if kind == b"fmt ":
            content = file.read(16)
            if len(content) == 16:
                encoding, _channels, _rate, bytes_per_s, block_bytes, _bits = struct.unpack("<HHIIHH", content)
                if encoding not in _PCM_ENCODINGS:
                    raise ValueError(f"its samples are not plain ones: WAV encoding {encoding}")
            file.seek(length + length % 2 - len(content), os.SEEK_CUR)
        else:
            file.seek(length + length % 2, os.SEEK_CUR)
    raise ValueError("its WAV header has no samples")


def _is_chunk_list(file: BinaryIO, offset: int, size: int) -> bool:
    """Is what follows the samples nothing, or whole chunks of something else?"""
    offset += offset % 2
    while offset < size:
        file.seek(offset)
        chunk = file.read(8)
        if len(chunk) < 8 or not chunk[:4].isalnum():
            return False
        length = int.from_bytes(chunk[4:], "little")
        offset += 8 + length + length % 2
    # A pad byte after the last chunk may be left out.
    return offset <= size + 1


def _is_held(descriptor: int, device: int) -> bool | None:
    """Has anybody the file open for writing? None: the kernel cannot or may not say."""
    if _file_system_of(device) in _NETWORK_FILE_SYSTEMS:
        return None
    try:
        # Whoever opens the file while we hold the lease waits until it is given back, some microseconds, and we are
        # sent a signal: not SIGIO, which would end the process, but one that is ignored where nobody asked for it.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


@functools.lru_cache(maxsize=64)
def _file_system_of(device: int) -> str:
    """The type of the file system with this device number; empty where it is not listed."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == number:
            return source.split()[0]
    return ""


def _is_writing(process: Path, descriptor: Path, found: os.stat_result) -> bool:
    try:
        if not os.path.samestat(descriptor.stat(), found):
            return False
    except OSError:
        return False
    flags = (process / "fdinfo" / descriptor.name).read_text().partition("flags:")[2].split()[0]
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
