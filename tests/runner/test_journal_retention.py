"""Which segments go, and which stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arimonitor_runner.journal import FileOperations, list_removable, list_segments, prune
from arimonitor_runner.journal.segments import segment_path
from tests.runner.journals import build_events, read_all, write_journal

NOW = 1_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five segments of ten records, last written to 500, 400, 300, 200 and 100 s ago, and a file of somebody else."""
    for index in range(5):
        write_journal(tmp_path, build_events(10), first_position=10 * index + 1)
        os.utime(segment_path(tmp_path, 10 * index + 1), (NOW, NOW - 500 + 100 * index))
    (tmp_path / f"{1:020}.journal.bad").write_bytes(b"")
    return tmp_path


def total_size(folder: Path) -> int:
    return sum(segment.path.stat().st_size for segment in list_segments(folder))


@pytest.mark.parametrize(
    ("keep_after", "keep_s", "left"),
    [
        (50, 0, [41]),
        (50, 250, [31, 41]),
        (50, 350, [21, 31, 41]),
        (50, 1000, [1, 11, 21, 31, 41]),
        (40, 0, [41]),
        (39, 0, [31, 41]),
        (9, 0, [1, 11, 21, 31, 41]),
        (0, 0, [1, 11, 21, 31, 41]),
        (None, 0, [1, 11, 21, 31, 41]),
    ],
)
def test_old_segments_go_where_no_snapshot_needs_them(
    folder: Path, keep_after: int | None, keep_s: float, left: list[int]
) -> None:
    """Whole ones, oldest first, never the newest; without any snapshot all are needed."""
    expected = list_removable(folder, keep_after=keep_after, keep_s=keep_s, keep_bytes=10**9, now=NOW)
    removed = prune(folder, keep_after=keep_after, keep_s=keep_s, keep_bytes=10**9, now=NOW)
    assert removed == expected
    assert [segment.first_position for segment in list_segments(folder)] == left
    assert [one.segment.first_position for one in removed] == sorted({1, 11, 21, 31, 41} - set(left))
    assert {one.reason for one in removed} <= {"age"}
    positions, _, problems = read_all(folder)
    assert (positions, problems) == (list(range(left[0], 51)), [])


@pytest.mark.parametrize(("kept", "left"), [(5, 5), (4, 4), (2.5, 2), (0, 1)])
def test_young_segments_go_where_all_are_too_large(folder: Path, kept: float, left: int) -> None:
    """Until the rest fits."""
    keep_bytes = int(total_size(folder) / 5 * kept) + 1
    removed = prune(folder, keep_after=50, keep_s=1e6, keep_bytes=keep_bytes, now=NOW)
    assert len(list_segments(folder)) == left
    assert {one.reason for one in removed} <= {"size"}
    assert all(one.size > 0 for one in removed)


def test_a_young_segment_keeps_all_that_follow_it(folder: Path) -> None:
    """There is never a hole in the middle."""
    os.utime(segment_path(folder, 11), (NOW, NOW))
    removed = prune(folder, keep_after=50, keep_s=50, keep_bytes=10**9, now=NOW)
    assert [(one.segment.first_position, one.last_position, one.modified_at) for one in removed] == [(1, 10, NOW - 500)]


def test_what_another_process_removed_meanwhile_is_no_error(folder: Path) -> None:
    """The daemon and an operator may prune at the same time."""

    class Racing(FileOperations):
        def remove(self, path: Path) -> None:
            path.unlink()
            super().remove(path)

    removed = prune(folder, keep_after=50, keep_s=0, keep_bytes=10**9, now=NOW, files=Racing())
    assert len(removed) == 4
    assert len(list_segments(folder)) == 1
