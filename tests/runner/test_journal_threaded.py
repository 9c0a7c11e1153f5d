"""The journal as the daemon's loop uses it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from attrs import evolve

from arimonitor_core.errors import RecordError
from arimonitor_core.inputs import ConnectionLost
from arimonitor_runner.journal import Journal, JournalError, threaded
from tests.runner.journals import SETTINGS, FailingFiles, build_events, comparable, read_all

QUICKLY = evolve(SETTINGS, sync="interval", sync_interval_s=0.001)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails here mends soon."""
    monkeypatch.setattr(threaded, "RETRY_FIRST_S", 0.001)


class Troubles(asyncio.Queue[str | None]):
    """What was told, in order, to be awaited."""


class CountedFiles(FailingFiles):
    """Tells the event loop of every sync that was done, and of every write that failed so often."""

    def __init__(self, *failing: str, failures: int = 1) -> None:
        super().__init__(*failing)
        self._loop = asyncio.get_running_loop()
        self._failures = failures
        self.synced: asyncio.Queue[None] = asyncio.Queue()
        self.refused = asyncio.Event()

    def sync(self, descriptor: int) -> None:
        """Fail, or do it and tell."""
        super().sync(descriptor)
        self._loop.call_soon_threadsafe(self.synced.put_nowait, None)

    def _fail(self, name: str) -> None:
        if name in self.failing and len(self.failed) + 1 >= self._failures:
            self._loop.call_soon_threadsafe(self.refused.set)
        super()._fail(name)


async def opened(journal: Journal, first_position: int = 1) -> Journal:
    await journal.open(first_position=first_position)
    return journal


def test_what_is_appended_can_be_read_when_append_has_returned(run, tmp_path: Path) -> None:
    """Also while the journal is open. Closing it twice is once."""

    async def main() -> None:
        journal = await opened(Journal(tmp_path, SETTINGS), 7)
        assert journal.position == 6
        assert await journal.append(build_events(3)) == 9
        assert read_all(tmp_path) == ([7, 8, 9], comparable(build_events(3)), [])
        assert await journal.append([]) == 9
        assert journal.position == 9
        await journal.close()
        await journal.close()

    run(main())


