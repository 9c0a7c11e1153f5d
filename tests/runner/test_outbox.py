"""The outbox keeps what it said it has, whatever happens to the process."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from itertools import pairwise

import msgspec
import pytest

from arimonitor_runner.outbox import Outbox, OutboxError

WRITER = """
import asyncio, sys
from pathlib import Path
from arimonitor_core.effects import PublishMessage
from arimonitor_runner.outbox import Outbox

async def main():
    outbox = Outbox(Path(sys.argv[1]))
    await outbox.open()
    number = 0
    while True:
        batch = []
        for _ in range(number % 7 + 1):
            number += 1
            batch.append(PublishMessage(vhost="t", type="received-call", routing_key="received-call.open",
                message_id=f"{number}:open", ordering_key=str(number), timestamp=1, callnumber=number, body=b"{}"))
        appended = await outbox.append(batch, marks={"callnumber/pbx": number})
        if number % 3 == 0:
            outbox.confirm([appended.stored[0].seq])
        print(number, flush=True)

asyncio.run(main())
"""


def opened(path, **options):
    """An outbox, as an asynchronous context manager."""

    class Opened:
        async def __aenter__(self):
            self.outbox = Outbox(path, **options)
            await self.outbox.open()
            return self.outbox

        async def __aexit__(self, *_):
            await self.outbox.close()

    return Opened()


def ids(messages):
    return [message.message_id for message in messages]


def test_messages_come_back_in_order_after_a_restart(outbox_path, message, run):
    """What was stored and not confirmed is there the next time, in the order it was stored."""

    async def first():
        async with opened(outbox_path) as outbox:
            appended = await outbox.append([message("a"), message("b"), message("a", "oncall")])
            outbox.confirm([appended.stored[1].seq])

    async def second():
        async with opened(outbox_path) as outbox:
            return await outbox.read_pending("t", after_seq=0, limit=10), await outbox.pending_vhosts()

    run(first())
    messages, vhosts = run(second())
    assert ids(messages) == ["a:open", "a:oncall"]
    assert messages[0].body == message("a").body
    assert vhosts == ["t"]


def test_a_repeated_message_is_kept_once_and_a_changed_one_is_kept_out(outbox_path, message, run):
    """An equal body under a known message_id is a repeat; another body is an error, and the first one stays."""

    async def scenario():
        async with opened(outbox_path) as outbox:
            await outbox.append([message("a")])
            again = await outbox.append([message("a"), message("b"), message("a", body=b"{}")])
            return again, await outbox.read_pending("t", after_seq=0, limit=10)

    again, held = run(scenario())
    assert again.repeated == ["a:open"]
    assert again.conflicting == ["a:open"]
    assert ids(again.stored) == ["b:open"]
    assert [(m.message_id, m.body) for m in held] == [("a:open", message("a").body), ("b:open", message("b").body)]


def test_a_sequence_number_is_never_used_twice(outbox_path, message, run):
    """Not even when the outbox was empty in between and the process restarted."""

    async def store(call):
        async with opened(outbox_path) as outbox:
            (stored,) = (await outbox.append([message(call)])).stored
            outbox.confirm([stored.seq])
            return stored.seq

    assert run(store("a")) < run(store("b"))


def test_a_mark_only_rises_and_survives(outbox_path, message, run):
    """The highest call number of each server is kept with the messages."""

    async def scenario():
        async with opened(outbox_path) as outbox:
            assert await outbox.mark("callnumber/pbx") == 0
            await outbox.append([message("a")], marks={"callnumber/pbx": 9})
            await outbox.append([], marks={"callnumber/pbx": 10, "callnumber/other": 3})
            await outbox.append([], marks={"callnumber/pbx": 4})
        async with opened(outbox_path) as outbox:
            return await outbox.mark("callnumber/pbx"), await outbox.mark("callnumber/other")

    assert run(scenario()) == (10, 3)


def test_what_stands_behind_a_parked_message_is_not_read(outbox_path, message, run):
    """A parked message holds back the later ones of its ordering key, and only those."""

    async def scenario():
        async with opened(outbox_path) as outbox:
            stored = (await outbox.append([message("a"), message("b"), message("a", "oncall"), message("c")])).stored
            outbox.park(stored[0].seq, "returned: NO_ROUTE")
            outbox.note_failure(stored[1].seq, "nacked")
            readable = await outbox.read_pending("t", after_seq=0, limit=10)
            return ids(readable), await outbox.parked_keys("t"), await outbox.counts()

    readable, keys, counts = run(scenario())
    assert readable == ["b:open", "c:open"]
    assert keys == {"a"}
    assert counts == {"t": {"pending": 3, "parked": 1}}
    rows = sqlite3.connect(outbox_path).execute("SELECT message_id, attempts, reason FROM messages WHERE attempts > 0")
    assert list(rows) == [("a:open", 1, "returned: NO_ROUTE"), ("b:open", 1, "nacked")]


def test_pages_follow_each_other_without_gap_or_overlap(outbox_path, message, run):
    """Reading on after the last seq of a page gives the next message."""

    async def scenario():
        async with opened(outbox_path) as outbox:
            await outbox.append([message(f"{n}", vhost=f"v{n % 2}") for n in range(20)])
            first = await outbox.read_pending("v0", after_seq=0, limit=4)
            return first + await outbox.read_pending("v0", after_seq=first[-1].seq, limit=10)

    assert ids(run(scenario())) == [f"{n}:open" for n in range(0, 20, 2)]


@pytest.mark.parametrize(("needs_vhost", "state"), [(True, "parked"), (False, "pending")])
def test_a_message_without_a_vhost_is_parked_where_one_is_needed(outbox_path, message, run, needs_vhost, state):
    """A broker cannot take it, a local sink can."""

    async def scenario():
        async with opened(outbox_path, needs_vhost=needs_vhost) as outbox:
            appended = await outbox.append([message("a", vhost="")])
            return ids(appended.parked), ids(appended.stored), await outbox.counts()

    parked, stored, counts = run(scenario())
    assert (parked, stored) == ((["a:open"], []) if needs_vhost else ([], ["a:open"]))
    assert counts == {"": {state: 1}}


def test_an_endpoints_state_without_a_vhost_is_dropped(outbox_path, message, run):
    """A trunk of no client comes and goes for years: its old states are of no use to anybody."""
    state = msgspec.structs.replace(message("1121:Reachable", vhost=""), type="endpoint-status")

    async def scenario():
        async with opened(outbox_path) as outbox:
            return (await outbox.append([state])).dropped, await outbox.counts()

    assert run(scenario()) == ([state.message_id], {})


@pytest.mark.parametrize("acknowledged", [1, 40, 200])
def test_sigkill_loses_nothing_that_was_acknowledged(outbox_path, run, acknowledged):
    """A process killed between and inside commits leaves everything that it had reported as stored."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(outbox_path)], stdout=subprocess.PIPE, text=True)
    for _ in range(acknowledged):
        last = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    rest = writer.communicate()[0].split()
    assert writer.returncode == -signal.SIGKILL
    last = int(rest[-1]) if rest else last

    async def look():
        async with opened(outbox_path) as outbox:
            return await outbox.read_pending("t", after_seq=0, limit=10**6), await outbox.mark("callnumber/pbx")

    messages, mark = run(look())
    numbers = [int(message.ordering_key) for message in messages]
    assert numbers == sorted(set(numbers))
    # Confirmed ones may be gone; they are the first of a batch, so what is missing never stands in sequence.
    missing = sorted(set(range(1, last + 1)) - set(numbers))
    assert all(late - early > 1 for early, late in pairwise(missing))
    assert mark >= last


