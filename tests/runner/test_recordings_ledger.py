"""The ledger: what is to be stored comes in with its message, and what became of it goes out with one."""

import json
import sqlite3
from contextlib import asynccontextmanager, closing

import msgspec
import pytest

from arimonitor_core.effects import RecordedFile, StoreRecordings
from arimonitor_runner.outbox import Outbox
from arimonitor_runner.outbox_file import replace_damaged
from arimonitor_runner.recordings.ledger import Ledger, read_entries

BASE = "http://audio.example/voip1/"


class Clock:
    """A time that is set."""

    def __init__(self) -> None:
        self.now = 1_795_338_500.0

    def __call__(self) -> float:
        """Give it."""
        return self.now


@pytest.fixture
def clock():
    """Unix seconds."""
    return Clock()


@asynccontextmanager
async def opened(path, clock, *, max_wait_s=30.0):
    """An outbox and its ledger."""
    outbox = Outbox(path)
    await outbox.open()
    ledger = Ledger(outbox, clock=clock, max_wait_s=max_wait_s)
    ledger.open()
    try:
        yield outbox, ledger
    finally:
        await outbox.close()


def ended(message, guid="a", *paths, vhost="t"):
    """What the core decides at the end of a call with these recordings."""
    paths = paths or (f"/spool/{guid}.wav",)
    files = tuple(
        RecordedFile(path, f"{BASE}{path.rpartition('/')[2].removesuffix('.wav')}.mp3", number == 0)
        for number, path in enumerate(paths)
    )
    links = {"urlfilename": files[0].url, "recordings": [file.url for file in files]}
    closed = message(guid, "closed", vhost=vhost, body=msgspec.json.encode({"data": links}))
    store = StoreRecordings(
        message_id=closed.message_id, guid=guid, callnumber=1, vhost=vhost, client="112", origin="1121",
        destiny="1122", created_ms=1_000, answered_ms=2_000, ended_ms=5_000, files=files,
    )  # fmt: skip
    return [store, closed]


async def due(ledger, clock, busy=()):
    """The recordings that can be worked on."""
    return (await ledger.agenda(clock.now, 5, busy)).due


def said(messages):
    """The data of messages."""
    return [json.loads(message.body)["data"] for message in messages]


def test_a_message_waits_until_its_recording_is_stored(outbox_path, message, run, clock):
    """Then it goes out with the URL where that is."""

    async def scenario():
        async with opened(outbox_path, clock) as (outbox, ledger):
            appended = await outbox.append(ended(message))
            (entry,) = await due(ledger, clock)
            early = await ledger.settle("a:closed")
            changes = {"step": "verified", "url": "http://audio2.example/a.mp3"}
            told = await ledger.settle("a:closed", entry=entry, changes=changes)
            (after,) = await ledger.of_message("a:closed")
            pending = await outbox.read_pending("t", after_seq=0, limit=9)
            return appended, entry, early, told, after, pending, await ledger.counts()

    appended, entry, early, told, after, pending, counts = run(scenario())
    assert (appended.waiting, appended.stored, early) == (["a:closed"], [], [])
    assert (entry.step, entry.name, entry.wire_url, entry.told_url) == ("found", "a.mp3", f"{BASE}a.mp3", None)
    assert said(told) == [{"urlfilename": "http://audio2.example/a.mp3", "recordings": ["http://audio2.example/a.mp3"]}]
    assert pending == told
    assert (after.step, after.is_told, after.told_url) == ("published", True, "http://audio2.example/a.mp3")
    assert counts == {"published": 1}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"step": "verified"}, "stored-late"),
        ({"step": "verified", "url": "http://audio2.example/a.mp3"}, "stored-elsewhere"),
        ({"step": "given-up", "error": "nothing was recorded"}, "lost"),
    ],
)
def test_what_a_message_could_not_say_is_said_after_it(outbox_path, message, run, clock, changes, status):
    """It went out when its time was over; once it is known what became of the recording, that is told, once."""

    async def scenario():
        async with opened(outbox_path, clock) as (outbox, ledger):
            await outbox.append(ended(message))
            (entry,) = await due(ledger, clock)
            clock.now += 29
            assert (await ledger.agenda(clock.now, 5, [])).overdue == []
            clock.now += 1
            assert (await ledger.agenda(clock.now, 5, [])).overdue == ["a:closed"]
            first = await ledger.settle("a:closed", is_due=True)
            told = await ledger.settle("a:closed", entry=entry, changes=changes)
            again = await ledger.settle("a:closed")
            return first, told, again, await outbox.read_pending("t", after_seq=0, limit=9)

    first, told, again, pending = run(scenario())
    assert said(first) == [{"urlfilename": f"{BASE}a.mp3", "recordings": [f"{BASE}a.mp3"]}]
    (data,) = said(told)
    url = changes.get("url", f"{BASE}a.mp3")
    assert {**data, "reason": ""} == {
        "guid": "a", "callnumber": 1, "urlfilename": url, "status": status, "reason": "",
    }  # fmt: skip
    assert data["reason"]
    assert (again, pending) == ([], first + told)
    assert told[0].message_id == f"a:recording:a.mp3:{status}"


