"""The composition root: makes the parts, joins them, has them run, and takes them down in the order that loses nothing.

Start: lock, outbox, the state that the journal holds, sink, health check, ARI. Stop: ARI first, then what is queued is
handled, committed and kept as a snapshot, then the sink delivers what it can in the time it has, then files are closed
and the lock is freed. How the lock is had, `takeover` says; what happens between start and stop, `running`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from functools import partial

import structlog
from attrs import Factory, define, evolve, frozen

from arimonitor_core.directory import Directory
from arimonitor_core.effects import PrintEvent
from arimonitor_core.inputs import CallsNumbered, ConnectionLost, DirectoryChanged
from arimonitor_core.monitor import Monitor
from arimonitor_core.policies import Policies
from arimonitor_core.snapshot import take_snapshot
from arimonitor_runner.ari import AriFeed, Hold
from arimonitor_runner.broker import Broker
from arimonitor_runner.control import ControlServer
from arimonitor_runner.directory_sources.text import LoadedDirectory, load_directory
from arimonitor_runner.disk import at_once
from arimonitor_runner.input_queue import InputQueue, now
from arimonitor_runner.journal import Journal, JournalError
from arimonitor_runner.journal.keeper import SnapshotKeeper
from arimonitor_runner.loop import Checkpoints, CoreLoop, Observer
from arimonitor_runner.orders import make_orders
from arimonitor_runner.outbox import Outbox, OutboxError, OutboxUnavailableError
from arimonitor_runner.outbox_marks import callnumber_mark, journal_mark
from arimonitor_runner.pair import PairedSink
from arimonitor_runner.pid_file import AlreadyRunning, pid_lock
from arimonitor_runner.recordings.audio import Audio
from arimonitor_runner.recordings.desk import Desk
from arimonitor_runner.recordings.ledger import Ledger
from arimonitor_runner.recordings.servers import AudioServers
from arimonitor_runner.recordings.transports import Transports
from arimonitor_runner.recovery import Recovered, recover
from arimonitor_runner.running import ExitStatus, Run
from arimonitor_runner.settings import Settings
from arimonitor_runner.sinks import LocalSink, MessageStore, Sink, StoredMessage
from arimonitor_runner.successor import Successor
from arimonitor_runner.systemd import notify_handed_over, notify_ready, notify_stopping
from arimonitor_runner.takeover import Takeover, serve_as_owner

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_HANDOVER_SIGNAL = signal.SIGHUP

_log = structlog.get_logger()


@frozen(kw_only=True)
class Seams:
    """What a caller may put in the place of the daemon's own parts."""

    make_sink: Callable[[MessageStore], Sink] | None = None
    """Where messages go instead of RabbitMQ; messages without a vhost go there, too."""
    observers: Sequence[Observer] = ()
    """Told of every input, effect and stored message."""
    on_start: Callable[[Monitor], None] = lambda _monitor: None
    """Given the core, to look at, once it is made."""
    stop: asyncio.Event | None = None
    """Set it to stop the daemon, as SIGTERM does."""
    handle_signals: bool = True
    audio: Audio | None = None
    """Where recordings go."""


async def run_daemon(settings: Settings, seams: Seams | None = None) -> ExitStatus:
    """Run the daemon until it is asked to stop, is replaced, or a part of it fails."""
    seams = seams or Seams()
    loaded = load_directory(settings.directory.folder, os.environ)
    report_problems(loaded)
    if not loaded.is_usable:
        _log.error("the directory cannot be read", folder=str(settings.directory.folder))
        return ExitStatus.MISCONFIGURED
    if settings.pair.member and not uses_broker(settings, loaded.directory):
        _log.error("a pair needs RabbitMQ: the directory names no MQ server, or broker.mode is local")
        return ExitStatus.MISCONFIGURED
    stop = seams.stop or asyncio.Event()
    try:
        successor = Successor()
        actions = dict.fromkeys(_STOP_SIGNALS, stop.set) | {_HANDOVER_SIGNAL: successor.start}
        with _signals(actions if seams.handle_signals else {}), closing(successor):
            run = Run(settings, stop, own_successor=successor.pid)
            daemon = _Daemon(settings, loaded.directory, _with_audio(seams, loaded), run)
            status = await serve_as_owner(run, daemon.make_feed, daemon.serve)
    except AlreadyRunning as error:
        _log.error("another daemon runs", reason=str(error))
        return ExitStatus.LOCKED
    except (OutboxError, JournalError) as error:
        _log.error("the state on disk cannot be used", reason=str(error))
        return ExitStatus.CRASHED
    _log.info("stopped", status=status.name.lower())
    return status


