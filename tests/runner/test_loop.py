"""The loop: every input into the core, every effect out of it, nothing offered before it is on disk."""

import asyncio
import sqlite3
import time
from contextlib import asynccontextmanager

import pytest
import structlog

from arimonitor_core.effects import Diagnostic, PrintEvent
from arimonitor_core.inputs import AriEventReceived, DeadlineReached
from arimonitor_runner.input_queue import InputQueue, now
from arimonitor_runner.loop import BATCH_MAX, Checkpoints, CoreLoop, Observer
from arimonitor_runner.outbox import Outbox
from arimonitor_runner.outbox_marks import callnumber_mark, journal_mark
from arimonitor_runner.sinks import LocalSink
from tests.runner.waiting import until


class ScriptedCore:
    """Stands in for the core: does for each input what the test says."""

    def __init__(self, effects_of=lambda item: ()):
        self.effects_of = effects_of
        self.handled = []
        self.deadline = None

    def handle(self, item):
        """Note the input; give the script's effects."""
        self.handled.append(item)
        if isinstance(item, DeadlineReached):
            self.deadline = None
        return self.effects_of(item)

    def next_deadline(self):
        """As the test set it."""
        return self.deadline


def event(number):
    return AriEventReceived(now(), str(number).encode())


class MemoryJournal:
    """Counts positions and remembers what it was given."""

    def __init__(self, position=0):
        self.position = self.secured = position
        self.records = []

    async def append(self, records):
        """One more position for each."""
        await asyncio.sleep(0)
        self.records += records
        self.position += len(records)
        return self.position

    async def secure(self):
        """Note how far."""
        self.secured = self.position


class Running:
    """A loop with a real outbox and a local sink, and what came out."""

    def __init__(self, core, queue, outbox, sink, loop):
        self.core, self.queue, self.outbox, self.sink, self.loop = core, queue, outbox, sink, loop
        self.delivered = []

    def feed(self, *items):
        """Put inputs where the ARI feed puts them."""
        for item in items:
            assert self.queue.put(item)


@asynccontextmanager
async def running(path, core, **options):
    outbox = Outbox(path, synchronous="NORMAL", needs_vhost=options.pop("needs_vhost", True))
    await outbox.open()
    delivered = []
    sink = LocalSink(outbox, lambda message: delivered.append(message.message_id))
    queue = InputQueue(100_000)
    loop = CoreLoop(core, queue, outbox, sink, server="pbx", **{"journal": MemoryJournal(), **options})
    parts = Running(core, queue, outbox, sink, loop)
    parts.delivered = delivered
    task = asyncio.create_task(loop.run())
    try:
        yield parts
    finally:
        loop.stop()
        await asyncio.gather(task, return_exceptions=True)
        await outbox.close()
    task.result()


def test_messages_go_out_in_the_order_of_their_inputs(outbox_path, message, run):
    """Over many batches and commits; the highest call number is kept with them."""
    core = ScriptedCore(lambda item: [message(item.raw.decode(), callnumber=int(item.raw) % 700)])

    async def scenario():
        async with running(outbox_path, core) as parts:
            for start in range(0, 2000, 100):
                parts.feed(*(event(n) for n in range(start, start + 100)))
                await asyncio.sleep(0)
            await until(lambda: len(parts.delivered) == 2000)
            return parts.delivered, parts.loop.statistics(), await parts.outbox.mark(callnumber_mark("pbx"))

    delivered, counts, mark = run(scenario())
    assert delivered == [f"{n}:open" for n in range(2000)]
    assert (counts["inputs"], counts["messages"]) == (2000, 2000)
    assert mark == 699


