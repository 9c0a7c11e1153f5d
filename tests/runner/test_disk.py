"""Waiting for a disk at the start: what is waited for, what is said, and when it is given up."""

import asyncio
import errno
import sqlite3

import pytest
import structlog

from arimonitor_runner.disk import Disk, at_once, may_pass, naming
from arimonitor_runner.journal import JournalError
from arimonitor_runner.outbox import OutboxError
from arimonitor_runner.running import Run, StartGivenUp
from arimonitor_runner.settings import Settings


def caused(error, cause):
    error.__cause__ = cause
    return error


def sqlite_error(code):
    error = sqlite3.OperationalError("SQLite's words")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.EROFS, "remounted"), True),
        (caused(JournalError("folder: quota"), OSError(errno.EDQUOT, "quota")), True),
        (caused(OutboxError("file: full"), sqlite_error(sqlite3.SQLITE_FULL)), True),
        (caused(OutboxError("file: no room for -shm"), sqlite_error(sqlite3.SQLITE_IOERR_SHMSIZE)), True),
        (caused(OutboxError("file: is a directory"), IsADirectoryError(errno.EISDIR, "directory")), False),
        (caused(OutboxError("file: odd"), sqlite_error(sqlite3.SQLITE_ERROR)), False),
        (PermissionError(errno.EACCES, "forbidden"), False),
        (OutboxError("file: schema version 99"), False),
        (ZeroDivisionError(), False),
    ],
)
def test_only_the_disks_own_trouble_is_waited_for(error, passes):
    """Not what a change of the settings or of the rights would mend: there the operator is told at once."""
    assert may_pass(error) is passes


def test_it_is_tried_again_and_said_once(run, monkeypatch):
    """However often it fails; `refuses` is set meanwhile. What is no trouble of the disk is raised."""
    monkeypatch.setattr("arimonitor_runner.disk.RETRY_FIRST_S", 0.0)
    errors = [OSError(errno.ENOSPC, "full", "/lock"), OSError(errno.EIO, "broken", "/lock")]
    seen = []

    async def scenario():
        disk = Disk()

        async def attempt():
            seen.append(disk.refuses.is_set())
            if errors:
                raise errors.pop(0)
            return "taken"

        assert await disk.until_taken(attempt) == "taken"
        assert not disk.refuses.is_set()
        with pytest.raises(PermissionError):
            await disk.until_taken(lambda: at_once(_forbid))

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert seen == [False, True, True]
    assert logs == [
        {
            "event": "the state on disk cannot be written: the start waits",
            "reason": "[Errno 28] full: '/lock'",
            "log_level": "error",
        },
        {"event": "the state on disk can be written again", "log_level": "info"},
    ]


def _forbid():
    raise PermissionError(errno.EACCES, "forbidden")


def test_the_disk_refuses_as_long_as_one_part_is_refused(run):
    """Journal and outbox may find room at different times."""

    async def scenario():
        disk = Disk()
        disk.note("no journal", "journal", "full")
        disk.note("no outbox", "outbox", "full")
        disk.note("no journal", "journal", None)
        assert disk.refuses.is_set()
        disk.note("no outbox", "outbox", None)
        assert not disk.refuses.is_set()

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert [line["event"] for line in logs] == ["no journal", "no outbox", "journal", "outbox"]


def test_a_start_is_given_up_only_where_the_disk_holds_it_up(run):
    """Asked to stop, a start that goes on is gone through with: what a takeover heard is in memory alone."""

    async def scenario():
        running = Run(Settings(), asyncio.Event())
        running.stop.set()
        went_on = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, went_on.set)
        assert await running.unless_given_up(went_on.wait())
        cancelled = []

        async def start():
            running.disk.note("no outbox", "outbox", "full")
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                cancelled.append(True)

        with pytest.raises(StartGivenUp):
            await running.unless_given_up(start())
        assert cancelled == [True]

    run(scenario())


def test_an_error_without_a_name_is_given_one(tmp_path):
    """A descriptor has none; one that is there is kept."""
    with pytest.raises(OSError, match="/the/lock"), naming("/the/lock"):
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(FileNotFoundError, match="missing"), naming("/the/lock"):
        (tmp_path / "missing").read_bytes()
