"""Snapshots of the state on disk, each for the position of the last record that it has seen.

A file is one zstd frame with a checksum; in it a line of JSON (format, position, when and by which version it was
written), then the document. It gets its name when it is whole and on disk, so whatever has the name is a snapshot.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog
import zstandard
from attrs import frozen

from arimonitor_core.errors import SnapshotError
from arimonitor_runner.journal.files import FILE_OPERATIONS, FileOperations, set_aside

FORMAT_VERSION: Final = 1

_NAME: Final = re.compile(r"(\d{20})\.snapshot")
_TEMPORARY: Final = "snapshot.writing"
"""Ends the name of a file that is being written."""

_T = TypeVar("_T")

_log = structlog.get_logger()


class _Header(msgspec.Struct, frozen=True):
    """The first line."""

    format: int
    position: int
    taken_at: float
    """Unix seconds."""
    program: str
    """Version of the program that wrote it; for people."""


@frozen
class SnapshotFile:
    """A snapshot by its name."""

    path: Path
    position: int


def list_snapshots(folder: Path) -> list[SnapshotFile]:
    """All snapshots, oldest first; empty where there is no folder. Raises OSError."""
    if not folder.exists():
        return []
    found = ((path, _NAME.fullmatch(path.name)) for path in folder.iterdir())
    return sorted((SnapshotFile(path, int(match[1])) for path, match in found if match), key=lambda one: one.position)


def read_snapshot(snapshot: SnapshotFile) -> bytes:
    """Give a snapshot's document. Raises OSError, and SnapshotError where the file is none."""
    try:
        data = zstandard.ZstdDecompressor().decompress(snapshot.path.read_bytes(), allow_extra_data=False)
        line, _, document = data.partition(b"\n")
        header = msgspec.json.decode(line, type=_Header)
    except (zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotError(f"not a snapshot: {error}") from error
    if header.format != FORMAT_VERSION:
        raise SnapshotError(f"written in format {header.format}, this program reads format {FORMAT_VERSION}")
    if header.position != snapshot.position:
        raise SnapshotError(f"taken at position {header.position}, not at the one it is named after")
    return document


class SnapshotStore:
    """The snapshots of one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        kept: int,
        files: FileOperations = FILE_OPERATIONS,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Name the folder, make it, and remove what a crash left half written. Raises OSError.

        Args:
            folder: of the snapshots.
            kept: how many are kept, the newest.
            files: what is done with files.
            now: Unix seconds.
        """
        self._folder = folder
        self._kept = kept
        self._files = files
        self._now = now
        files.make_folder(folder)
        for path in folder.glob(f"*.{_TEMPORARY}"):
            files.remove(path)

    def write(self, position: int, document: bytes) -> Path:
        """Keep a snapshot of the state after a record; it is on disk when this returns. Raises OSError."""
        path = self._path(position)
        aside = self._folder / f"{position:020}.{_TEMPORARY}"
        with suppress(FileNotFoundError):
            self._files.remove(aside)
        header = _Header(FORMAT_VERSION, position, self._now(), version("arimonitor"))
        data = msgspec.json.encode(header) + b"\n" + document
        try:
            self._write_file(aside, zstandard.ZstdCompressor(write_checksum=True).compress(data))
            self._files.rename(aside, path)
        except OSError:
            with suppress(OSError):
                self._files.remove(aside)
            raise
        self._files.sync_folder(self._folder)
        for old in list_snapshots(self._folder)[: -self._kept]:
            self._files.remove(old.path)
        return path

    def load_newest(self, restore: Callable[[bytes], _T]) -> tuple[int, _T] | None:
        """Give the newest snapshot that can be read and restored, with its position; None where there is none.

        One that cannot is renamed to `.bad` and said, and the next older is tried.

        Args:
            restore: makes the state from a document; whatever it raises is the reason why it cannot.

        Raises:
            OSError: the folder cannot be read.
        """
        for snapshot in reversed(list_snapshots(self._folder)):
            try:
                return snapshot.position, restore(read_snapshot(snapshot))
            except OSError as error:
                _log.error("a snapshot cannot be read", file=str(snapshot.path), reason=str(error))
            except Exception as error:  # a document that makes our own code fail must not keep the daemon from starting
                self._set_aside(snapshot, error)
        return None

    def oldest_position(self) -> int | None:
        """Position of the oldest snapshot; records after it are needed. None where there is none. Raises OSError."""
        return next((snapshot.position for snapshot in list_snapshots(self._folder)), None)

    def taken_at(self, position: int) -> float:
        """When the snapshot of a position was written: Unix seconds, by the file system. Raises OSError."""
        return self._path(position).stat().st_mtime

    def _path(self, position: int) -> Path:
        return self._folder / f"{position:020}.snapshot"

    def _write_file(self, path: Path, data: bytes) -> None:
        descriptor = self._files.create(path)
        try:
            self._files.write(descriptor, data)
            self._files.sync(descriptor)
        finally:
            self._files.close(descriptor)

    def _set_aside(self, snapshot: SnapshotFile, error: Exception) -> None:
        target: Path | None = None
        with suppress(OSError):
            target = set_aside(snapshot.path, self._files)
        _log.warning(
            "a snapshot cannot be used and is set aside",
            file=str(snapshot.path),
            renamed=str(target) if target else "no: the disk refuses it",
            reason=f"{type(error).__name__}: {error}",
        )
