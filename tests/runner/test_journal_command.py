"""`arimonitor journal`: what it says, what it writes, what it removes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_core.snapshot import take_snapshot
from arimonitor_runner.cli import main
from arimonitor_runner.commands import journal
from arimonitor_runner.journal import SnapshotStore, list_segments
from arimonitor_runner.log_files import read_records
from tests.replay.captures import FIXTURES, find_log, list_captures, load_capture, new_monitor
from tests.runner.journals import build_events, comparable, write_journal

SAMPLES = [name for index, name in enumerate(list_captures()) if index % 40 == 0]


def run(command: str, folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["journal", command, "--folder", str(folder), *arguments])


def export(folder: Path, *arguments: str) -> list[Input]:
    """The records of an export."""
    path = folder / "export.ndjson.zst"
    result = run("export", folder, *arguments, "-o", str(path))
    assert (result.exit_code, result.output) == (0, "")
    return list(read_records([str(path)], lambda *place: pytest.fail(str(place))))


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_an_exported_journal_replays_as_the_capture_does(tmp_path: Path, name: str, suffix: str) -> None:
    """Byte for byte, in every packing."""
    records = load_capture(name)
    write_journal(tmp_path, *(records[begin : begin + 30] for begin in range(0, len(records), 30)))
    path = tmp_path / f"export.ndjson{suffix}"
    path.write_bytes(b"replaced")
    assert run("export", tmp_path, "-o", str(path)).exit_code == 0
    options = ["--directory", str(FIXTURES / "directory"), "--server", "voip1"]
    direct, exported = (CliRunner().invoke(main, ["replay", *options, str(log)]) for log in (find_log(name), path))
    assert direct.exit_code == exported.exit_code == 0
    assert exported.stdout_bytes == direct.stdout_bytes


def test_a_part_of_the_journal_can_be_exported(tmp_path: Path) -> None:
    """By positions, both ends, and by time."""
    records = [AriEventReceived(1000.0 + n, b'{"n":%d}' % n) for n in range(1, 31)]
    write_journal(tmp_path, records[:20])
    write_journal(tmp_path, records[20:], first_position=21)
    assert comparable(export(tmp_path)) == comparable(records)
    assert comparable(export(tmp_path, "--after", "5", "--until", "25")) == comparable(records[5:25])
    assert comparable(export(tmp_path, "--since", "1028")) == comparable(records[27:])
    assert comparable(export(tmp_path, "--since", "1970-01-01T00:17:08+00:00")) == comparable(records[27:])
    assert export(tmp_path, "--after", "30") == []


@pytest.mark.parametrize("text", ["yesterday", "nan", "inf"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """With what is expected."""
    result = run("export", tmp_path, "--since", text)
    assert result.exit_code == 2
    assert "neither Unix seconds nor a time" in result.output


def test_an_export_goes_to_standard_output_and_names_what_it_cannot_hold(tmp_path: Path) -> None:
    """A capture log has no time that is no number; the journal keeps whatever came."""
    write_journal(tmp_path, [*build_events(1), AriEventReceived(float("nan"), b"{}"), *build_events(1)])
    result = run("export", tmp_path)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr.startswith("position 2: received_at: nan is no time")


def test_an_export_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """With the file."""
    result = run("export", tmp_path, "-o", str(tmp_path / "nowhere" / "log"))
    assert (result.exit_code, result.output) == (1, f"Error: {tmp_path}/nowhere/log: No such file or directory\n")


def test_damage_is_said_by_verify_and_by_export(tmp_path: Path) -> None:
    """With file, offset, reason and the positions; what can be read is."""
    write_journal(tmp_path, build_events(10))
    write_journal(tmp_path, build_events(10), first_position=11)
    path = list_segments(tmp_path)[0].path
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    text = f"{path}: byte 32: {len(data) - 32} bytes cannot be read; positions 1 to 10 are lost\n"
    verified, exported = run("verify", tmp_path), run("export", tmp_path)
    assert (verified.exit_code, verified.stderr) == (1, text)
    assert (exported.exit_code, exported.stderr) == (1, text)
    assert len(exported.stdout.splitlines()) == 10
    assert [line.split()[1] for line in verified.stdout.splitlines()[1:]] == ["0", "10"]


def test_verify_tells_what_each_segment_and_snapshot_holds(tmp_path: Path) -> None:
    """Records, positions, times in UTC, bytes."""
    monitor = new_monitor()
    SnapshotStore(tmp_path, kept=3).write(4, take_snapshot(monitor))
    write_journal(tmp_path, [AriEventReceived(86400.0 * n, b"{}") for n in range(4)])
    write_journal(tmp_path, [AriEventReceived(1e300, b"{}")], first_position=5)
    result = run("verify", tmp_path)
    assert (result.exit_code, result.stderr) == (0, "")
    sizes = [segment.path.stat().st_size for segment in list_segments(tmp_path)]
    heading, first, last, snapshot = result.stdout.splitlines()
    assert heading.split() == ["segment", "records", "positions", "from", "to", "bytes", "a", "record"]
    assert first.split()[:3] == [f"{1:020}.journal", "4", "1-4"]
    assert first.split()[3:5] == ["1970-01-01T00:00:00Z", "1970-01-04T00:00:00Z"]
    assert first.split()[5:] == [f"{sizes[0]}", f"{sizes[0] / 4:.1f}"]
    assert last.split()[:3] == [f"{5:020}.journal", "1", "5-5"]
    assert "1e+300 s" in last
    assert snapshot.startswith(f"{4:020}.snapshot  position 4, ")


def test_verify_finds_a_snapshot_that_a_restart_could_not_use(tmp_path: Path) -> None:
    """And leaves it where it is."""
    path = SnapshotStore(tmp_path, kept=3).write(4, b'{"version":99}')
    result = run("verify", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{path}: ")
    assert "99" in result.stderr
    assert path.exists()


def test_a_folder_without_a_journal_is_said(tmp_path: Path) -> None:
    """It is no fault; one that cannot be read is."""
    result = run("verify", tmp_path / "nowhere")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}/nowhere: no journal\n")
    (tmp_path / "file").write_bytes(b"")
    for command in ("verify", "prune"):
        result = run(command, tmp_path / "file")
        assert result.exit_code == 1
        assert "Not a directory" in result.stderr


def test_an_append_under_way_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unfinished end counts only where it stays unfinished."""
    monkeypatch.setattr(journal, "GROWING_WAIT_S", 0.05)
    write_journal(tmp_path, build_events(10), build_events(10, first=11))
    (segment,) = list_segments(tmp_path)
    whole = segment.path.read_bytes()
    segment.path.write_bytes(whole[:-5])
    result = run("verify", tmp_path)
    assert result.exit_code == 1
    assert "writing was cut off" in result.stderr

    def finish() -> None:
        with segment.path.open("ab") as file:
            file.write(whole[-5:])

    monkeypatch.setattr(journal, "GROWING_WAIT_S", 60)
    finishing = threading.Timer(0.1, finish)
    finishing.start()
    result = run("verify", tmp_path)
    finishing.join()
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    """Two old segments, a new one, and a snapshot after the first."""
    for first in (1, 11, 21):
        write_journal(tmp_path, build_events(10), first_position=first)
    for segment in list_segments(tmp_path)[:2]:
        old = time.time() - 1000
        os.utime(segment.path, (old, old))
    SnapshotStore(tmp_path, kept=3).write(15, take_snapshot(new_monitor()))
    return tmp_path


