"""A journal on a disk that fills up or fails, and under a daemon that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_runner.journal import JournalWriter, find_end, list_segments
from arimonitor_runner.settings import JournalSettings
from tests.runner.journals import SETTINGS, FailingFiles, build_events, comparable, read_all, write_journal

EACH = evolve(SETTINGS, sync="each")
INTERVAL = evolve(SETTINGS, sync="interval")


class CountingFiles(FailingFiles):
    """Remembers what was synced."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[str] = []

    def sync(self, descriptor: int) -> None:
        """Note it."""
        super().sync(descriptor)
        self.synced.append("file")

    def sync_folder(self, folder: Path) -> None:
        """Note it."""
        super().sync_folder(folder)
        self.synced.append("folder")


def noise(count: int) -> list[Input]:
    """Events that do not get smaller."""
    return [AriEventReceived(float(n), os.urandom(1000)) for n in range(count)]


@pytest.mark.parametrize("failing", [{"write"}, {"sync"}, {"create"}, {"write", "truncate"}, {"write", "remove"}])
@pytest.mark.parametrize("before", [0, 3])
def test_an_append_that_fails_has_appended_nothing(tmp_path: Path, failing: set[str], before: int) -> None:
    """Neither in a new segment nor in one that holds records; once the disk lets it, the same records are appended."""
    files = FailingFiles()
    writer = JournalWriter.open(tmp_path, evolve(EACH, segment_age_max_s=60), 1, files=files, now=lambda: clock[0])
    clock = [0.0]
    records = build_events(before + 4)
    if before:
        writer.append(records[:before])
    if "create" in failing:
        clock[0] = 60.0
    files.failing = failing
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            writer.append(records[before:])
        assert writer.position == before
        files.failing = failing - {"write"} | {"create"}
    files.failing = set()
    assert read_all(tmp_path)[:2] == (list(range(1, before + 1)), comparable(records[:before]))
    assert writer.append(records[before:]) == before + 4
    writer.close()
    assert read_all(tmp_path)[:2] == (list(range(1, before + 5)), comparable(records))
    left = {problem.kind for problem in read_all(tmp_path)[2]}
    assert left <= ({"torn"} if before and "truncate" in failing else set())


def test_a_failed_append_leaves_the_segment_as_it_was_to_the_byte(tmp_path: Path) -> None:
    """It is cut back, and what follows goes into another one."""
    files = FailingFiles()
    writer = JournalWriter.open(tmp_path, SETTINGS, 1, files=files)
    writer.append(build_events(3))
    (segment,) = list_segments(tmp_path)
    before = segment.path.read_bytes()
    files.failing = {"write"}
    with pytest.raises(OSError, match="No space left"):
        writer.append(build_events(3))
    assert segment.path.read_bytes() == before
    files.failing = set()
    writer.append(build_events(3, first=4))
    writer.close()
    assert segment.path.read_bytes() == before
    assert [segment.first_position for segment in list_segments(tmp_path)] == [1, 4]


def test_after_a_failed_sync_nothing_more_goes_into_that_segment(tmp_path: Path) -> None:
    """Linux tells of a failed sync once and forgets the data: in the same file, what follows would only seem safe."""
    files = FailingFiles()
    writer = JournalWriter.open(tmp_path, INTERVAL, 1, files=files)
    writer.append(build_events(3))
    assert not writer.is_synced
    files.failing = {"sync"}
    with pytest.raises(OSError, match="No space left"):
        writer.sync()
    files.failing = set()
    writer.append(build_events(3, first=4))
    writer.sync()
    assert writer.is_synced
    writer.close()
    assert [segment.first_position for segment in list_segments(tmp_path)] == [1, 4]
    assert read_all(tmp_path) == (list(range(1, 7)), comparable(build_events(6)), [])


def test_what_was_appended_before_a_failed_append_is_still_synced(tmp_path: Path) -> None:
    """The segment is given up, not the promise that goes with what it holds."""
    files = CountingFiles()
    writer = JournalWriter.open(tmp_path, INTERVAL, 1, files=files)
    writer.append(build_events(3))
    files.failing = {"write"}
    with pytest.raises(OSError, match="No space left"):
        writer.append(build_events(3))
    assert files.synced == ["folder", "file"]


