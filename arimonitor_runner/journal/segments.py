"""Which segments a folder holds, and which of them may go."""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

from attrs import frozen

from arimonitor_runner.journal.files import FILE_OPERATIONS, FileOperations

_NAME: Final = re.compile(r"(\d{20})\.journal")


@frozen
class Segment:
    """A file of the journal."""

    path: Path
    first_position: int
    """Position of its first record, as its name says."""


def segment_path(folder: Path, first_position: int) -> Path:
    """Where the segment with this first record is."""
    return folder / f"{first_position:020}.journal"


def list_segments(folder: Path) -> list[Segment]:
    """All segments in the order of their positions; empty where there is no folder. Raises OSError."""
    if not folder.exists():
        return []
    found = ((path, _NAME.fullmatch(path.name)) for path in folder.iterdir())
    segments = [Segment(path, int(match[1])) for path, match in found if match]
    return sorted(segments, key=lambda segment: segment.first_position)


@frozen
class Removable:
    """A segment that may go, and why."""

    segment: Segment
    last_position: int
    """At most; the next segment begins behind it."""
    size: int
    """Bytes on disk."""
    modified_at: float
    """Unix seconds."""
    reason: str


def list_removable(
    folder: Path, *, keep_after: int | None, keep_s: float, keep_bytes: int, now: float
) -> list[Removable]:
    """The segments that nobody needs any more, oldest first.

    Args:
        folder: the journal's.
        keep_after: records after this position are needed: that of the oldest snapshot kept. None where there is none;
            nothing may go then.
        keep_s: segments that were written to within this time stay, unless all are larger than `keep_bytes`.
        keep_bytes: how large all segments together may be before the oldest go earlier than that.
        now: Unix seconds.

    Raises:
        OSError: the folder or a file's size cannot be read.
    """
    if keep_after is None:
        return []
    segments = list_segments(folder)
    status = {segment: segment.path.stat() for segment in segments}
    total = sum(one.st_size for one in status.values())
    removable = []
    for segment, following in pairwise(segments):
        size, modified_at = status[segment].st_size, status[segment].st_mtime
        if following.first_position - 1 > keep_after:
            break
        if now - modified_at > keep_s:
            reason = "age"
        elif total > keep_bytes:
            reason = "size"
        else:
            break
        removable.append(Removable(segment, following.first_position - 1, size, modified_at, reason))
        total -= size
    return removable


def prune(
    folder: Path,
    *,
    keep_after: int | None,
    keep_s: float,
    keep_bytes: int,
    now: float,
    files: FileOperations = FILE_OPERATIONS,
) -> list[Removable]:
    """Remove the segments that nobody needs any more (see `list_removable`), the oldest first; returns them.

    Only whole segments go, and never the newest. Raises OSError.
    """
    removable = list_removable(folder, keep_after=keep_after, keep_s=keep_s, keep_bytes=keep_bytes, now=now)
    for one in removable:
        with suppress(FileNotFoundError):  # the daemon and an operator may prune at the same time
            files.remove(one.segment.path)
    return removable