def _with_audio(seams: Seams, loaded: LoadedDirectory) -> Seams:
    """Where recordings go: to the directory's audio servers, if there are any."""
    if seams.audio is not None or not loaded.audio_servers:
        return seams
    return evolve(seams, audio=Audio(AudioServers(loaded.audio_servers), Transports()))


def report_problems(loaded: LoadedDirectory) -> None:
    """Log what is wrong with the directory's files."""
    for problem in loaded.problems:
        tell = {"error": _log.error, "warning": _log.warning, "note": _log.info}[problem.severity]
        tell("directory problem", where=f"{problem.path}:{problem.line}", what=problem.text)


def make_policies(settings: Settings) -> Policies:
    """The core's policies, as the operator set them."""
    chosen = settings.policies
    return Policies(
        audio_base_url=chosen.audio_base_url,
        push_types=frozenset(chosen.push_types),
        push_wait_s=chosen.push_wait_s,
        forceclose_status=settings.recovery.forceclose_status,
        call_update=chosen.call_update,
        history_limit=chosen.history_limit,
    )


def uses_broker(settings: Settings, directory: Directory) -> bool:
    """Do messages go to RabbitMQ?"""
    mode = settings.broker.mode
    return mode == "rabbitmq" or (mode == "auto" and bool(directory.mq_servers))


@frozen(kw_only=True)
class _Started:
    """What a run needs of the parts that were made for it."""

    outbox: Outbox
    journal: Journal
    sink: Sink
    loop: CoreLoop
    listening: asyncio.Task[None]
    stop_desk: Callable[[], Awaitable[None]]

    async def give_up(self) -> None:
        """Let nobody wait for the disk any more."""
        await self.stop_desk()
        await self.sink.close()
        with suppress(JournalError):
            await self.journal.close()
        await _close_outbox(self.outbox)