def test_nothing_is_offered_before_it_is_on_disk(outbox_path, message, run):
    """When the sink hears of a message, a reader of the file already finds it; observers hear of both."""
    seen = []

    class Watch(Observer):
        def handled(self, item, effects):
            """Told per input."""
            seen.append(("handled", item.raw, len(effects)))

        def stored(self, messages):
            """Told per commit."""
            seen.append(("stored", [m.message_id for m in messages]))

    class Sink:
        """Looks into the outbox when it is offered something."""

        def offer(self, messages):
            """Read with a connection of its own."""
            import sqlite3  # noqa: PLC0415  # only this sink needs it

            with sqlite3.connect(outbox_path) as connection:
                rows = connection.execute("SELECT message_id FROM messages").fetchall()
            connection.close()
            seen.append(("offered", [m.message_id for m in messages], rows))

    async def scenario():
        outbox = Outbox(outbox_path)
        await outbox.open()
        queue = InputQueue(10)
        core = ScriptedCore(lambda item: [message(item.raw.decode())])
        loop = CoreLoop(core, queue, outbox, Sink(), server="pbx", journal=MemoryJournal(), observers=[Watch()])
        queue.put(event(1))
        loop.stop()
        await loop.run()
        await outbox.close()

    run(scenario())
    assert seen == [
        ("handled", b"1", 1),
        ("offered", ["1:open"], [("1:open",)]),
        ("stored", ["1:open"]),
    ]


def test_effects_for_people_are_told(outbox_path, run, capsys):
    """A diagnostic becomes a log line with its call; an event to print is handed on."""
    printed = []
    effects = [
        Diagnostic(severity="warning", reason="illegal-transition", detail="oncall before open", call_id="guid"),
        Diagnostic(severity="info", reason="plain"),
        PrintEvent(received_at=1.0, raw=b"{}"),
    ]

    async def scenario():
        async with running(outbox_path, ScriptedCore(lambda item: effects), on_print=printed.append) as parts:
            parts.feed(event(1))
            await until(lambda: printed)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert logs == [
        {"event": "illegal-transition", "detail": "oncall before open", "call": "guid", "log_level": "warning"},
        {"event": "plain", "detail": "", "log_level": "info"},
    ]
    assert printed == [effects[2]]


def test_a_deadline_is_fed_when_its_time_has_come(outbox_path, run):
    """Not before, and not again once it is done."""

    async def scenario():
        core = ScriptedCore()
        core.deadline = due = time.time() + 0.05
        async with running(outbox_path, core):
            await until(lambda: core.handled)
        return core.handled, due

    (deadline,), due = run(scenario())
    assert isinstance(deadline, DeadlineReached)
    assert deadline.received_at >= due


def test_a_deadline_waits_until_no_event_does(outbox_path, run):
    """Events that wait are older than the timer: they go first, all of them."""

    async def scenario():
        core = ScriptedCore()
        async with running(outbox_path, core) as parts:
            core.deadline = time.time() - 1
            parts.feed(*(event(n) for n in range(BATCH_MAX + 1)))
            await until(lambda: core.deadline is None)
        return [type(item).__name__ for item in core.handled]

    assert run(scenario()) == ["AriEventReceived"] * (BATCH_MAX + 1) + ["DeadlineReached"]


def test_an_event_interrupts_the_wait_for_a_deadline(outbox_path, run):
    """What comes in is handled at once, however far the deadline is."""

    async def scenario():
        core = ScriptedCore()
        core.deadline = time.time() + 1000
        async with running(outbox_path, core) as parts:
            await asyncio.sleep(0)
            parts.feed(event(1))
            await until(lambda: core.handled)

    run(scenario())


def test_a_message_of_no_client_goes_to_the_default_vhost(outbox_path, message, run):
    """Where the operator set one."""
    core = ScriptedCore(lambda item: [message("a", vhost=""), message("b", vhost="own")])

    async def scenario():
        vhosts = []
        async with running(outbox_path, core, default_vhost="rest") as parts:
            parts.sink._on_message = lambda stored: vhosts.append(stored.vhost)
            parts.feed(event(1))
            await until(lambda: len(vhosts) == 2)
        return vhosts

    assert run(scenario()) == ["rest", "own"]


def test_a_message_of_no_client_is_kept_back_and_said(outbox_path, message, run):
    """Where there is no default: counted, reported, and not lost."""
    core = ScriptedCore(lambda item: [message("a", vhost="")])

    async def scenario():
        async with running(outbox_path, core) as parts:
            parts.feed(event(1))
            await until(lambda: parts.loop.counts.without_vhost)
            return await parts.outbox.counts()

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == {"": {"parked": 1}}
    assert logs[0]["message_id"] == "a:open"
    assert "call belongs to no client" in logs[0]["event"]


