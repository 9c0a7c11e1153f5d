"""The outbox keeps what it said it has, whatever happens to the process."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from itertools import pairwise

import msgspec
import pytest
import structlog

from arimonitor_core.effects import RecordedFile, StoreRecordings
from arimonitor_runner import outbox_file
from arimonitor_runner.outbox import Outbox, OutboxError
from arimonitor_runner.outbox_waiting import next_release_at, overdue, release

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
            attempt = outbox._thread._attempt

            def counted(jobs):
                nonlocal commits
                commits += 1
                return attempt(jobs)

            outbox._thread._attempt = counted
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


def test_a_folder_that_cannot_be_made_is_named(outbox_path, run):
    """The error says which file and why."""
    outbox_path.parent.write_text("a file where the folder should be")
    with pytest.raises(OutboxError, match=r"outbox\.db: .*File exists"):
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


def old_file(path, version):
    """An outbox as an older program left it, with one message of number 7."""
    path.parent.mkdir()
    statements = list(outbox_file._SCHEMA)
    for step in range(1, version):
        statements += outbox_file._UPGRADES[step]
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('schema', ?), ('mark/callnumber/pbx', '9')", (str(version),))
        connection.execute(
            "INSERT INTO messages VALUES (7, 'a:open', 't', 'a', 'received-call', 'received-call.open', 1, 9, x'7b7d',"
            " 1.5, 3, 'parked', 'returned')"
        )
        connection.commit()


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_older_version_is_upgraded(outbox_path, message, run, version):
    """What an older program stored is delivered, with its number; numbers and marks go on."""
    old_file(outbox_path, version)

    async def look():
        async with opened(outbox_path) as outbox:
            before = await outbox.counts()
            retried = await outbox.retry_parked("t")
            stored = (await outbox.append([message("b")])).stored
            read = await outbox.read_pending("t", after_seq=0, limit=10)
            return (
                before,
                retried,
                stored[0].seq,
                [(m.seq, m.message_id) for m in read],
                await outbox.mark("callnumber/pbx"),
            )

    assert run(look()) == ({"t": {"parked": 1}}, [7], 8, [(7, "a:open"), (8, "b:open")], 9)
    with closing(sqlite3.connect(outbox_path)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE sql IS NOT NULL")}
    assert {"messages_momentary", "messages_by_vhost", "messages_parked", "messages_waiting", "recordings"} <= names


@pytest.mark.parametrize("is_empty", [False, True])
def test_numbers_go_on_after_an_upgrade_whatever_is_left(outbox_path, message, run, is_empty):
    """A number that was given once is never given again, even where no message is left."""
    old_file(outbox_path, 2)
    if is_empty:
        with closing(sqlite3.connect(outbox_path)) as connection:
            connection.execute("DELETE FROM messages")
            connection.commit()

    async def add():
        async with opened(outbox_path) as outbox:
            return (await outbox.append([message("b")])).stored[0].seq

    assert run(add()) == 8


def recorded(message, guid, *, files=1):
    """A closed message and what it waits for."""
    closed = message(guid, "closed")
    files = tuple(RecordedFile(f"/spool/{guid}{number}.wav", f"http://a/{guid}{number}.mp3", not number)
                  for number in range(files))  # fmt: skip
    body = msgspec.json.encode({"data": {"urlfilename": files[0].url, "recordings": [file.url for file in files]}})
    store = StoreRecordings(
        message_id=closed.message_id, guid=guid, callnumber=1, vhost="t", client="112", origin="1121", destiny="1122",
        created_ms=1000, answered_ms=2000, ended_ms=5000, files=files,
    )  # fmt: skip
    return [store, msgspec.structs.replace(closed, body=body)]


def test_a_message_that_waits_is_not_delivered_and_holds_back_its_call(outbox_path, message, run):
    """Released, it has a new number, and what it held back comes after it; other calls go on."""

    async def scenario():
        async with opened(outbox_path) as outbox:
            outbox.keep_recordings = lambda _connection, store: store.ended_ms / 1000
            first = await outbox.append([message("a"), *recorded(message, "a"), message("a", "late"), message("b")])
            later = await outbox.append([message("a", "later"), message("c")])
            read = ids(await outbox.read_pending("t", after_seq=0, limit=10))
            due = await outbox.transact(lambda connection: (overdue(connection, 4.9), overdue(connection, 5.0)))
            due += (await outbox.transact(next_release_at),)
            released = await outbox.transact(lambda connection: release(connection, "a:closed", bytes.upper))
            again = await outbox.transact(lambda connection: release(connection, "a:closed", bytes.upper))
            after = await outbox.transact(next_release_at)
            pending = await outbox.read_pending("t", after_seq=0, limit=10)
            return first, later, read, due, released, again, after, pending

    first, later, read, due, released, again, after, pending = run(scenario())
    assert (ids(first.stored), first.waiting) == (["a:open", "b:open"], ["a:closed"])
    assert (ids(later.stored), read) == (["c:open"], ["a:open", "b:open", "c:open"])
    assert due == ([], ["a:closed"], 5.0)
    assert ids(released) == ["a:closed", "a:late", "a:later"]
    assert min(m.seq for m in released) > max(m.seq for m in first.stored + later.stored)
    assert released[0].body == recorded(message, "a")[1].body.upper()
    assert (again, after) == (None, None)
    assert pending == [*first.stored, *later.stored, *released]


def test_without_a_keeper_of_recordings_no_message_waits(outbox_path, message, run):
    """As where no audio server is known."""

    async def scenario():
        async with opened(outbox_path) as outbox:
            return await outbox.append(recorded(message, "a"))

    assert ids(run(scenario()).stored) == ["a:closed"]


def test_a_fault_of_our_own_is_reported_and_changes_nothing(outbox_path, message, run):
    """No trouble of the disk: the append fails, the daemon hears of it, and what was there stays."""
    told = []

    async def scenario():
        async with opened(outbox_path, on_failure=told.append) as outbox:
            await outbox.append([message("a")])
            with pytest.raises(OutboxError, match=r"outbox\.db: .*bind"):
                await outbox.append([message("b"), message("c", vhost=object())], marks={"callnumber/pbx": 5})
            return ids(await outbox.read_pending("t", after_seq=0, limit=10)), await outbox.mark("callnumber/pbx")

    assert run(scenario()) == (["a:open"], 0)
    assert len(told) == 1


def test_parked_messages_are_tried_again_in_order(outbox_path, message, run):
    """The one tried least often first; what stands behind a retried one can be read again."""

    async def scenario():
        async with opened(outbox_path) as outbox:
            stored = (await outbox.append([message("a"), message("b"), message("a", "oncall"), message("c")])).stored
            for number in (0, 0, 1, 3):
                outbox.park(stored[number].seq, "returned")
            assert await outbox.parked_vhosts() == ["t"]
            first = await outbox.retry_parked("t", limit=1)
            after_first = ids(await outbox.read_pending("t", after_seq=0, limit=10))
            rest = await outbox.retry_parked("t")
            seqs = [message.seq for message in stored]
            assert (first, rest) == ([seqs[1]], [seqs[0], seqs[3]])
            return after_first, ids(await outbox.read_pending("t", after_seq=0, limit=10)), await outbox.parked_vhosts()

    assert run(scenario()) == (["b:open"], ["a:open", "b:open", "a:oncall", "c:open"], [])


def test_a_change_by_another_process_is_noticed_once(outbox_path, message, run):
    """Own changes are none, and reading is none."""

    async def scenario():
        async with opened(outbox_path) as outbox:
            noticed = [await outbox.changed_outside()]
            await outbox.append([message("a")])
            noticed.append(await outbox.changed_outside())
            with closing(sqlite3.connect(outbox_path)) as other:
                assert other.execute("SELECT count(*) FROM messages").fetchone() == (1,)
                noticed.append(await outbox.changed_outside())
                with other:
                    other.execute("UPDATE messages SET reason = 'looked at'")
            noticed.append(await outbox.changed_outside())
            noticed.append(await outbox.changed_outside())
            return noticed

    assert run(scenario()) == [False, False, False, True, False]


def test_only_momentary_messages_are_dropped_when_there_are_too_many(outbox_path, message, run):
    """The oldest states of endpoints go, in steps; messages of calls stay, also above the bound."""

    def state(number):
        return msgspec.structs.replace(message(f"endpoint:{number}"), type="endpoint-status")

    async def scenario():
        async with opened(outbox_path, rows_max=100) as outbox:
            for number in range(60):
                await outbox.append([message(f"{number}"), state(number)])
            half_way = await outbox.counts(), outbox.statistics()["dropped"]
            await outbox.append([message(f"{number}") for number in range(60, 160)])
            held = await outbox.read_pending("t", after_seq=0, limit=1000)
            for stored in held[20:]:
                outbox.confirm([stored.seq])
            await outbox.append([message("last"), message("after")])
            return half_way, held, outbox.statistics()["dropped"]

    with structlog.testing.capture_logs() as logs:
        half_way, held, dropped = run(scenario())
    counts, dropped_half_way = half_way
    assert 98 <= counts["t"]["pending"] <= 101
    assert counts["t"]["pending"] + dropped_half_way == 120
    assert ids(held) == [f"{number}:open" for number in range(160)]
    assert dropped == 60
    said = [log["event"] for log in logs]
    assert said[0] == "the outbox fills up"
    assert any("dropped" in text for text in said)
    assert said[-1] == "the outbox has room again"
