"""What the journal's tests share: records, a folder's records and problems, a disk that fails when told to."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_runner.journal import FileOperations, JournalProblem, JournalWriter, read_journal
from arimonitor_runner.settings import JournalSettings

SETTINGS = JournalSettings(sync="never")


def build_events(count: int, *, first: int = 1) -> list[Input]:
    """Events that tell which they are."""
    return [AriEventReceived(1e9 + n / 7, b'{"type":"Dial","number":%d}' % n) for n in range(first, first + count)]


def comparable(records: Iterable[Input]) -> list[Any]:
    """Records that can be compared: events are equal only to themselves."""
    return [(one.received_at, one.raw) if isinstance(one, AriEventReceived) else one for one in records]


def write_journal(
    folder: Path, *batches: Sequence[Input], first_position: int = 1, settings: JournalSettings = SETTINGS
) -> int:
    """Append batches; gives the position of the last record."""
    writer = JournalWriter.open(folder, settings, first_position)
    for batch in batches:
        writer.append(batch)
    writer.close()
    return writer.position


def read_all(folder: Path, *, after: int = 0) -> tuple[list[int], list[Any], list[JournalProblem]]:
    """Positions, comparable records, and problems."""
    problems: list[JournalProblem] = []
    found = list(read_journal(folder, after=after, on_problem=problems.append))
    return [position for position, _ in found], comparable(record for _, record in found), problems


class FailingFiles(FileOperations):
    """Real files; the operations named in `failing` raise, `write` after half of the data."""

    def __init__(self, *failing: str) -> None:
        self.failing = set(failing)
        self.failed: list[str] = []

    def _fail(self, name: str) -> None:
        if name in self.failing:
            self.failed.append(name)
            raise OSError(errno.ENOSPC, "No space left on device")

    def create(self, path: Path) -> int:
        """Fail, or do it."""
        self._fail("create")
        return super().create(path)

    def write(self, descriptor: int, data: bytes) -> None:
        """Fail half-way, or do it."""
        try:
            self._fail("write")
        except OSError:
            super().write(descriptor, data[: len(data) // 2])
            raise
        super().write(descriptor, data)

    def truncate(self, descriptor: int, size: int) -> None:
        """Fail, or do it."""
        self._fail("truncate")
        super().truncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Fail, or do it."""
        self._fail("sync")
        super().sync(descriptor)

    def remove(self, path: Path) -> None:
        """Fail, or do it."""
        self._fail("remove")
        super().remove(path)

    def rename(self, path: Path, target: Path) -> None:
        """Fail, or do it."""
        self._fail("rename")
        super().rename(path, target)
