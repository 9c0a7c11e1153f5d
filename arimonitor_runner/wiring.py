"""The composition root: makes the parts, joins them, runs them, and takes them down in the order that loses nothing.

Start: outbox, core, sink, health check, ARI. Stop: ARI first, then what is queued is handled and committed, then the
sink delivers what it can in the time it has, then connections and files are closed.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from enum import IntEnum

import structlog
from attrs import Factory, define, frozen

from arimonitor_core.directory import Directory
from arimonitor_core.effects import PrintEvent
from arimonitor_core.monitor import Monitor
from arimonitor_core.policies import Policies
from arimonitor_runner.ari import AriFeed
from arimonitor_runner.broker import Broker
from arimonitor_runner.directory_sources.text import LoadedDirectory, load_directory
from arimonitor_runner.health import wait_for_ami, wait_for_ari
from arimonitor_runner.input_queue import InputQueue
from arimonitor_runner.loop import CoreLoop, Observer, callnumber_mark
from arimonitor_runner.outbox import Outbox, OutboxError
from arimonitor_runner.pid_file import AlreadyRunning, pid_lock
from arimonitor_runner.settings import Settings
from arimonitor_runner.sinks import LocalSink, MessageStore, Sink, StoredMessage

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger()


class ExitStatus(IntEnum):
    """Exit status of the daemon."""

    STOPPED = 0
    """Asked to stop, by SIGTERM or SIGINT."""
    CRASHED = 1
    """A fault in a part of it; the log has the traceback. Starting again is right."""
    MISCONFIGURED = 2
    """Settings or directory cannot be used; starting again without a change is useless."""
    REPLACED = 3
    """Another process took over the ARI application name; starting again would take it back."""
    LOCKED = 4
    """Another daemon holds the PID file."""


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


async def run_daemon(settings: Settings, seams: Seams | None = None) -> ExitStatus:
    """Run the daemon until it is asked to stop, is replaced, or a part of it fails."""
    seams = seams or Seams()
    loaded = load_directory(settings.directory.folder, os.environ)
    report_problems(loaded)
    if not loaded.is_usable:
        _log.error("the directory cannot be read", folder=str(settings.directory.folder))
        return ExitStatus.MISCONFIGURED
    stop = seams.stop or asyncio.Event()
    try:
        with pid_lock(settings.pid_file), _signals(stop, enabled=seams.handle_signals):
            return await _Daemon(settings, loaded.directory, seams, stop).run()
    except AlreadyRunning as error:
        _log.error("another daemon runs", reason=str(error))
        return ExitStatus.LOCKED
    except OutboxError as error:
        _log.error("the outbox cannot be used", reason=str(error))
        return ExitStatus.CRASHED


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


@define
class _Daemon:
    """One run: the parts that live and die together."""

    settings: Settings
    directory: Directory
    seams: Seams
    stop: asyncio.Event
    failure: asyncio.Future[None] = Factory(lambda: asyncio.get_running_loop().create_future())
    """Done when a part failed in the background."""

    async def run(self) -> ExitStatus:
        async with AsyncExitStack() as stack:
            outbox = await self._open_outbox(stack)
            queue = InputQueue(self.settings.ari.queue_max)
            sink = self._make_sink(outbox)
            loop = await self._make_loop(outbox, queue, sink)
            feed = AriFeed(self.settings.ari, queue)
            stack.push_async_callback(sink.close)
            await sink.start()
            gc.freeze()  # what exists by now stays: the collector need not walk through it again and again
            status = await self._serve(loop, feed)
            _log.info("stopping", status=status.name.lower())
            if not await sink.drain(self.settings.drain_timeout_s):
                _log.warning("RabbitMQ did not confirm everything in time: the rest stays in the outbox")
        _log.info("stopped", status=status.name.lower())
        return status

    async def _open_outbox(self, stack: AsyncExitStack) -> Outbox:
        settings = self.settings
        outbox = Outbox(
            settings.outbox.path,
            synchronous=settings.outbox.sync,
            needs_vhost=self._is_broker(),
            on_failure=self._fail,
        )
        await outbox.open()
        stack.push_async_callback(outbox.close)
        return outbox

    def _is_broker(self) -> bool:
        return self.seams.make_sink is None and uses_broker(self.settings, self.directory)

    def _make_sink(self, outbox: Outbox) -> Sink:
        if self.seams.make_sink is not None:
            return self.seams.make_sink(outbox)
        if self._is_broker():
            settings = self.settings
            return Broker(outbox, self.directory, settings.broker, server=settings.server, on_failure=self._fail)
        _log.warning("no MQ server: messages are only logged, and then forgotten")
        return LocalSink(outbox, _log_message)

    async def _make_loop(self, outbox: Outbox, queue: InputQueue, sink: Sink) -> CoreLoop:
        settings, seams = self.settings, self.seams
        highest = await outbox.mark(callnumber_mark(settings.server))
        monitor = Monitor(
            server=settings.server,
            directory=self.directory,
            policies=make_policies(settings),
            first_callnumber=highest + 1,
        )
        seams.on_start(monitor)
        return CoreLoop(
            monitor,
            queue,
            outbox,
            sink,
            server=settings.server,
            default_vhost=settings.directory.default_vhost,
            observers=seams.observers,
            on_print=_print_event,
        )

    async def _serve(self, loop: CoreLoop, feed: AriFeed) -> ExitStatus:
        """Listen until something ends it; afterwards all that was heard is handled and committed."""
        looping = asyncio.create_task(loop.run(), name="loop")
        listening = asyncio.create_task(self._listen(feed), name="ari")
        stopping = asyncio.create_task(self._stopped(), name="stop")
        try:
            await asyncio.wait({looping, listening, stopping, self.failure}, return_when=asyncio.FIRST_COMPLETED)
            replaced = listening.done() and not listening.cancelled() and listening.exception() is None
        finally:
            for task in (listening, stopping):
                task.cancel()
            await asyncio.gather(listening, stopping, return_exceptions=True)
            loop.stop()
            await asyncio.wait({looping})
        crashes = [part for part in (looping, listening, self.failure) if _crashed(part)]
        for part in crashes:
            _log.error("a part of the daemon crashed", exc_info=part.exception())
        if crashes:
            return ExitStatus.CRASHED
        return ExitStatus.REPLACED if replaced and not self.stop.is_set() else ExitStatus.STOPPED

    async def _stopped(self) -> None:
        await self.stop.wait()

    async def _listen(self, feed: AriFeed) -> None:
        """Wait for Asterisk, then listen to it."""
        await asyncio.gather(wait_for_ari(self.settings.ari), wait_for_ami(self.settings.ami))
        await feed.run()

    def _fail(self, error: BaseException) -> None:
        """A part failed where nobody awaits it: the daemon ends, and its supervisor starts it anew."""
        if not self.failure.done():
            self.failure.set_exception(error)


def _crashed(part: asyncio.Future[None]) -> bool:
    return part.done() and not part.cancelled() and part.exception() is not None


@contextmanager
def _signals(stop: asyncio.Event, *, enabled: bool) -> Iterator[None]:
    """Set the event at SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    signals = _STOP_SIGNALS if enabled else ()
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in signals:
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
