"""Snapshots on disk: whole or not there, the newest that can be used is."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from arimonitor_core.errors import SnapshotError
from arimonitor_runner.journal import SnapshotStore
from arimonitor_runner.journal.snapshots import list_snapshots
from tests.runner.journals import FailingFiles

DOCUMENT = b'{"version":2,"text":"\xc3\xa9\\n"}'


def positions(folder: Path) -> list[int]:
    return [snapshot.position for snapshot in list_snapshots(folder)]


def test_a_snapshot_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Byte for byte, nobody else's business."""
    folder = tmp_path / "state"
    store = SnapshotStore(folder, kept=3, now=lambda: 5.0)
    path = store.write(42, DOCUMENT)
    assert SnapshotStore(folder, kept=3).load_newest(lambda document: document) == (42, DOCUMENT)
    assert path.name == f"{42:020}.snapshot"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert store.taken_at(42) == path.stat().st_mtime


def test_the_newest_are_kept(tmp_path: Path) -> None:
    """As many as asked for; one of the same position takes the other's place."""
    store = SnapshotStore(tmp_path, kept=2)
    assert store.oldest_position() is None
    for position in (1, 5, 9, 30):
        store.write(position, b"%d" % position)
    store.write(30, b"again")
    assert positions(tmp_path) == [9, 30]
    assert store.oldest_position() == 9
    assert store.load_newest(bytes) == (30, b"again")


def test_a_folder_without_snapshots_has_none(tmp_path: Path) -> None:
    """Other files do not matter, nor that there is no folder."""
    (tmp_path / "12.snapshot").write_bytes(b"")
    (tmp_path / f"{1:020}.journal").write_bytes(b"")
    assert SnapshotStore(tmp_path, kept=1).load_newest(bytes) is None
    assert list_snapshots(tmp_path / "nowhere") == []


def test_one_that_cannot_be_restored_is_set_aside_and_an_older_one_is_taken(tmp_path: Path) -> None:
    """It is said and kept for whoever looks into it; whatever goes wrong in restoring is a reason."""
    store = SnapshotStore(tmp_path, kept=9)
    for position in (1, 2, 3, 4):
        store.write(position, b"%d" % position)

    def restore(document: bytes) -> int:
        if document == b"4":
            raise SnapshotError("of a later version")
        if document == b"3":
            raise KeyError("calls")
        return int(document)

    with capture_logs() as logs:
        assert store.load_newest(restore) == (2, 2)
    assert positions(tmp_path) == [1, 2]
    assert [path.name for path in sorted(tmp_path.glob("*.bad"))] == [f"{n:020}.snapshot.bad" for n in (3, 4)]
    assert [(line["log_level"], line["reason"]) for line in logs] == [
        ("warning", "SnapshotError: of a later version"),
        ("warning", "KeyError: 'calls'"),
    ]
    assert [line["renamed"] for line in logs] == [str(tmp_path / f"{n:020}.snapshot.bad") for n in (4, 3)]


def test_one_that_the_disk_does_not_give_stays_where_it_is(tmp_path: Path) -> None:
    """It may be there tomorrow; here it is a folder. An older one is taken."""
    store = SnapshotStore(tmp_path, kept=9)
    store.write(1, b"one")
    (tmp_path / f"{2:020}.snapshot").mkdir()
    with capture_logs() as logs:
        assert store.load_newest(bytes) == (1, b"one")
    assert positions(tmp_path) == [1, 2]
    assert [line["log_level"] for line in logs] == ["error"]


def test_a_disk_that_refuses_to_set_one_aside_does_not_keep_the_older_one_back(tmp_path: Path) -> None:
    """It is said."""
    store = SnapshotStore(tmp_path, kept=9, files=FailingFiles())
    store.write(1, b"one")
    (tmp_path / f"{2:020}.snapshot").write_bytes(b"rubbish")
    with capture_logs() as logs:
        assert SnapshotStore(tmp_path, kept=9, files=FailingFiles("rename")).load_newest(bytes) == (1, b"one")
    assert logs[0]["renamed"] == "no: the disk refuses it"
    assert positions(tmp_path) == [1, 2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples."""
    return tmp_path_factory.mktemp("snapshots")


@given(data=st.data())
def test_a_changed_byte_or_a_cut_never_gives_another_document(folder: Path, data: st.DataObject) -> None:
    """The checksum holds the document together; only a byte of the frame that decides nothing may change."""
    store = SnapshotStore(folder, kept=1, now=lambda: 5.0)
    path = store.write(1, DOCUMENT * 20)
    whole = bytearray(path.read_bytes())
    offset = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:offset])
    else:
        whole[offset] ^= data.draw(st.integers(1, 255))
        path.write_bytes(whole)
    with capture_logs():
        assert store.load_newest(bytes) in (None, (1, DOCUMENT * 20))
    for bad in folder.glob("*.bad"):
        bad.unlink()


@pytest.mark.parametrize("failing", ["create", "write", "sync", "rename"])
def test_a_snapshot_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, failing: str) -> None:
    """And the one before as it was."""
    files = FailingFiles()
    store = SnapshotStore(tmp_path, kept=1, files=files)
    store.write(1, b"one")
    files.failing = {failing}
    with pytest.raises(OSError, match="No space left"):
        store.write(2, b"two")
    assert [path.name for path in tmp_path.iterdir()] == [f"{1:020}.snapshot"]
    files.failing = set()
    store.write(2, b"two")
    assert store.load_newest(bytes) == (2, b"two")


def test_what_a_crash_left_half_written_is_removed(tmp_path: Path) -> None:
    """It never had a snapshot's name; while this store lives, it does not stand in the way either."""
    aside = tmp_path / f"{1:020}.snapshot.writing"
    aside.write_bytes(b"half")
    store = SnapshotStore(tmp_path, kept=1)
    assert list(tmp_path.iterdir()) == []
    aside.write_bytes(b"half")
    store.write(1, b"one")
    assert store.load_newest(bytes) == (1, b"one")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b'{"format":2,"position":7,"taken_at":1.0,"program":"9"}\n', "written in format 2"),
        (b'{"format":1,"position":8,"taken_at":1.0,"program":"9"}\n', "taken at position 8"),
        (b'{"format":1,"position":7}\n', "not a snapshot: Object missing required field"),
        (b"\xff\n", "not a snapshot"),
        (b"", "not a snapshot"),
    ],
)
def test_a_file_that_is_no_snapshot_of_ours_is_set_aside(tmp_path: Path, header: bytes, reason: str) -> None:
    """By what its first line says."""
    (tmp_path / f"{7:020}.snapshot").write_bytes(zstandard.ZstdCompressor().compress(header + DOCUMENT))
    with capture_logs() as logs:
        assert SnapshotStore(tmp_path, kept=1).load_newest(bytes) is None
    assert reason in logs[0]["reason"]