def test_a_message_waits_for_all_its_recordings_and_leaves_out_what_is_lost(outbox_path, message, run, clock):
    """The others are linked; what is lost is told of right after."""

    async def scenario():
        async with opened(outbox_path, clock) as (outbox, ledger):
            await outbox.append(ended(message, "a", "/spool/a.wav", "/spool/b.wav"))
            one, two = await due(ledger, clock)
            early = await ledger.settle("a:closed", entry=one, changes={"step": "given-up", "error": "empty"})
            told = await ledger.settle("a:closed", entry=two, changes={"step": "verified"})
            return early, told, [entry.step for entry in await ledger.of_message("a:closed")]

    early, (closed, lost), steps = run(scenario())
    assert early == []
    assert said([closed]) == [{"urlfilename": "", "recordings": [f"{BASE}b.mp3"]}]
    assert [(data["urlfilename"], data["status"], data["reason"]) for data in said([lost])] == [
        (f"{BASE}a.mp3", "lost", "empty")
    ]
    assert steps == ["given-up", "published"]


def test_where_nothing_may_wait_the_message_goes_out_at_once(outbox_path, message, run, clock):
    """A wait of 0: what becomes of the recording is told afterwards."""

    async def scenario():
        async with opened(outbox_path, clock, max_wait_s=0) as (outbox, ledger):
            appended = await outbox.append(ended(message))
            (entry,) = await due(ledger, clock)
            return appended.stored, await ledger.settle("a:closed", entry=entry, changes={"step": "verified"})

    stored, told = run(scenario())
    assert [m.message_id for m in stored] == ["a:closed"]
    assert [data["status"] for data in said(told)] == ["stored-late"]


def test_a_message_that_belongs_to_no_client_does_not_wait(outbox_path, message, run, clock):
    """It is parked as ever; its recording is stored all the same, where the message says."""

    async def scenario():
        async with opened(outbox_path, clock) as (outbox, ledger):
            appended = await outbox.append(ended(message, vhost=""))
            (entry,) = await due(ledger, clock)
            told = await ledger.settle("a:closed", entry=entry, changes={"step": "verified"})
            return appended, told, await outbox.counts()

    appended, told, counts = run(scenario())
    assert [m.message_id for m in appended.parked] == ["a:closed"]
    assert (told, counts) == ([], {"": {"parked": 1}})


def test_one_file_is_worked_on_once_at_a_time(outbox_path, message, run, clock):
    """Two calls may name one recording; two recordings of one name get two names."""

    async def scenario():
        async with opened(outbox_path, clock) as (outbox, ledger):
            await outbox.append([*ended(message, "a", "/spool/x.wav"), *ended(message, "b", "/spool/x.wav")])
            await outbox.append(ended(message, "0192-c" * 4, "/spool/2/x.wav"))
            first = await due(ledger, clock)
            second = await due(ledger, clock, first[:1])
            return first, second, await ledger.is_needed(first[0])

    first, second, is_needed = run(scenario())
    assert [(entry.guid[:6], entry.name) for entry in first] == [("a", "x.mp3"), ("0192-c", "x-0192-c0192-c.mp3")]
    assert second == first[1:]
    assert is_needed