def test_work_that_waits_is_committed_together(outbox_path, message, run):
    """While one commit runs, all that comes in becomes one transaction: a thousand appends need few commits."""

    async def scenario():
        async with opened(outbox_path) as outbox:
            commits = 0
            transact = outbox._transact

            def counted(connection, jobs):
                nonlocal commits
                commits += 1
                return transact(connection, jobs)

            outbox._transact = counted
            await asyncio.gather(*(outbox.append([message(f"{n}")]) for n in range(1000)))
            return commits, len(await outbox.read_pending("t", after_seq=0, limit=2000))

    commits, stored = run(scenario())
    assert stored == 1000
    assert commits < 100


def test_the_file_and_its_folder_belong_to_the_daemon_alone(outbox_path, run):
    """Call data is not readable by others."""

    async def scenario():
        async with opened(outbox_path):
            pass

    run(scenario())
    assert stat.S_IMODE(outbox_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(outbox_path.parent.stat().st_mode) == 0o700


def test_closing_leaves_no_thread_and_no_side_file(outbox_path, message, run):
    """After close there is the database file and nothing else, and what was asked for last is done."""

    async def scenario():
        outbox = Outbox(outbox_path)
        await outbox.open()
        stored = (await outbox.append([message("a"), message("b")])).stored
        outbox.confirm([stored[0].seq])
        await outbox.close()
        await outbox.close()
        with pytest.raises(OutboxError, match="closed"):
            outbox.confirm([1])

    run(scenario())
    assert [thread.name for thread in threading.enumerate() if thread.name == "outbox"] == []
    assert [path.name for path in outbox_path.parent.iterdir()] == ["outbox.db"]
    assert sqlite3.connect(outbox_path).execute("SELECT message_id FROM messages").fetchall() == [("b:open",)]


def test_an_unreadable_file_is_named(outbox_path, run):
    """The error says which file and why."""
    outbox_path.parent.mkdir()
    outbox_path.write_text("this is no database, and long enough to be sure of that" * 20)
    with pytest.raises(OutboxError, match=r"outbox\.db: file is not a database"):
        run(Outbox(outbox_path).open())


def test_a_schema_of_another_version_is_refused(outbox_path, run):
    """A file of a newer program is not written to."""

    async def make():
        async with opened(outbox_path):
            pass

    run(make())
    with sqlite3.connect(outbox_path) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    connection.close()
    with pytest.raises(OutboxError, match="schema version 99"):
        run(Outbox(outbox_path).open())


def test_a_failed_transaction_is_reported_and_changes_nothing(outbox_path, message, run):
    """A full disk (here: SQLite's own page limit) fails the append, tells the daemon, and leaves what was there."""
    told = []

    async def scenario():
        async with opened(outbox_path, on_failure=told.append) as outbox:
            await outbox.append([message("a")])
            await outbox._submit(lambda connection: connection.execute("PRAGMA max_page_count = 1").fetchone())
            with pytest.raises(OutboxError, match=r"outbox\.db: database or disk is full"):
                await outbox.append([message("b", body=b"x" * 100_000)], marks={"callnumber/pbx": 5})
            return ids(await outbox.read_pending("t", after_seq=0, limit=10)), await outbox.mark("callnumber/pbx")

    assert run(scenario()) == (["a:open"], 0)
    assert len(told) == 1
