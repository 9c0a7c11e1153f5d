"""Trouble of the disk is waited out; of a damaged file all that can be read is rescued."""

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest
import structlog

from arimonitor_runner import outbox_file
from arimonitor_runner.outbox import Outbox
from arimonitor_runner.outbox_file import OutboxError, open_database
from arimonitor_runner.outbox_waiting import next_release_at
from tests.runner.full_disk import run_in_full_disk
from tests.runner.test_outbox import ids, opened
from tests.runner.waiting import until


@pytest.mark.parametrize("kind", ["tmpfs", "rlimit"])
def test_a_full_disk_is_waited_for(tmp_path, kind):
    """Nothing fails while there is no room; with room everything is stored, once and in order. Closing gives up."""
    kind, told = run_in_full_disk("tests.runner.full_disk", kind, str(tmp_path))
    arrived = [f"{number}:open" for number in range(20)]
    assert told["done_in_trouble"] == 0
    assert told["stored"] == arrived
    assert told["after_trouble"] == arrived
    assert told["given_up"] == ["unavailable", "unavailable"]
    assert told["after_restart"] == arrived
    reason = "database or disk is full" if kind == "tmpfs" else "disk I/O error"
    assert [text and text.partition(": ")[2] for text in told["troubles"]] == [reason, None, reason]
    assert told["failures"] == []


def test_a_file_system_that_turned_read_only_is_waited_for(outbox_path, message, run):
    """SQLite's own way to refuse writes, which ends with the connection as a remount does."""
    told = []

    async def scenario():
        async with opened(outbox_path, on_trouble=told.append) as outbox:
            await outbox._submit(lambda connection: connection.execute("PRAGMA query_only = ON").fetchone())
            await outbox.append([message("a")])
            return ids(await outbox.read_pending("t", after_seq=0, limit=10)), outbox.statistics()["troubles"]

    assert run(scenario()) == (["a:open"], 1)
    assert [text and text.partition(": ")[2] for text in told] == ["attempt to write a readonly database", None]


