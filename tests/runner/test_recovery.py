"""The state back from disk equals the state that was lost, and nothing decided is forgotten or decided anew."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from arimonitor_core.effects import Effect, LastingEffect
from arimonitor_core.inputs import ConnectionLost, ConnectionReplaced, DirectoryChanged, Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.snapshot import restore_snapshot, take_snapshot
from arimonitor_runner.journal import JournalError, SnapshotStore, list_segments
from arimonitor_runner.journal.snapshots import list_snapshots
from arimonitor_runner.recovery import SLICE_RECORDS, Recovered, recover
from tests.replay.captures import SERVER, directory, list_captures, load_capture, new_monitor
from tests.runner.journals import build_events, write_journal

CAPTURE = [record for name in list_captures("asterisk-22-lean")[:6] for record in load_capture(name)]


async def recover_here(folder: Path, *, mark: int = 0, first_callnumber: int = 1, server: str = SERVER) -> Recovered:
    return await recover(
        folder, server=server, directory=directory(), policies=None, mark=mark, first_callnumber=first_callnumber
    )


def live_until(position: int, monitor: Monitor | None = None) -> tuple[Monitor, list[tuple[int, LastingEffect]]]:
    """A daemon that has handled the capture up to a position; what is to be stored, with its positions."""
    monitor = monitor or new_monitor()
    messages = [
        (at, effect)
        for at, record in enumerate(CAPTURE[:position], 1)
        for effect in monitor.handle(record)
        if isinstance(effect, LastingEffect)
    ]
    return monitor, messages


def events_of(logs: Sequence[dict[str, object]], level: str) -> list[object]:
    return [line["event"] for line in logs if line["log_level"] == level]


def test_where_there_is_nothing_a_new_state_begins_and_is_kept(run, tmp_path: Path) -> None:
    """With which call number it began is in no record."""
    recovered = run(recover_here(tmp_path, first_callnumber=17))
    assert (recovered.position, recovered.last_at, recovered.was_replaced, recovered.messages) == (0, 0.0, False, [])
    assert recovered.monitor.next_callnumber == 17
    (snapshot,) = list_snapshots(tmp_path)
    assert snapshot.position == 0
    write_journal(tmp_path, CAPTURE)
    _, messages = live_until(len(CAPTURE), Monitor(server=SERVER, directory=directory(), first_callnumber=17))
    again = run(recover_here(tmp_path, first_callnumber=100))
    assert again.messages == messages
    assert min(message.callnumber for _, message in again.messages if message.callnumber) == 17
    assert again.monitor.next_callnumber == 100


def test_a_callnumber_that_only_the_outbox_knows_is_given_back_to_be_written_down(run, tmp_path: Path) -> None:
    """A power cut took the inputs that numbered those calls; set in memory alone it is gone at the next restart."""
    run(recover_here(tmp_path))
    write_journal(tmp_path, CAPTURE)
    known = run(recover_here(tmp_path))
    assert known.forgotten_callnumber == 0
    last = known.monitor.next_callnumber - 1
    assert run(recover_here(tmp_path, first_callnumber=last + 1)).forgotten_callnumber == 0
    again = run(recover_here(tmp_path, first_callnumber=last + 8))
    assert (again.forgotten_callnumber, again.monitor.next_callnumber) == (last + 7, last + 8)


def test_where_the_journal_is_gone_positions_go_on_behind_the_mark(run, tmp_path: Path) -> None:
    """Effects of new records must not look as if they were in the outbox already."""
    recovered = run(recover_here(tmp_path, mark=50))
    assert recovered.position == 0
    write_journal(tmp_path, CAPTURE, first_position=51)
    with capture_logs() as logs:
        again = run(recover_here(tmp_path, mark=50))
    assert events_of(logs, "error") == []
    assert again.position == 50 + len(CAPTURE)
    assert [(at - 50, message) for at, message in again.messages] == live_until(len(CAPTURE))[1]


@pytest.mark.parametrize("snapshot_at", [None, 0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("marked_at", [0.0, 0.3, 0.7, 1.0])
def test_a_restart_at_any_place_has_the_same_state_and_misses_no_message(
    run, tmp_path: Path, snapshot_at: float | None, marked_at: float
) -> None:
    """From any snapshot, and with any part of the messages in the outbox already."""
    end = len(CAPTURE)
    mark = max(round(end * marked_at), round(end * (snapshot_at or 0)))
    write_journal(tmp_path, *(CAPTURE[begin : begin + 20] for begin in range(0, end, 20)))
    if snapshot_at is not None:
        position = round(end * snapshot_at)
        SnapshotStore(tmp_path, kept=3).write(position, take_snapshot(live_until(position)[0]))
    recovered = run(recover_here(tmp_path, mark=mark))
    monitor, messages = live_until(end)
    assert take_snapshot(recovered.monitor) == take_snapshot(monitor)
    assert recovered.messages == [(at, message) for at, message in messages if at > mark]
    assert (recovered.position, recovered.last_at) == (end, CAPTURE[-1].received_at)
    assert not recovered.was_replaced


def test_a_snapshot_that_cannot_be_restored_costs_only_time(run, tmp_path: Path) -> None:
    """The one before it is taken, and a longer part of the journal."""
    write_journal(tmp_path, CAPTURE)
    store = SnapshotStore(tmp_path, kept=3)
    store.write(10, take_snapshot(live_until(10)[0]))
    store.write(90, b'{"version":99}')
    recovered = run(recover_here(tmp_path, mark=len(CAPTURE)))
    assert take_snapshot(recovered.monitor) == take_snapshot(live_until(len(CAPTURE))[0])
    assert [snapshot.position for snapshot in list_snapshots(tmp_path)] == [10]


def test_a_snapshot_of_another_server_is_set_aside(run, tmp_path: Path) -> None:
    """Its calls have other guids; that is an error to be looked at."""
    monitor = Monitor(server="voip2", directory=directory())
    SnapshotStore(tmp_path, kept=3).write(0, take_snapshot(monitor))
    write_journal(tmp_path, CAPTURE)
    with capture_logs() as logs:
        recovered = run(recover_here(tmp_path))
    assert recovered.messages == live_until(len(CAPTURE))[1]
    assert events_of(logs, "error") == ["a snapshot is of another server: its calls are not continued"]
    assert [path.name for path in tmp_path.glob("*.bad")] == [f"{0:020}.snapshot.bad"]


def test_the_directory_comes_from_the_snapshot_and_the_journal(run, tmp_path: Path) -> None:
    """What is configured now becomes an input of its own, later."""
    changed = DirectoryChanged(received_at=CAPTURE[0].received_at, directory=directory())
    empty = Monitor(server=SERVER, directory=type(directory()).of())
    SnapshotStore(tmp_path, kept=3).write(0, take_snapshot(empty))
    write_journal(tmp_path, CAPTURE[:5])
    assert run(recover_here(tmp_path)).monitor.book.directory.clients == {}
    write_journal(tmp_path, [changed], first_position=6)
    assert run(recover_here(tmp_path)).monitor.book.directory.clients == directory().clients


@pytest.mark.parametrize("kept_at", [None, 20, 40])
def test_a_journal_that_begins_too_late_is_said_and_used(run, tmp_path: Path, kept_at: int | None) -> None:
    """Its first segments are gone: reconciliation will mend what is missing."""
    write_journal(tmp_path, CAPTURE[:40])
    write_journal(tmp_path, CAPTURE[40:], first_position=41)
    list_segments(tmp_path)[0].path.unlink()
    if kept_at is not None:
        SnapshotStore(tmp_path, kept=3).write(kept_at, take_snapshot(live_until(kept_at)[0]))
    with capture_logs() as logs:
        recovered = run(recover_here(tmp_path))
    said = events_of(logs, "error")
    assert said == (
        [] if kept_at == 40 else ["the journal begins too late: calls may be missing until Asterisk is asked"]
    )
    assert recovered.position == len(CAPTURE)


def test_a_takeover_is_seen_as_long_as_nothing_came_after_it(run, tmp_path: Path) -> None:
    """Also by the last snapshot, which has seen the journal's last record."""
    replaced = ConnectionReplaced(received_at=CAPTURE[-1].received_at + 1)
    end = len(CAPTURE) + 1
    write_journal(tmp_path, CAPTURE, [replaced])
    for _ in range(2):
        recovered = run(recover_here(tmp_path, mark=end))
        assert (recovered.was_replaced, recovered.position, recovered.last_at) == (True, end, replaced.received_at)
        SnapshotStore(tmp_path, kept=3).write(end, take_snapshot(recovered.monitor))
    write_journal(tmp_path, [ConnectionLost(received_at=replaced.received_at + 5)], first_position=end + 1)
    recovered = run(recover_here(tmp_path, mark=end))
    assert (recovered.was_replaced, recovered.position) == (False, end + 1)
    assert recovered.monitor.lost_at == replaced.received_at + 5