@define
class _Daemon:
    """The parts of one run, which live and die together."""

    settings: Settings
    directory: Directory
    seams: Seams
    run: Run
    queue: InputQueue = Factory(lambda daemon: InputQueue(daemon.settings.ari.queue_max), takes_self=True)
    monitor: Monitor | None = None

    def make_feed(self, hold: Hold | None) -> AriFeed:
        """What listens to Asterisk; `hold` as of `AriFeed`."""
        return AriFeed(self.settings.ari, self.queue, known_channels=self._known_channels, hold=hold)

    async def serve(self, feed: AriFeed, takeover: Takeover | None) -> ExitStatus:
        """Go on where the journal ends, until something ends it. Raises StartGivenUp."""
        async with AsyncExitStack() as stack:
            parts = await self.run.unless_given_up(self._start(stack, feed, takeover))
            gc.freeze()  # what exists by now stays: the collector need not walk through it again and again
            notify_ready()
            status = await self.run.until_ended(parts.loop, feed, parts.listening, self.queue, parts.give_up)
            heir = self.run.own_successor() if status is ExitStatus.REPLACED else 0
            notify_handed_over(heir) if heir else notify_stopping()
            _log.info("stopping", status=status.name.lower())
            await parts.stop_desk()
            if not self.run.has_given_up and not await parts.sink.drain(self.settings.drain_timeout_s):
                _log.warning("RabbitMQ did not confirm everything in time: the rest stays in the outbox")
        return status

    async def _start(self, stack: AsyncExitStack, feed: AriFeed, takeover: Takeover | None) -> _Started:
        """Make all parts; whatever the disk refuses is waited for. Nothing listens before the state is there."""
        await self.run.disk.until_taken(lambda: at_once(stack.enter_context, pid_lock(self.settings.pid_file)))
        outbox = await self._open_outbox(stack)
        recovered, mark = await self._recover(outbox)
        journal = await self._open_journal(stack, first_position=max(recovered.position, mark) + 1)
        sink = self._make_sink(outbox)
        stack.push_async_callback(sink.close)
        desk = await self._make_desk(outbox, sink)
        loop = self._make_loop(recovered.monitor, outbox, sink, journal, desk)
        await sink.start()
        await loop.resume(recovered.messages)
        # The record alone may be older: of a successor that was to go on and died first.
        is_continued = takeover is not None and recovered.was_replaced and takeover.left_at == recovered.position
        self._begin(recovered, is_continued=is_continued)
        stop_desk = _start_desk(stack, desk)
        await self._open_control(stack, loop, feed, sink, desk)
        if takeover is not None:
            listening = takeover.listening
            takeover.continues.set_result(is_continued)
        else:
            listening = asyncio.create_task(self.run.listen(feed), name="ari")
        return _Started(outbox=outbox, journal=journal, sink=sink, loop=loop, listening=listening, stop_desk=stop_desk)

    async def _open_outbox(self, stack: AsyncExitStack) -> Outbox:
        settings = self.settings
        outbox = Outbox(
            settings.outbox.path,
            synchronous=settings.outbox.sync,
            rows_max=settings.outbox.rows_max,
            needs_vhost=self._is_broker(),
            on_failure=self.run.fail,
            on_trouble=partial(
                self.run.disk.note,
                "the outbox cannot be written: events and messages wait in memory",
                "the outbox can be written again",
            ),
        )
        await self.run.disk.until_taken(outbox.open)
        stack.push_async_callback(_close_outbox, outbox)
        return outbox

    async def _recover(self, outbox: Outbox) -> tuple[Recovered, int]:
        """The state that the disk holds, and the journal position up to which its effects are in the outbox."""
        settings = self.settings
        mark = await outbox.mark(journal_mark(settings.server))
        first_callnumber = await outbox.mark(callnumber_mark(settings.server)) + 1
        recovered = await self.run.disk.until_taken(
            lambda: recover(
                settings.journal.folder,
                server=settings.server,
                directory=self.directory,
                policies=make_policies(settings),
                mark=mark,
                first_callnumber=first_callnumber,
            )
        )
        self.monitor = recovered.monitor
        self.seams.on_start(recovered.monitor)
        return recovered, mark

    async def _open_journal(self, stack: AsyncExitStack, *, first_position: int) -> Journal:
        on_trouble = partial(
            self.run.disk.note,
            "the journal cannot be written: events wait in memory",
            "the journal can be written again",
        )
        journal = Journal(self.settings.journal.folder, self.settings.journal, on_trouble=on_trouble)
        await self.run.disk.until_taken(lambda: journal.open(first_position=first_position))
        stack.push_async_callback(journal.close)
        return journal

    def _is_broker(self) -> bool:
        return self.seams.make_sink is None and uses_broker(self.settings, self.directory)

    def _make_sink(self, outbox: Outbox) -> Sink:
        if self.seams.make_sink is not None:
            return self.seams.make_sink(outbox)
        if not self._is_broker():
            _log.warning("no MQ server: messages are only logged, and then forgotten")
            return LocalSink(outbox, _log_message)
        if not self.settings.pair.member:
            return self._make_broker(outbox, self.directory)
        return PairedSink(
            outbox,
            self.directory,
            self.settings.pair,
            self.settings.broker,
            server=self.settings.server,
            make_broker=self._make_broker,
            feed=self.queue.put_anyway,
            live_numbers=self._live_numbers,
            on_failure=self.run.fail,
        )

    def _make_broker(self, store: MessageStore, directory: Directory) -> Broker:
        settings = self.settings
        return Broker(store, directory, settings.broker, server=settings.server, on_failure=self.run.fail)

    async def _make_desk(self, outbox: Outbox, sink: Sink) -> Desk | None:
        """What stores recordings; None where there is no audio server, and then no message waits for any."""
        chosen, audio = self.settings.recordings, self.seams.audio
        ledger = Ledger(outbox, clock=now, max_wait_s=chosen.max_wait_s)
        if audio is None:
            await ledger.release_all()
            return None
        ledger.open()
        return Desk(
            ledger,
            chosen,
            directory=self.directory,
            audio=audio,
            offer=sink.offer,
            clock=now,
            is_active=(lambda: sink.is_leading) if isinstance(sink, PairedSink) else lambda: True,
        )

    def _make_loop(  # the parts are joined here
        self, monitor: Monitor, outbox: Outbox, sink: Sink, journal: Journal, desk: Desk | None
    ) -> CoreLoop:
        settings = self.settings
        return CoreLoop(
            monitor,
            self.queue,
            outbox,
            sink,
            server=settings.server,
            journal=journal,
            checkpoints=Checkpoints(
                take=lambda: take_snapshot(monitor),
                keep=SnapshotKeeper(settings.journal).keep,
                interval_s=settings.journal.snapshot_interval_s,
            ),
            default_vhost=settings.directory.default_vhost,
            observers=self.seams.observers,
            on_print=_print_event,
            on_recordings=desk.nudge if desk is not None else None,
        )

    def _begin(self, recovered: Recovered, *, is_continued: bool) -> None:
        """Tell the core of the pause since the journal's last input, and of the directory as it is now."""
        if recovered.forgotten_callnumber:
            self.queue.put_anyway(CallsNumbered(received_at=now(), numbers={"": recovered.forgotten_callnumber}))
        # Asterisk itself keeps the events of the pause where it dials us.
        was_deaf = not is_continued and self.settings.ari.mode == "inbound"
        if was_deaf and recovered.position and recovered.monitor.lost_at is None:
            self.queue.put_anyway(ConnectionLost(received_at=recovered.last_at))
        self.queue.put_anyway(DirectoryChanged(received_at=now(), directory=self.directory))

    async def _open_control(
        self, stack: AsyncExitStack, loop: CoreLoop, feed: AriFeed, sink: Sink, desk: Desk | None
    ) -> None:
        orders = make_orders(feed, loop, sink, desk.nudge if desk is not None else None)
        control = ControlServer(self.settings.journal.folder, orders)
        await self.run.disk.until_taken(control.start)
        stack.push_async_callback(control.close)

    def _known_channels(self) -> Collection[str]:
        return self.monitor.channel_ids() if self.monitor is not None else ()

    def _live_numbers(self) -> Mapping[str, int]:
        calls = self.monitor.book.calls.values() if self.monitor is not None else ()
        return {call.guid: call.callnumber for call in calls if call.callnumber}


