"""One world: an Asterisk, a RabbitMQ, a machine with a disk, and daemons that are born and die on it."""

from __future__ import annotations

import asyncio
import random as global_random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import structlog
from attrs import Factory, define

from arimonitor_core.directory import Directory
from arimonitor_core.effects import Effect, PublishMessage
from arimonitor_core.inputs import Input
from arimonitor_core.monitor import Monitor
from arimonitor_runner import ari, input_queue, outbox, running, takeover, wiring
from arimonitor_runner.ari import inbound
from arimonitor_runner.broker import publisher
from arimonitor_runner.directory_sources.text import LoadedDirectory, load_directory
from arimonitor_runner.journal.files import FILE_OPERATIONS, FileOperations
from arimonitor_runner.journal.snapshots import SnapshotStore
from arimonitor_runner.loop import CoreLoop, Observer
from arimonitor_runner.running import ExitStatus
from arimonitor_runner.settings import (
    AriSettings,
    BrokerSettings,
    DirectorySettings,
    JournalSettings,
    OutboxSettings,
    Settings,
)
from arimonitor_runner.wiring import Seams, run_daemon
from tests.replay.captures import FIXTURES
from tests.simulation import scenarios
from tests.simulation.asterisk import Asterisk
from tests.simulation.clock import BEGINNING
from tests.simulation.network import HttpServer, VirtualRest, open_websocket
from tests.simulation.plan import END_OF_TROUBLE_S, SLOW_FACTOR, Plan
from tests.simulation.rabbit import Rabbit, VirtualSession
from tests.simulation.recordings import Recording, list_fit, play_recording
from tests.simulation.stand_ins import (
    Disk,
    NoControl,
    NoWatch,
    ProcessFiles,
    VirtualJournal,
    VirtualLock,
    VirtualOutboxThread,
    own_process,
)
from tests.simulation.truth import SERVER
from tests.simulation.virtual_loop import Process, VirtualLoop

CALM_S = 90.0
"""How long everything works before it is looked at what came of it: longer than any back-off."""
SLEEPERS = 3
DAEMONS_MAX = 40
"""A daemon that ends again and again is a fault that need not be repeated for ever."""
DEFAULT_VHOST = "voip"


@cache
def loaded_directory() -> LoadedDirectory:
    """The directory of the lab, as the daemon reads it."""
    loaded = load_directory(FIXTURES / "directory", {})
    assert loaded.is_usable
    return loaded


def lab() -> Directory:
    """Clients, endpoints and groups of the lab."""
    return loaded_directory().directory


class Decisions(Observer):
    """Every message that the core of any daemon decided while it ran."""

    def __init__(self, decided: list[PublishMessage]) -> None:
        self._decided = decided

    def handled(self, item: Input, effects: Sequence[Effect]) -> None:
        """Keep the messages."""
        self._decided += [effect for effect in effects if isinstance(effect, PublishMessage)]


@define(eq=False)
class Daemon:
    """One process of ours."""

    process: Process
    stop: asyncio.Event
    task: asyncio.Task[ExitStatus] | None = None
    monitor: Monitor | None = None
    files: ProcessFiles | None = None
    status: ExitStatus | None = None