def test_a_snapshot_beyond_the_journals_end_counts(run, tmp_path: Path) -> None:
    """A power cut took the last records; the daemon knew what was going on until that snapshot was written."""
    write_journal(tmp_path, CAPTURE[:30], [ConnectionReplaced(received_at=CAPTURE[29].received_at)])
    path = SnapshotStore(tmp_path, kept=3).write(60, take_snapshot(live_until(60)[0]))
    os.utime(path, (2e9, 2e9))
    recovered = run(recover_here(tmp_path, mark=70))
    assert (recovered.position, recovered.last_at, recovered.was_replaced) == (60, 2e9, False)
    assert take_snapshot(recovered.monitor) == take_snapshot(live_until(60)[0])


@pytest.mark.parametrize(("offset", "level"), [(-1, "warning"), (60, "error")])
def test_what_cannot_be_read_is_said_with_its_place(run, tmp_path: Path, offset: int, level: str) -> None:
    """An end that a crash left unfinished is a matter of course, damage is not."""
    write_journal(tmp_path, CAPTURE[:30], CAPTURE[30:60])
    (segment,) = list_segments(tmp_path)
    data = segment.path.read_bytes()
    segment.path.write_bytes(data[:-1] if offset < 0 else data[:offset] + b"\x00\x00" + data[offset + 2 :])
    with capture_logs() as logs:
        recovered = run(recover_here(tmp_path))
    (line,) = [line for line in logs if line["log_level"] == level]
    assert (line["event"], line["file"]) == ("the journal cannot be read here", str(segment.path))
    assert recovered.position == (30 if offset < 0 else 60)