async def _close_outbox(outbox: Outbox) -> None:
    """What it gives up on a full disk is decided again from the journal, or delivered again, after the next start."""
    with suppress(OutboxUnavailableError):
        await outbox.close()


def _start_desk(stack: AsyncExitStack, desk: Desk | None) -> Callable[[], Awaitable[None]]:
    """Have recordings stored from now on; gives what stops it. What is abandoned goes on after the next start."""
    working = asyncio.create_task(desk.run(), name="recordings") if desk is not None else None

    async def stop() -> None:
        if working is not None:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    stack.push_async_callback(stop)
    return stop


@contextmanager
def _signals(actions: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Act at these signals."""
    loop = asyncio.get_running_loop()
    for number, action in actions.items():
        loop.add_signal_handler(number, action)
    try:
        yield
    finally:
        for number in actions:
            loop.remove_signal_handler(number)


def _log_message(message: StoredMessage) -> None:
    _log.info(
        "message",
        vhost=message.vhost,
        routing_key=message.routing_key,
        message_id=message.message_id,
        body=message.body.decode(),
    )


def _print_event(event: PrintEvent) -> None:
    """Show an event that the filter marks with P, on standard output: the log goes to standard error."""
    sys.stdout.buffer.write(event.raw + b"\n")
    sys.stdout.buffer.flush()