@define(eq=False, slots=False)
class World:
    """Everything, by seed."""

    seed: int
    plan: Plan
    trace: Callable[[str], None] = lambda _line: None
    loop: VirtualLoop = Factory(VirtualLoop)
    daemons: list[Daemon] = Factory(list)
    faults: list[str] = Factory(list)
    """What must not be."""
    decided: list[PublishMessage] = Factory(list)
    alarms: list[dict[str, Any]] = Factory(list)
    """What the daemons logged as errors."""
    ends: list[float] = Factory(list)
    """When daemons and AMQP connections ended."""
    recordings: list[Recording] = Factory(list)
    first_endpoints: bytes = b"[]"
    """GET /endpoints, when the first daemon is started."""
    is_ending: bool = False

    def __attrs_post_init__(self) -> None:
        plan, loop = self.plan, self.loop
        self.random = Random(f"{self.seed} world")
        self.folder = Path(tempfile.mkdtemp(prefix="arimonitor-", dir=_memory()))
        self.disk = Disk(self.folder, self._stream("disk"))
        self.rabbit = Rabbit(loop, self._stream("rabbit"), slowest_s=plan.slowest_s, refusals=plan.refusals)
        self.pbx = Asterisk(loop, self._stream("pbx"), plan.with_variables, plan.jitter_s, plan.duplicates)
        self.server = HttpServer(self.pbx, self._stream("network"))
        endpoints = [number for number in lab().endpoints if len(number) == 4] + list(lab().endpoints)[-6:]
        sleepers = [number for number in endpoints if lab().type_of(number) == "unidade"][-SLEEPERS:]
        self.pbx.endpoints = {number: "offline" if number in sleepers else "online" for number in endpoints}
        self.pbx.started_ms = BEGINNING * 1000 - 60_000
        phones = [number for number in endpoints if number not in sleepers]
        self.stage = scenarios.Stage(self.pbx, self._stream("calls"), lab(), phones, sleepers)
        self._threads = self._stream("threads")
        loop.thread_delay_s = self._thread_delay_s
        self.settings = self._make_settings()

    def _stream(self, name: str) -> Random:
        """Random numbers of one part: what another part does with its own changes nothing here."""
        return Random(f"{self.seed} {name}")

    def _thread_delay_s(self) -> float:
        slow = SLOW_FACTOR if self._threads.random() < 0.03 else 1
        return slow * self._threads.random() * self.plan.thread_s

    def _make_settings(self) -> Settings:
        plan = self.plan
        return Settings(
            server=SERVER,
            ari=AriSettings(backoff_first_s=0.5, backoff_max_s=5.0),
            directory=DirectorySettings(folder=FIXTURES / "directory", default_vhost=DEFAULT_VHOST),
            broker=BrokerSettings(mode="rabbitmq", backoff_max_s=5.0, window=4, open_per_s_max=100.0),
            outbox=OutboxSettings(path=self.folder / "outbox.db"),
            journal=JournalSettings(
                folder=self.folder / "journal",
                sync=plan.sync,
                segment_bytes_max=plan.segment_bytes_max,
                snapshot_interval_s=plan.snapshot_interval_s,
            ),
        )

    def note(self, text: str) -> None:
        """A line of the trace."""
        self.trace(f"{self.loop.time():10.6f} {text}")

    # -- its life ------------------------------------------------------------------------------------------------

    def live(self, check: Callable[[World], list[str]]) -> list[str]:
        """From the beginning to the end; gives what must not be."""
        try:
            with _installed(self):
                self.loop.run_until_complete(self._live())
                self.faults += check(self)
        finally:
            self.loop.finish()
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.faults

    async def _live(self) -> None:
        for scenario in self.stage.random.choices(*_weights(), k=self.plan.calls):
            self.pbx.play(scenario(self.stage), self.random.uniform(0.2, 25.0))
        for tag in "abcd"[: self.plan.captures]:
            recording = Recording(self.random.choice(list_fit()))
            self.recordings.append(recording)
            self.pbx.play(play_recording(self.pbx, recording, tag), self.random.uniform(0.2, 15.0))
        self.first_endpoints = self.pbx.list_endpoints()
        self.start()
        for at, action in self.plan.actions:
            await asyncio.sleep(at - self.loop.time())
            self.note(f"-- {action}")
            name, _, argument = action.partition(" ")
            getattr(self, name)(*([argument] if argument else []))
        await asyncio.sleep(max(0.0, END_OF_TROUBLE_S - self.loop.time()))
        while self.pbx.playing:  # noqa: ASYNC110  # virtual seconds cost nothing
            await asyncio.sleep(1.0)
        self.rabbit.refusals = 0.0
        for daemon in self.daemons:
            daemon.process.dies_at_step = 0
        await asyncio.sleep(CALM_S)
        await self._end()

    async def _end(self) -> None:
        """Whoever serves now is asked to stop."""
        self.is_ending = True
        alive = self.alive()
        if len(alive) != 1:
            self.faults.append(f"{len(alive)} daemons are alive at the end")
        for daemon in alive:
            self.look_into(daemon)
            daemon.stop.set()
            assert daemon.task is not None
            await asyncio.wait({daemon.task}, timeout=60)
            if daemon.status is not ExitStatus.STOPPED:
                self.faults.append(f"asked to stop, it ended with {daemon.status}")

    def look_into(self, daemon: Daemon) -> None:
        """Nothing may be in memory that Asterisk does not have."""
        if daemon.monitor is None:
            self.faults.append("the daemon has no state")
            return
        channels = daemon.monitor.book.table.channels.keys() - self.pbx.channels.keys()
        if channels:
            self.faults.append(f"channels in memory that are gone: {sorted(channels)}")
        for call in daemon.monitor.active_calls():
            if not set(call.members) & self.pbx.channels.keys():
                self.faults.append(f"a call in memory of which nothing is left: {call}")

    # -- daemons -------------------------------------------------------------------------------------------------

    def alive(self) -> list[Daemon]:
        """The daemons that run."""
        return [daemon for daemon in self.daemons if daemon.process.is_alive and daemon.status is None]

    def start(self) -> None:
        """A daemon is started, as its supervisor would."""
        process = Process(self.loop, f"daemon {len(self.daemons) + 1}")
        daemon = Daemon(process, asyncio.Event())
        daemon.files = ProcessFiles(self.disk, process)
        self.daemons.append(daemon)
        process.on_death.append(lambda: self._on_end(daemon, "killed"))
        self.note(f"{process.name} starts")

        def keep(monitor: Monitor) -> None:
            daemon.monitor = monitor

        seams = Seams(observers=(Decisions(self.decided),), on_start=keep, stop=daemon.stop, handle_signals=False)
        daemon.task = process.run(run_daemon(self.settings, seams))
        daemon.task.add_done_callback(partial(self._on_done, daemon))

    def _on_done(self, daemon: Daemon, task: asyncio.Task[ExitStatus]) -> None:
        if not daemon.process.is_alive or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.faults.append(f"{daemon.process.name} raised {error!r}")
            daemon.status = ExitStatus.CRASHED
        else:
            daemon.status = task.result()
        allowed = {ExitStatus.STOPPED, ExitStatus.REPLACED, ExitStatus.LOCKED}
        if daemon.status not in allowed:
            self.faults.append(f"{daemon.process.name} ended with {daemon.status!r}")
        self._on_end(daemon, f"ended with {daemon.status.name}")

    def _on_end(self, daemon: Daemon, how: str) -> None:
        self.ends.append(self.loop.time())
        self.note(f"{daemon.process.name} {how} after {daemon.process.steps} steps")
        self.loop.call_outside(self.random.choice((0.01, 0.5, 5.0)), self._keep_alive)

    def _keep_alive(self) -> None:
        """The supervisor sees to it that there is always one."""
        if not self.is_ending and not self.alive() and len(self.daemons) < DAEMONS_MAX:
            self.start()

    # -- troubles, named in the plan -----------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL, at this moment."""
        for daemon in self._victims():
            daemon.process.kill()

    def kill_in_steps(self) -> None:
        """SIGKILL, after so many callbacks and operations on files."""
        for daemon in self._victims():
            daemon.process.dies_at_step = daemon.process.steps + int(10 ** self.random.uniform(0.0, 3.3)) + 1

    def _victims(self) -> list[Daemon]:
        alive = self.alive()
        return [self.random.choice(alive)] if alive else []

    def cut_power(self) -> None:
        """The machine stops: all processes of ours die, and what was not on the medium is gone."""
        for daemon in self.alive():
            daemon.process.kill()
        self.disk.cut_power()

    def stop(self) -> None:
        """SIGTERM."""
        for daemon in self._victims():
            daemon.stop.set()

    def hand_over(self) -> None:
        """A second daemon is started beside the first."""
        if self.alive():
            self.start()

    def drop(self, how: str) -> None:
        """The websocket breaks."""
        self.server.drop(silently=how == "silently")

    def restart_asterisk(self, how: str) -> None:
        """All calls end; the PBX is back two seconds later."""
        if not self.pbx.is_up:
            return
        self.pbx.restart(politely=how == "politely")
        self.pbx.is_up = False
        self.loop.call_later(0.12, self.server.go_down)
        self.loop.call_later(2.0, self._asterisk_is_back)

    def _asterisk_is_back(self) -> None:
        self.pbx.is_up = True
        self.pbx.started_ms = self.pbx.now_ms()
        self.server.go_up()

    def fill_disk(self, for_s: str) -> None:
        """No room for a while."""
        self.disk.is_full = True
        self.loop.call_later(float(for_s), self._free_disk)

    def _free_disk(self) -> None:
        self.disk.is_full = False

    def drop_rabbit(self) -> None:
        """All AMQP connections break."""
        self.ends.append(self.loop.time())
        self.rabbit.drop()

    def take_rabbit_down(self, for_s: str) -> None:
        """The broker is away for a while."""
        self.rabbit.is_down = True
        self.drop_rabbit()
        self.loop.call_later(float(for_s), lambda: setattr(self.rabbit, "is_down", False))

    def block_rabbit(self, for_s: str) -> None:
        """The broker reads nothing for a while."""
        self.rabbit.block(blocked=True)
        self.loop.call_later(float(for_s), lambda: self.rabbit.block(blocked=False))

    def delete_queue(self) -> None:
        """Somebody deletes the queues: messages come back until they are declared again."""
        self.rabbit.without_queue.update(lab().vhost_of(number) for number in self.pbx.endpoints)

    def send_garbage(self) -> None:
        """What is no event arrives among the events."""
        for raw in (b"", b"{", b'{"type":"Dial"}', b'{"type":"ChannelCreated","channel":{"id":1}}', b"\xff\xfe", b"[]"):
            self.pbx.hear(raw)