def test_a_message_decided_twice_is_delivered_once(outbox_path, message, run):
    """A repeat is counted; another body under the same id is an error."""
    bodies = iter([b"1", b"1", b"2"])
    core = ScriptedCore(lambda item: [message("a", vhost="", body=next(bodies))])

    async def scenario():
        async with running(outbox_path, core) as parts:
            for _ in range(3):
                parts.feed(event(1))
            await until(lambda: parts.loop.counts.conflicting)
            return parts.loop.statistics()

    with structlog.testing.capture_logs() as logs:
        counts = run(scenario())
    assert (counts["without_vhost"], counts["repeated"], counts["conflicting"]) == (1, 1, 1)
    assert [log["event"] for log in logs if log["log_level"] == "error"] == [
        "a message was decided twice with different contents; the first one stays"
    ]


def test_stopping_handles_what_is_queued(outbox_path, message, run):
    """All that was heard before the stop becomes messages, on disk and offered."""
    core = ScriptedCore(lambda item: [message(item.raw.decode())])

    async def scenario():
        async with running(outbox_path, core) as parts:
            parts.feed(*(event(n) for n in range(3 * BATCH_MAX)))
            parts.loop.stop()
        return parts.delivered

    assert len(run(scenario())) == 3 * BATCH_MAX


def test_an_input_that_the_core_fails_at_is_counted_and_passed(outbox_path, message, run):
    """It is in the journal: a daemon that ended here would end here again after every restart."""

    def effects_of(item):
        if item.raw == b"2":
            raise RuntimeError("a fault in the core")
        return [message(item.raw.decode())]

    async def scenario():
        async with running(outbox_path, ScriptedCore(effects_of)) as parts:
            parts.feed(*(event(n) for n in range(4)))
            await until(lambda: len(parts.delivered) == 3)
            return parts.delivered, parts.loop.counts.faults

    with structlog.testing.capture_logs() as logs:
        delivered, faults = run(scenario())
    assert (delivered, faults) == (["0:open", "1:open", "3:open"], 1)
    assert [log["kind"] for log in logs if log["log_level"] == "error"] == ["AriEventReceived"]


def test_an_input_is_in_the_journal_before_the_core_sees_it(outbox_path, run):
    """Inputs and deadlines alike."""
    journal = MemoryJournal()
    known = []

    class Core(ScriptedCore):
        def handle(self, item):
            """Look into the journal."""
            known.append(item in journal.records)
            return super().handle(item)

    async def scenario():
        core = Core()
        async with running(outbox_path, core, journal=journal) as parts:
            core.deadline = time.time() - 1
            parts.feed(*(event(n) for n in range(BATCH_MAX + 1)))
            await until(lambda: core.deadline is None)
            return parts.loop.position

    assert run(scenario()) == BATCH_MAX + 2
    assert known == [True] * (BATCH_MAX + 2)


def test_no_message_is_stored_before_its_inputs_survive_a_power_cut(outbox_path, message, run):
    """Else a call could be told of that nobody knows after it."""
    journal, secured = MemoryJournal(), []

    class Store(Outbox):
        async def append(self, messages, *, marks=None):
            """Look at the journal."""
            secured.append(journal.secured >= marks[journal_mark("pbx")])
            return await super().append(messages, marks=marks)

    async def scenario():
        outbox = Store(outbox_path)
        await outbox.open()
        queue = InputQueue(100)
        core = ScriptedCore(lambda item: [message(item.raw.decode())])
        loop = CoreLoop(core, queue, outbox, LocalSink(outbox, lambda _: None), server="pbx", journal=journal)
        for number in range(3):
            queue.put(event(number))
        loop.stop()
        await loop.run()
        await outbox.close()

    run(scenario())
    assert secured == [True]


def test_messages_are_stored_with_the_position_that_caused_them(outbox_path, message, run):
    """The mark in the same commit; what a crash kept from being stored is stored first, with its own."""

    async def scenario():
        async with running(outbox_path, ScriptedCore(lambda item: [message("new")]), journal=MemoryJournal(7)) as parts:
            await parts.loop.resume([(5, message("older")), (6, message("old"))])
            marks = [await parts.outbox.mark(journal_mark("pbx"))]
            parts.feed(event(1))
            await until(lambda: len(parts.delivered) == 3)
            return parts.delivered, [*marks, await parts.outbox.mark(journal_mark("pbx"))]

    assert run(scenario()) == (["older:open", "old:open", "new:open"], [6, 8])