def test_prune_removes_what_no_snapshot_needs(pruned: Path) -> None:
    """After a dry run that says the same and removes nothing."""
    size = list_segments(pruned)[0].path.stat().st_size
    line = f"{1:020}.journal  {size:>13,} bytes  age\n1 segments, {size:,} bytes "
    dry = run("prune", pruned, "--keep-s", "500", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (0, f"{line}would be removed\n")
    assert len(list_segments(pruned)) == 3
    assert run("prune", pruned, "--keep-s", "500").stdout == f"{line}removed\n"
    assert [segment.first_position for segment in list_segments(pruned)] == [11, 21]
    assert run("prune", pruned, "--keep-s", "500").stdout == "0 segments, 0 bytes removed\n"


def test_prune_keeps_everything_where_there_is_no_snapshot(pruned: Path) -> None:
    """A restart would replay it from its begin."""
    next(pruned.glob("*.snapshot")).unlink()
    result = run("prune", pruned, "--keep-s", "0", "--keep-bytes", "0")
    assert "no snapshot: a restart would need every segment" in result.stdout
    assert len(list_segments(pruned)) == 3


def test_the_command_is_reached_from_the_command_line(tmp_path: Path) -> None:
    """As a process of its own."""
    write_journal(tmp_path, build_events(3))
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "arimonitor_runner.cli",
        "journal",
        "export",
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert len(done.stdout.splitlines()) == 3