def test_another_process_that_holds_the_database_is_waited_for(outbox_path, message, run):
    """Longer than SQLite itself waits."""
    told = asyncio.Queue()

    async def scenario():
        async with opened(outbox_path, on_trouble=told.put_nowait) as outbox:
            await outbox._submit(lambda connection: connection.execute("PRAGMA busy_timeout = 0").fetchone())
            with closing(sqlite3.connect(outbox_path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                appending = asyncio.create_task(outbox.append([message("a")]))
                assert "database is locked" in await told.get()
                other.execute("ROLLBACK")
            await appending
            assert await told.get() is None
            return ids(await outbox.read_pending("t", after_seq=0, limit=10))

    assert run(scenario()) == ["a:open"]


def test_opening_may_be_given_up_while_it_waits(outbox_path, run):
    """Another process holds the file: who waits is cancelled, and nothing is left of the attempt once it can go on."""
    run(opened_and_closed(outbox_path))

    async def scenario():
        with closing(sqlite3.connect(outbox_path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            outbox = Outbox(outbox_path)
            opening = asyncio.create_task(outbox.open())
            await until(lambda: any(thread.name == "outbox" for thread in threading.enumerate()))
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            other.execute("ROLLBACK")
        await until(lambda: not any(thread.name == "outbox" for thread in threading.enumerate()))
        with pytest.raises(OutboxError, match="closed"):
            await outbox.mark("any")
        await outbox.close()

    run(scenario())
    run(opened_and_closed(outbox_path))


async def opened_and_closed(path):
    async with opened(path):
        pass


def fill(path, message, run, count):
    """An outbox with large messages, so that each has pages of its own, and a mark."""

    async def scenario():
        async with opened(path) as outbox:
            messages = [message(f"{number:03}", body=b"%03d" % number * 2000) for number in range(count)]
            await outbox.append(messages, marks={"callnumber/pbx": 7})

    run(scenario())


def spoil(path, beginning, end):
    """Overwrite a part of a file; both are shares of its size."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * beginning) // 4096 * 4096)
        file.write(b"\x55" * (int(size * (end - beginning)) // 4096 * 4096))


def read_all(path, run):
    """What an outbox holds, its mark, and what it logged."""

    async def scenario():
        async with opened(path) as outbox:
            held = await outbox.read_pending("t", after_seq=0, limit=10_000)
            return held, await outbox.mark("callnumber/pbx")

    with structlog.testing.capture_logs() as logs:
        held, mark = run(scenario())
    return held, mark, logs


@pytest.mark.parametrize("content", [b"this is no database" * 500, bytes(8192)], ids=["text", "zeros"])
def test_a_file_that_is_no_database_is_set_aside(outbox_path, message, run, content):
    """The daemon runs, with a new file; the old one is kept under another name, and that is said."""
    outbox_path.parent.mkdir()
    outbox_path.write_bytes(content)
    held, mark, logs = read_all(outbox_path, run)
    assert (held, mark) == ([], 0)
    aside = outbox_path.with_name("outbox.db.damaged-1")
    assert aside.read_bytes() == content
    (alarm,) = logs
    assert (alarm["log_level"], alarm["set_aside"], alarm["messages_rescued"]) == ("error", str(aside), 0)
    outbox_path.write_bytes(content)
    read_all(outbox_path, run)
    assert {path.name for path in outbox_path.parent.iterdir()} == {
        "outbox.db",
        "outbox.db.damaged-1",
        "outbox.db.damaged-2",
    }


def test_what_can_be_read_of_a_damaged_file_is_delivered(outbox_path, message, run):
    """Damage in the middle: what stands before and after it is there, in order; numbers go on above all old ones."""
    fill(outbox_path, message, run, 200)
    spoil(outbox_path, 0.45, 0.55)

    async def scenario():
        async with opened(outbox_path) as outbox:
            held = await outbox.read_pending("t", after_seq=0, limit=1000)
            new = (await outbox.append([message("new")])).stored[0].seq
            return held, new, await outbox.mark("callnumber/pbx")

    held, new, mark = run(scenario())
    numbers = [int(stored.ordering_key) for stored in held]
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert numbers[-1] == 199
    assert 100 < len(numbers) < 200
    assert all(stored.body == b"%03d" % number * 2000 for number, stored in zip(numbers, held, strict=True))
    assert mark == 7
    assert new > 10**12
    assert outbox_path.with_name("outbox.db.damaged-1").exists()


def test_what_waits_in_a_damaged_file_goes_on_waiting(outbox_path, message, run):
    """Until the same moment."""
    fill(outbox_path, message, run, 200)
    with closing(sqlite3.connect(outbox_path)) as database, database:
        database.execute("UPDATE messages SET state = 'waiting', release_at = 4e9 WHERE ordering_key = '000'")
    spoil(outbox_path, 0.45, 0.55)

    async def scenario():
        async with opened(outbox_path) as outbox:
            return await outbox.transact(next_release_at)

    assert run(scenario()) == 4e9


def test_a_damaged_file_of_before_there_was_any_waiting_is_rescued_too(outbox_path, message, run):
    """Damage may come before the upgrade does."""
    outbox_path.parent.mkdir()
    with closing(sqlite3.connect(outbox_path)) as database, database:
        for statement in (*outbox_file._SCHEMA, *outbox_file._UPGRADES[1]):
            database.execute(statement)
        database.execute("INSERT INTO meta VALUES ('schema', '2')")
        for number in range(200):
            database.execute(
                "INSERT INTO messages (message_id, vhost, ordering_key, type, routing_key, timestamp, callnumber, body,"
                " created) VALUES (?, 't', 'k', 'received-call', 'received-call.open', 1, 1, ?, 1.0)",
                (f"{number}:open", bytes(6000)),
            )
    spoil(outbox_path, 0.45, 0.55)
    held, _, _ = read_all(outbox_path, run)
    assert len(held) > 100


def test_damage_under_a_running_daemon_loses_nothing_that_is_asked_for(outbox_path, message, run):
    """The file goes bad while it is open: the append that meets the damage is done on the new file."""
    told = []

    async def scenario():
        async with opened(outbox_path, on_trouble=told.append) as outbox:
            await outbox.append([message("a")])
            with closing(sqlite3.connect(outbox_path)) as other:
                other.execute("PRAGMA writable_schema = ON")
                other.execute("UPDATE sqlite_master SET rootpage = 9999 WHERE name = 'messages_by_vhost'")
                other.commit()
                other.execute("PRAGMA schema_version = 99")
            await outbox.append([message("b")], marks={"callnumber/pbx": 5})
            return ids(await outbox.read_pending("t", after_seq=0, limit=10)), await outbox.mark("callnumber/pbx")

    with structlog.testing.capture_logs() as logs:
        held, mark = run(scenario())
    assert held == ["a:open", "b:open"]
    assert mark == 5
    assert [bool(text) for text in told] == [True, False]
    assert "set aside" in logs[0]["event"]


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_a_crash_while_a_damaged_file_is_replaced_is_made_good(outbox_path, message, run, renamed):
    """After each rename of the three, the next start finds what was rescued, and joins it with no old journal."""
    fill(outbox_path, message, run, 5)
    outbox_path.rename(outbox_path.with_name("outbox.db.rescued"))
    for suffix in ("", "-wal", "-shm")[renamed:]:
        outbox_path.with_name(f"outbox.db{suffix}").write_bytes(b"rubbish" * 1000)
    held, mark, _ = read_all(outbox_path, run)
    if renamed == 0:  # the damaged file is still in its place: the rescue begins anew
        assert (held, mark) == ([], 0)
    else:
        assert ids(held) == [f"{number:03}:open" for number in range(5)]
        assert mark == 7
    assert {path.name for path in outbox_path.parent.iterdir() if "damaged" not in path.name} == {"outbox.db"}


def test_opening_gives_up_where_only_an_operator_can_help(outbox_path, run, monkeypatch):
    """A schema of a newer program under a damaged one's name is no damage."""
    with closing(open_database(outbox_path, "FULL")) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(OutboxError, match="schema version 99"):
        run(Outbox(outbox_path).open())
    assert [path.name for path in outbox_path.parent.iterdir()] == ["outbox.db"]