def _weights() -> tuple[list[Any], list[int]]:
    return list(scenarios.SCENARIOS), list(scenarios.SCENARIOS.values())


def _memory() -> str | None:
    """A folder in memory, where the system has one: thousands of worlds need not wear out a disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # a world's folder has a name of its own


@contextmanager
def _installed(world: World) -> Iterator[None]:
    """Put what is made up in the place of clock, sockets, threads and disk."""

    def unix_time() -> float:
        return BEGINNING + world.loop.time()

    async def answers_at_once(_settings: Any) -> None:
        """Asterisk's ports answer."""

    clock = SimpleNamespace(time=unix_time, time_ns=lambda: round(unix_time() * 1e9))
    journal = partial(VirtualJournal, now=unix_time)
    replaced: list[tuple[Any, str, Any]] = [
        (input_queue, "time", clock),
        (wiring, "Journal", journal),
        (wiring, "ControlServer", NoControl),
        (wiring, "CoreLoop", partial(CoreLoop, clock=unix_time)),
        (wiring, "load_directory", lambda *_: loaded_directory()),
        (wiring, "gc", SimpleNamespace(freeze=lambda: None)),
        (takeover, "StateLock", VirtualLock),
        (running, "PbxWatch", NoWatch),
        (running, "wait_for_ari", answers_at_once),
        (running, "wait_for_ami", answers_at_once),
        (outbox, "OutboxThread", VirtualOutboxThread),
        (inbound, "connect", open_websocket),
        (ari, "AriRest", VirtualRest),
        (publisher, "Session", VirtualSession),
        (VirtualRest, "server", world.server),
        (VirtualSession, "rabbit", world.rabbit),
        (VirtualOutboxThread, "disk", world.disk),
        (VirtualLock, "disk", world.disk),
    ]
    state = global_random.getstate()
    global_random.seed(world.seed)
    with ExitStack() as stack:
        for owner, name, stand_in in replaced:
            stack.enter_context(patch.object(owner, name, stand_in, create=True))
        stack.enter_context(patch.dict(SnapshotStore.__init__.__kwdefaults__, {"now": unix_time}))
        for name in vars(FileOperations):
            if not name.startswith("_"):
                stack.enter_context(patch.object(FILE_OPERATIONS, name, partial(_file_operation, world, name)))
        stack.enter_context(_log_of(world))
        yield
    global_random.setstate(state)


def _file_operation(world: World, name: str, *arguments: Any) -> Any:
    process = own_process()
    files = next(daemon.files for daemon in world.daemons if daemon.process is process)
    return getattr(files, name)(*arguments)


@contextmanager
def _log_of(world: World) -> Iterator[None]:
    """The daemons' log goes into the trace; what they call an error is kept."""

    def keep(_logger: Any, method: str, event: dict[str, Any]) -> Any:
        if method in {"error", "exception"}:
            world.alarms.append({"at": world.loop.time(), "method": method, **event})
        world.note(f"{method}: {event}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)