def test_a_core_that_failed_at_a_record_goes_on_behind_it(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it did the first time; a daemon that could not start for it would be of no use."""
    handle = Monitor.handle

    def failing(monitor: Monitor, item: Input) -> Sequence[Effect]:
        if item.received_at == CAPTURE[5].received_at:
            raise ZeroDivisionError
        return handle(monitor, item)

    write_journal(tmp_path, CAPTURE)
    monkeypatch.setattr(Monitor, "handle", failing)
    with capture_logs() as logs:
        recovered = run(recover_here(tmp_path))
    assert [line["position"] for line in logs if line["log_level"] == "error"] == [6]
    assert recovered.position == len(CAPTURE)


def test_others_get_their_turn_while_a_long_journal_is_replayed(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events of a connection that is open already have to be read, or Asterisk drops it."""
    handle = Monitor.handle
    handled = 0

    def counting(monitor: Monitor, item: Input) -> Sequence[Effect]:
        nonlocal handled
        handled += 1
        return handle(monitor, item)

    monkeypatch.setattr(Monitor, "handle", counting)
    write_journal(tmp_path, *(build_events(100) for _ in range(100)))

    async def main() -> list[int]:
        recovering = asyncio.ensure_future(recover_here(tmp_path))
        seen = [0]
        while not recovering.done():
            await asyncio.sleep(0)
            seen.append(handled)
        await recovering
        return seen

    seen = run(main())
    assert seen[-1] == 10_000
    assert max(after - before for before, after in pairwise(seen)) == SLICE_RECORDS


def test_a_folder_that_cannot_be_used_is_an_error_that_names_it(run, tmp_path: Path) -> None:
    """Here it is a file."""
    path = tmp_path / "journal"
    path.write_bytes(b"")
    with pytest.raises(JournalError, match=str(path)):
        run(recover_here(path))


def test_the_restored_document_is_what_the_snapshot_held(tmp_path: Path) -> None:
    """The store gives the core's document on as it got it."""
    document = take_snapshot(live_until(60)[0])
    SnapshotStore(tmp_path, kept=1).write(60, document)
    loaded = SnapshotStore(tmp_path, kept=1).load_newest(lambda text: take_snapshot(restore_snapshot(text)))
    assert loaded == (60, document)
