"""The state back from disk: the newest snapshot that can be read, then the journal after it.

`recover` gives a monitor that has seen every record of the journal. What those up to the mark led to is in the outbox
or delivered already and is dropped; messages of later ones are given back, to be stored now. Whatever cannot be read is
said with its place, and what there is is used: the reconciliation with Asterisk that follows a start mends the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
from attrs import Factory, define

from arimonitor_core.directory import Directory
from arimonitor_core.effects import Effect, LastingEffect
from arimonitor_core.errors import SnapshotError
from arimonitor_core.inputs import Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.policies import Policies
from arimonitor_core.snapshot import restore_snapshot, take_snapshot
from arimonitor_runner.journal import JournalEnd, JournalError, JournalProblem, SnapshotStore, find_end, read_batches

SLICE_RECORDS: Final = 500
"""Records replayed in one go; a few milliseconds, after which others in the event loop get their turn."""

_SNAPSHOTS_KEPT: Final = 3
"""Where the first one is written there are no more."""

_log = structlog.get_logger()


@define(kw_only=True)
class Recovered:
    """Where the daemon goes on."""

    monitor: Monitor
    position: int = 0
    """Of the last record, or of the snapshot where the journal ends before it; 0: there was nothing."""
    last_at: float = 0.0
    """When the daemon that was before last knew what is going on: Unix seconds; 0.0 where there was none."""
    was_replaced: bool = False
    """A successor took over after the last record: this daemon, where it is the one."""
    forgotten_callnumber: int = 0
    """The highest one used, where a power cut took what knew of it; 0: it is known. It has to become an input: numbers
    given from here on would be others after the next restart."""
    messages: list[tuple[int, LastingEffect]] = Factory(list)
    """What is to be stored: messages of records after the mark and what they wait for, each with the position of its
    record, in order."""


async def recover(
    folder: Path,
    *,
    server: str,
    directory: Directory,
    policies: Policies | None,
    mark: int,
    first_callnumber: int,
) -> Recovered:
    """Restore the state that a folder of journal and snapshots holds.

    A folder without any gets a snapshot of the state that all begins with: with which call number it did is in no
    record, and a later replay has to begin with the same.

    Args:
        folder: of the journal; nobody writes to it now.
        server: this PBX's name; a snapshot of another is set aside.
        directory: where no snapshot holds one.
        policies: what the operator decided.
        mark: position up to which all effects are in the outbox.
        first_callnumber: one more than the highest ever used.

    Raises:
        JournalError: the folder cannot be read or written.
    """
    try:
        store = SnapshotStore(folder, kept=_SNAPSHOTS_KEPT)
        loaded = await asyncio.to_thread(store.load_newest, _Restoring(server, policies))
        end = await asyncio.to_thread(find_end, folder)
        recovered = Recovered(
            monitor=Monitor(server=server, directory=directory, policies=policies, first_callnumber=first_callnumber),
            position=end.position,
            last_at=end.received_at,
            was_replaced=end.is_replaced,
        )
        after = 0
        if loaded is not None:
            after, recovered.monitor = loaded
            _go_on_from(recovered, after, store, end)
        elif not end.position:
            after = mark
            await asyncio.to_thread(store.write, mark, take_snapshot(recovered.monitor))
    except OSError as error:
        raise JournalError(f"{folder}: {error}") from error
    await _Replay(recovered, after, mark, is_fresh=loaded is None).run(folder)
    book = recovered.monitor.book
    if book.next_callnumber < first_callnumber:
        recovered.forgotten_callnumber = first_callnumber - 1
        book.next_callnumber = first_callnumber
    return recovered


class _Restoring:
    """Makes a monitor from a snapshot, if it is of the same server."""

    def __init__(self, server: str, policies: Policies | None) -> None:
        self._server = server
        self._policies = policies

    def __call__(self, document: bytes) -> Monitor:
        monitor = restore_snapshot(document, policies=self._policies)
        server = monitor.book.writer.server
        if server != self._server:
            _log.error("a snapshot is of another server: its calls are not continued", server=server)
            raise SnapshotError(f"of server {server}, this is {self._server}")
        return monitor


def _go_on_from(recovered: Recovered, position: int, store: SnapshotStore, end: JournalEnd) -> None:
    if position > end.position:
        # A power cut took the journal's last records, or all of it was removed; the snapshot had seen them.
        recovered.position = position
        recovered.last_at = max(end.received_at, store.taken_at(position))
        recovered.was_replaced = False


class _Replay:
    """Feeds records to a monitor."""

    def __init__(self, recovered: Recovered, after: int, mark: int, *, is_fresh: bool) -> None:
        self._recovered = recovered
        self._handle = recovered.monitor.handle
        self._after = after
        self._mark = mark
        self._is_fresh = is_fresh
        self._records = 0

    async def run(self, folder: Path) -> None:
        """Feed all that comes after the snapshot."""
        sliced = 0
        for first, records in read_batches(folder, after=self._after, on_problem=_report):
            if not self._records:
                self._check_begin(first)
            self._feed(first, records)
            self._records += len(records)
            if self._records - sliced >= SLICE_RECORDS:
                sliced = self._records
                await asyncio.sleep(0)
        _log.info(
            "state recovered",
            snapshot=None if self._is_fresh else self._after,
            records=self._records,
            position=self._recovered.position,
            calls=len(self._recovered.monitor.book.calls),
            messages=len(self._recovered.messages),
        )

    def _check_begin(self, first: int) -> None:
        if first > self._after + 1:
            what = "there is no snapshot" if self._is_fresh else f"the snapshot is of position {self._after}"
            _log.error(
                "the journal begins too late: calls may be missing until Asterisk is asked", first=first, why=what
            )

    def _feed(self, first: int, records: Sequence[Input]) -> None:
        position = first - 1
        for record in records:
            position += 1
            try:
                effects: Sequence[Effect] = self._handle(record)
            except Exception:  # it failed the first time as well, and the daemon went on
                _log.exception("the core failed at an input, as before", position=position, kind=type(record).__name__)
                continue
            if effects and position > self._mark:
                lasting = (effect for effect in effects if isinstance(effect, LastingEffect))
                self._recovered.messages.extend((position, effect) for effect in lasting)


def _report(problem: JournalProblem) -> None:
    # A crash leaves an unfinished end now and then; its append had not returned, so nothing had come of it.
    tell = _log.warning if problem.kind == "torn" and problem.lost is None else _log.error
    tell("the journal cannot be read here", file=str(problem.path), offset=problem.offset, reason=problem.reason)