def test_appends_are_done_in_the_order_in_which_they_were_asked_for(run, tmp_path: Path) -> None:
    """Also those that `close` finds waiting, and one whose asker has gone."""

    async def main() -> None:
        journal = await opened(Journal(tmp_path, SETTINGS))
        waiting = [asyncio.ensure_future(journal.append(build_events(2, first=first))) for first in (1, 3, 5, 7)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await journal.close()
        assert [await one for one in (waiting[0], *waiting[2:])] == [2, 6, 8]
        assert waiting[1].cancelled()

    run(main())
    assert read_all(tmp_path) == (list(range(1, 9)), comparable(build_events(8)), [])


def test_a_misuse_is_raised_where_it_was_made(run, tmp_path: Path) -> None:
    """The journal goes on."""

    async def main() -> None:
        journal = await opened(Journal(tmp_path, SETTINGS))
        with pytest.raises(RecordError, match="received_at"):
            await journal.append([ConnectionLost(received_at=-1.0)])
        assert await journal.append(build_events(1)) == 1
        await journal.close()

    run(main())


def test_a_journal_that_is_not_open_says_so(run, tmp_path: Path) -> None:
    """Not yet, no more, or not at all."""

    async def main() -> None:
        journal = Journal(tmp_path / "journal", SETTINGS)
        with pytest.raises(JournalError, match="not open"):
            await journal.append(build_events(1))
        await journal.close()
        await opened(journal)
        await journal.close()
        with pytest.raises(JournalError, match="closed"):
            await journal.append(build_events(1))
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(JournalError, match="file"):
            await opened(Journal(tmp_path / "file", SETTINGS))

    run(main())


@pytest.mark.parametrize("failing", ["create", "write", "sync"])
def test_a_full_disk_is_said_once_and_append_waits_until_there_is_room(run, tmp_path: Path, failing: str) -> None:
    """The same records, tried again and again; then it is said that it is mended."""

    async def main() -> None:
        files, troubles = CountedFiles(failing, failures=4), Troubles()
        settings = evolve(SETTINGS, sync="each")
        journal = await opened(Journal(tmp_path, settings, on_trouble=troubles.put_nowait, files=files))
        appending = asyncio.ensure_future(journal.append(build_events(3)))
        await files.refused.wait()
        assert not appending.done()
        files.failing.clear()
        assert await appending == 3
        assert troubles.get_nowait() == f"{tmp_path}: [Errno 28] No space left on device"
        assert await troubles.get() is None
        assert troubles.empty()
        assert await journal.append(build_events(2, first=4)) == 5
        await journal.close()
        assert troubles.empty()

    run(main())
    assert read_all(tmp_path) == (list(range(1, 6)), comparable(build_events(5)), [])


def test_closing_while_the_disk_is_full_ends_the_wait(run, tmp_path: Path) -> None:
    """Who waits hears that its records are not written; nothing that was to follow them is written either."""

    async def main() -> None:
        files, troubles = CountedFiles(), Troubles()
        journal = await opened(Journal(tmp_path, SETTINGS, on_trouble=troubles.put_nowait, files=files))
        assert await journal.append(build_events(2)) == 2
        files.failing.add("write")
        waiting = [asyncio.ensure_future(journal.append(build_events(3, first=first))) for first in (3, 6)]
        assert "No space left" in str(await troubles.get())
        await journal.close()
        for one in waiting:
            with pytest.raises(JournalError, match="closed while it could not be written"):
                await one

    run(main())
    assert read_all(tmp_path) == ([1, 2], comparable(build_events(2)), [])


def test_the_journal_is_synced_by_interval_while_nothing_is_appended(run, tmp_path: Path) -> None:
    """Once for what was appended, not for ever."""

    async def main() -> None:
        files = CountedFiles()
        journal = await opened(Journal(tmp_path, QUICKLY, files=files))
        for _ in range(2):
            await journal.append(build_events(1))
            await files.synced.get()
        await journal.close()
        assert files.synced.empty()

    run(main())


def test_the_journal_is_synced_by_interval_while_it_is_always_appended_to(run, tmp_path: Path) -> None:
    """A busy thread finds the time."""

    async def main() -> None:
        files = CountedFiles()
        journal = await opened(Journal(tmp_path, QUICKLY, files=files))
        while files.synced.qsize() < 3:
            await asyncio.gather(*(journal.append(build_events(1)) for _ in range(20)))
        await journal.close()

    run(main())


def test_a_sync_that_fails_is_said_and_the_journal_goes_on(run, tmp_path: Path) -> None:
    """In another segment; what was appended can still be read."""

    async def main() -> None:
        files, troubles = CountedFiles("sync"), Troubles()
        journal = await opened(Journal(tmp_path, QUICKLY, on_trouble=troubles.put_nowait, files=files))
        await journal.append(build_events(1))
        assert "No space left" in str(await troubles.get())
        files.failing.clear()
        await journal.append(build_events(1, first=2))
        assert await troubles.get() is None
        await journal.close()

    run(main())
    assert read_all(tmp_path) == ([1, 2], comparable(build_events(2)), [])


def test_closing_tells_when_the_last_sync_fails(run, tmp_path: Path) -> None:
    """What was appended may not survive a power cut."""

    async def main() -> None:
        files = CountedFiles("sync")
        journal = await opened(Journal(tmp_path, evolve(QUICKLY, sync_interval_s=3600), files=files))
        await journal.append(build_events(1))
        with pytest.raises(JournalError, match="No space left"):
            await journal.close()

    run(main())
    assert read_all(tmp_path) == ([1], comparable(build_events(1)), [])