@pytest.mark.parametrize(("sync", "appended", "closed"), [("each", 2, 2), ("interval", 0, 1), ("never", 0, 0)])
def test_the_policy_decides_when_a_segment_is_synced(tmp_path: Path, sync: str, appended: int, closed: int) -> None:
    """With each append, when asked for and at its end, or not at all."""
    files = CountingFiles()
    writer = JournalWriter.open(tmp_path, evolve(SETTINGS, sync=sync), 1, files=files)
    writer.append(build_events(1))
    writer.append(build_events(1))
    assert files.synced.count("file") == appended
    assert files.synced.count("folder") == (sync != "never")
    writer.sync()
    assert files.synced.count("file") == closed
    writer.close()
    assert files.synced.count("file") == closed


def test_a_file_in_the_way_of_a_new_segment_is_set_aside(tmp_path: Path) -> None:
    """What a crash left there had no record that could be read, but it is not for us to throw it away."""
    for number in range(3):
        (tmp_path / f"{1:020}.journal").write_bytes(b"left %d" % number)
        assert find_end(tmp_path).position == 0
        write_journal(tmp_path, build_events(2))
        assert read_all(tmp_path) == ([1, 2], comparable(build_events(2)), [])
    left = {path.name: path.read_bytes() for path in tmp_path.glob("*.bad*")}
    name = f"{1:020}.journal.bad"
    assert left[name] == b"left 0"
    assert {path.removeprefix(name) for path in left} == {"", "2", "3"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; mounting it needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.fail(f"no file system could be mounted: {mounted.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.live
def test_a_real_disk_that_is_full_costs_nothing(small_disk: Path) -> None:
    """Every append that returned is there, none that raised is; with room again, it goes on."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    folder = small_disk / "journal"
    writer = JournalWriter.open(folder, EACH, 1)
    written: list[Input] = []
    refused = 0
    while refused < 3:
        batch = noise(20)
        try:
            writer.append(batch)
        except OSError:
            refused += 1
        else:
            written += batch
    assert written
    assert read_all(folder) == (list(range(1, len(written) + 1)), comparable(written), [])
    ballast.unlink()
    writer.append(batch)
    writer.close()
    assert read_all(folder) == (list(range(1, len(written) + 21)), comparable([*written, *batch]), [])


_APPENDING = """
import sys
from pathlib import Path
from arimonitor_runner.journal import JournalWriter
from tests.runner.journals import SETTINGS, build_events
writer = JournalWriter.open(Path(sys.argv[1]), SETTINGS, int(sys.argv[2]))
first = int(sys.argv[2])
while True:
    first = writer.append(build_events(1 + first % 50, first=first)) + 1
    print(first - 1, flush=True)
"""


def test_a_killed_daemon_leaves_every_append_that_had_returned(tmp_path: Path) -> None:
    """Again and again, over one folder: positions go on, and no record is wrong, missing or there twice."""
    first = 1
    for appends in (1, 7, 60, 200):
        command = [sys.executable, "-c", _APPENDING, str(tmp_path), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(appends):
                returned = int(child.stdout.readline())
            child.kill()
        positions, back, problems = read_all(tmp_path)
        last = len(positions)
        assert last >= returned
        assert positions == list(range(1, last + 1))
        assert back == comparable(build_events(last))
        assert {(problem.kind, problem.lost) for problem in problems} <= {("torn", None)}
        first = find_end(tmp_path).position + 1
        assert first == last + 1


@pytest.mark.parametrize(("settings", "synced"), [(EACH, 1), (INTERVAL, 1), (evolve(SETTINGS, sync="never"), 0)])
def test_what_a_killed_daemon_left_is_forced_to_disk_before_anything_follows(
    tmp_path: Path, settings: JournalSettings, synced: int
) -> None:
    """A power cut later on could take it from the middle of the journal otherwise."""

    class Watching(FailingFiles):
        """Remembers which files of others were synced."""

        paths: list[Path] = []  # noqa: RUF012  # of this test alone

        def sync_file(self, path: Path) -> None:
            """Note it."""
            super().sync_file(path)
            self.paths.append(path)

    write_journal(tmp_path, build_events(3))
    write_journal(tmp_path, build_events(3), first_position=4)
    JournalWriter.open(tmp_path, settings, 7, files=Watching()).close()
    assert Watching.paths == [segment.path for segment in list_segments(tmp_path)][1:] * synced