def test_a_later_attempt_is_due_later(outbox_path, message, run, clock):
    """And the message before it."""

    async def scenario():
        async with opened(outbox_path, clock) as (outbox, ledger):
            await outbox.append(ended(message))
            (entry,) = await due(ledger, clock)
            await ledger.update(entry, next_try_at=clock.now + 100, attempts=1, error="no")
            before = await ledger.agenda(clock.now, 5, [])
            await ledger.settle("a:closed", is_due=True)
            after = await ledger.agenda(clock.now, 5, [])
            return before.next_due_at - clock.now, after.next_due_at - clock.now, after.due

    assert run(scenario()) == (30, 100, [])


def test_where_nobody_works_on_recordings_any_more_what_waits_goes_out(outbox_path, message, run, clock):
    """As it was decided."""

    async def scenario():
        async with opened(outbox_path, clock) as (outbox, ledger):
            effects = [*ended(message), *ended(message, "b")]
            await outbox.append(effects)
            released = await ledger.release_all()
            return effects, released, await outbox.counts()

    effects, released, counts = run(scenario())
    assert [m.body for m in released] == [effects[1].body, effects[3].body]
    assert counts == {"t": {"pending": 2}}


def test_a_repeat_after_a_crash_changes_nothing(outbox_path, message, run, clock):
    """The same effects, decided again."""

    async def scenario():
        async with opened(outbox_path, clock) as (outbox, ledger):
            await outbox.append(ended(message))
            again = await outbox.append(ended(message))
            return again, len(await ledger.of_message("a:closed"))

    again, count = run(scenario())
    assert (again.repeated, again.waiting, count) == (["a:closed"], [], 1)


def test_what_another_member_told_is_left_to_it(outbox_path, message, run, clock):
    """Its message is struck from this outbox; one that still waits here is not."""

    async def scenario():
        async with opened(outbox_path, clock) as (outbox, ledger):
            await outbox.append([*ended(message), *ended(message, "b")])
            await outbox.transact(
                lambda connection: connection.execute("DELETE FROM messages WHERE ordering_key = 'a'") and None
            )
            return await ledger.leave_to_others(6.0), [entry.guid for entry in await due(ledger, clock)]

    assert run(scenario()) == (1, ["b"])


def test_what_is_settled_is_forgotten_in_the_end(outbox_path, message, run, clock):
    """Not before its files are gone."""

    async def scenario():
        async with opened(outbox_path, clock) as (outbox, ledger):
            await outbox.append([*ended(message), *ended(message, "b"), *ended(message, "c")])
            one, two, _ = await due(ledger, clock)
            await ledger.settle("a:closed", entry=one, changes={"step": "verified"})
            await ledger.settle("b:closed", entry=two, changes={"step": "given-up"})
            clock.now += 10
            first = await ledger.prune(clock.now)
            (kept,) = await ledger.kept(9)
            await ledger.removed(kept)
            return first, await ledger.prune(clock.now), await ledger.counts()

    assert run(scenario()) == (1, 1, {"found": 1})


def test_a_damaged_file_keeps_its_ledger(outbox_path, message, run, clock):
    """What can be read of both tables goes into the new file, and the message still waits."""

    async def fill():
        async with opened(outbox_path, clock) as (outbox, _):
            await outbox.append(ended(message))

    async def look():
        async with opened(outbox_path, clock) as (outbox, ledger):
            entries = await outbox.transact(read_entries)
            return (
                entries,
                [(await ledger.agenda(clock.now + later, 5, [])).overdue for later in (0, 3600)],
                await ledger.settle("a:closed", is_due=True),
            )

    run(fill())
    replace_damaged(outbox_path)
    entries, overdue, released = run(look())
    assert [(entry.guid, entry.path) for entry in entries] == [("a", "/spool/a.wav")]
    assert overdue == [[], ["a:closed"]]
    assert [m.message_id for m in released] == ["a:closed"]
    with closing(sqlite3.connect(outbox_path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
