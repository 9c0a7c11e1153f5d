"""The daemon in a process of its own that tells when the broker confirmed what; and the least that could listen."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from arimonitor_core.effects import Effect, PublishMessage
from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_runner.broker import Broker
from arimonitor_runner.directory_sources.text import load_directory
from arimonitor_runner.logs import configure_logs
from arimonitor_runner.loop import Observer
from arimonitor_runner.settings_sources import load_settings
from arimonitor_runner.sinks import MessageStore, Sink, StoredMessage
from arimonitor_runner.wiring import Seams, run_daemon
from benchmarks.pump import PASSWORD, USER, Pump
from tests.replay.captures import FIXTURES, SERVER
from tests.runner.rabbit import RabbitNode

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def daemon_settings(pump: Pump, rabbit: RabbitNode, folder: Path) -> dict[str, str]:
    """What an operator would set, all files in one folder and the messages of all clients in one vhost."""
    vhost = rabbit.new_vhost()
    rabbit.declare(vhost)
    directory = folder / "directory"
    directory.mkdir(parents=True)
    for path in (FIXTURES / "directory").iterdir():
        text = path.read_text()
        for name in ("vila-madalena", "jardim-paulista", "alto-da-lapa"):
            text = text.replace(f"vhost = {name}", f"vhost = {vhost}")
        (directory / path.name).write_text(text)
    (directory / "mqservers.def").write_text(f"[mq1]\nurl = {rabbit.url}\n")
    return {
        "server": SERVER,
        "ari.url": pump.url,
        "ari.user": USER,
        "ari.password": PASSWORD,
        "directory.folder": str(directory),
        "directory.default_vhost": vhost,
        "outbox.path": str(folder / "outbox.db"),
        "journal.folder": str(folder / "journal"),
        "logs.level": "error",
    }


class WatchedDaemon:
    """The handle on the daemon's process."""

    def __init__(self, process: BaseProcess, reports: Connection) -> None:
        self._process = process
        self._reports = reports
        self._is_stopped = False

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid or 0

    def when_confirmed(self) -> float:
        """Wait until the next of the counts asked for is reached; gives when that was, by `time.monotonic`."""
        return float(self._reports.recv())

    def cpu_s(self) -> float:
        """Processor time used so far, by all of its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def origins(self) -> list[tuple[int, float]]:
        """After the end of the daemon: of each message of a call the number of the event behind it, and its confirm."""
        origins: list[tuple[int, float]] = self._reports.recv()
        return origins

    def stop(self) -> None:
        """Ask it to stop, once: its handler of SIGTERM goes before the process does."""
        if not self._is_stopped:
            self._is_stopped = True
            self._process.terminate()


@contextmanager
def watched_daemon(
    settings: dict[str, str], counts: Collection[int], *, follow_events: bool = False
) -> Iterator[WatchedDaemon]:
    """Run the daemon. It tells when so many messages were confirmed, and where each came from if that is wanted."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(settings, counts, follow_events, theirs), name="daemon")
    process.start()
    theirs.close()
    daemon = WatchedDaemon(process, ours)
    try:
        yield daemon
    finally:
        daemon.stop()
        process.join()
        ours.close()
    assert process.exitcode == 0


def _run(settings: dict[str, str], counts: Collection[int], follow_events: bool, reports: Connection) -> None:
    loaded = load_settings(None, settings).settings
    configure_logs(loaded.logs, secrets=())
    watch = _Watch(counts, reports)

    def make_sink(store: MessageStore) -> Sink:
        directory = load_directory(loaded.directory.folder, os.environ).directory
        return Broker(
            _Store(store, watch),
            directory,
            loaded.broker,
            server=loaded.server,
            on_failure=_fail,
        )

    seams = Seams(make_sink=make_sink, observers=[watch] if follow_events else [])
    status = asyncio.run(run_daemon(loaded, seams))
    if follow_events:
        reports.send(watch.origins)
    sys.exit(status)


def _fail(error: BaseException) -> None:
    raise error


class _Watch(Observer):
    """Counts confirms; as an observer it also follows each message back to its event."""

    def __init__(self, counts: Collection[int], reports: Connection) -> None:
        self._counts = frozenset(counts)
        self._reports = reports
        self._confirmed = 0
        self._events = 0
        self._event_of: dict[str, int] = {}
        self._event_of_seq: dict[int, int] = {}
        self.origins: list[tuple[int, float]] = []

    def handled(self, item: Input, effects: Sequence[Effect]) -> None:
        if type(item) is AriEventReceived:
            for effect in effects:
                if isinstance(effect, PublishMessage):
                    self._event_of[effect.message_id] = self._events
            self._events += 1

    def stored(self, messages: Sequence[StoredMessage]) -> None:
        for message in messages:
            if message.message_id in self._event_of:
                self._event_of_seq[message.seq] = self._event_of.pop(message.message_id)

    def confirmed(self, seqs: Sequence[int]) -> None:
        now = time.monotonic()
        self.origins += [(self._event_of_seq.pop(seq), now) for seq in seqs if seq in self._event_of_seq]
        self._confirmed += len(seqs)
        if self._confirmed in self._counts:
            self._reports.send(now)


class _Store:
    """The outbox, with somebody who looks on when messages are confirmed."""

    def __init__(self, store: MessageStore, watch: _Watch) -> None:
        self._store = store
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def confirm(self, seqs: Sequence[int]) -> None:
        self._store.confirm(seqs)
        self._watch.confirmed(seqs)


class BareReader:
    """The handle on a process that takes frames off a websocket and does nothing with them."""

    def __init__(self, reports: Connection) -> None:
        self._reports = reports

    def when_read(self) -> float:
        """Wait for the last frame; gives when it was there, by `time.monotonic`."""
        return self.times_read()[-1]

    def times_read(self) -> list[float]:
        """Wait for the last frame; gives when each was there, or the last one alone if that was asked for."""
        times: list[float] = self._reports.recv()
        return times


@contextmanager
def bare_reader(url: str, application: str, frames: int, *, follow_frames: bool = False) -> Iterator[BareReader]:
    """Connect; the connection is up when the body runs. It can note the time of each frame."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_read, args=(url, application, frames, follow_frames, theirs), name="reader")
    process.start()
    theirs.close()
    try:
        assert ours.recv() == "connected"
        yield BareReader(ours)
    finally:
        process.join()
        ours.close()


def _read(url: str, application: str, frames: int, follow_frames: bool, reports: Connection) -> None:
    async def read() -> None:
        address = f"ws{url.removeprefix('http')}/ari/events?app={application}"
        # As the daemon connects, so that nothing but the daemon is what differs.
        async with connect(address, proxy=None, compression=None, max_queue=1024) as websocket:
            reports.send("connected")
            receive = websocket.recv
            times = []
            for _ in range(frames):
                await receive(decode=False)
                if follow_frames:
                    times.append(time.monotonic())
            reports.send(times or [time.monotonic()])

    asyncio.run(read())