class Shelf:
    """Where checkpoints go: remembers them, and what was in the outbox by then."""

    def __init__(self, outbox_path, clock, *, error=None):
        self.outbox_path, self.clock, self.error = outbox_path, clock, error
        self.kept = []
        self.wanted = 0
        self.checkpoints = Checkpoints(take=self.take, keep=self.keep, interval_s=100, first_s=10)

    def take(self):
        """The state is a number."""
        self.wanted += 1
        return b"%d" % self.wanted

    async def keep(self, position, document):
        """Note it."""
        if self.error is not None:
            raise self.error
        with sqlite3.connect(self.outbox_path) as connection:
            (mark,) = connection.execute("SELECT value FROM meta WHERE key = 'mark/journal/pbx'").fetchone()
        connection.close()
        self.kept.append((position, document, int(mark)))


@pytest.fixture
def clock():
    """Time that stands still until it is told."""

    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    return Clock()


def test_the_state_is_kept_now_and_then_and_at_the_end(outbox_path, message, clock, run):
    """Ten seconds after the start, then by interval, on demand, at the stop; never before its effects are stored."""
    shelf = Shelf(outbox_path, clock)

    async def scenario():
        core = ScriptedCore(lambda item: [message(item.raw.decode())])
        async with running(outbox_path, core, checkpoints=shelf.checkpoints, clock=clock) as parts:
            for number, now in enumerate((1009, 1010, 1109, 1110, 1111)):
                clock.now = now
                parts.feed(event(number))
                await until(lambda wanted=number: len(parts.delivered) > wanted)
            await until(lambda: len(shelf.kept) == 2)
            asked = await parts.loop.checkpoint()
            parts.feed(event(9))
        return asked, parts.loop.counts.checkpoints

    asked, count = run(scenario())
    assert [(position, document) for position, document, _ in shelf.kept] == [
        (2, b"1"),
        (4, b"2"),
        (5, b"3"),
        (6, b"4"),
    ]
    assert all(mark >= position for position, _, mark in shelf.kept)
    assert (asked, count) == (5, 4)


def test_a_checkpoint_that_cannot_be_written_is_no_harm(outbox_path, message, clock, run):
    """Said, and told to who asked; the loop goes on."""
    shelf = Shelf(outbox_path, clock, error=OSError(28, "No space left on device"))

    async def scenario():
        core = ScriptedCore(lambda item: [message(item.raw.decode())])
        async with running(outbox_path, core, checkpoints=shelf.checkpoints, clock=clock) as parts:
            parts.feed(event(1))
            await until(lambda: parts.delivered)
            with pytest.raises(OSError, match="No space left"):
                await parts.loop.checkpoint()
            parts.feed(event(2))
            await until(lambda: len(parts.delivered) == 2)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert len([log for log in logs if "snapshot could not be written" in log["event"]]) == 2


def test_without_checkpoints_none_can_be_asked_for(outbox_path, run):
    """A loop in a test, or a tool."""

    async def scenario():
        async with running(outbox_path, ScriptedCore()) as parts:
            with pytest.raises(RuntimeError, match="keeps no checkpoints"):
                await parts.loop.checkpoint()

    run(scenario())


def test_a_local_sink_delivers_what_an_earlier_run_left(outbox_path, message, run):
    """At its start, in order, page by page, every vhost."""

    async def scenario():
        outbox = Outbox(outbox_path)
        await outbox.open()
        await outbox.append([message(f"{n}", vhost=f"v{n % 2}") for n in range(10)])
        delivered = []
        sink = LocalSink(outbox, lambda stored: delivered.append(stored.message_id), page_size=2)
        await sink.start()
        assert await sink.drain(1)
        await sink.close()
        left = await outbox.counts()
        await outbox.close()
        return delivered, left

    delivered, left = run(scenario())
    assert sorted(delivered) == sorted(f"{n}:open" for n in range(10))
    assert delivered[:5] in ([f"{n}:open" for n in (0, 2, 4, 6, 8)], [f"{n}:open" for n in (1, 3, 5, 7, 9)])
    assert left == {}
