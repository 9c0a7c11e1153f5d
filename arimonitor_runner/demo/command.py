"""`arimonitor-run --demo`: the real daemon follows a recorded Asterisk, for people to watch, held to the truth."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import typed_settings as ts
from attrs import Factory, define
from rich.console import Console

from arimonitor_core.effects import Effect
from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored, Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.records import encode_record
from arimonitor_runner.demo.playback import PlaybackServer
from arimonitor_runner.demo.screen import LiveScreen, Moment, PlainScreen, Screen
from arimonitor_runner.demo.story import FOLDER, compare, load_story
from arimonitor_runner.demo.summary import Outcome, print_summary
from arimonitor_runner.logs import configure_logs
from arimonitor_runner.loop import Observer
from arimonitor_runner.outbox import Outbox
from arimonitor_runner.running import ExitStatus
from arimonitor_runner.settings import (
    AriSettings,
    BrokerSettings,
    DirectorySettings,
    JournalSettings,
    LogSettings,
    OutboxSettings,
    Settings,
)
from arimonitor_runner.sinks import LocalSink, StoredMessage
from arimonitor_runner.wiring import Seams, run_daemon

DEFAULT_SPEED = 1.7
"""The story's 45 seconds become 27."""

SETTLE_S = 10.0
"""How long after the story's last event the daemon may still be busy."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def run_demo(*, speed: float = DEFAULT_SPEED) -> int:
    """Play the story and follow it. Returns the exit status: 0 only when exactly what truly happened came out."""
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="arimonitor-demo-"))
    try:
        with (folder / "daemon.log").open("w") as log:
            configure_logs(LogSettings(), stream=log)
            return asyncio.run(_run(console, folder, speed))
    except KeyboardInterrupt:
        return _say_interrupted(console)


def _say_interrupted(console: Console) -> int:
    console.print("Stopped before the end.")
    return INTERRUPTED


async def _run(console: Console, folder: Path, speed: float) -> int:
    records, expected = load_story()
    began_at = time.monotonic()
    async with PlaybackServer(records, speed=speed) as server:
        _print_head(console, server, folder, speed)
        (folder / "asterisk.ndjson").write_bytes(b"".join(map(encode_record, server.records)))
        with (folder / "messages.ndjson").open("wb") as messages:
            watch = _Watch(server, messages)
            with _make_screen(console, watch) as watch.screen:
                status = await _follow(watch, _settings(server, folder))
    if watch.was_stopped:
        return _say_interrupted(console)
    if status is not ExitStatus.STOPPED:
        console.print(
            f"The daemon ended too soon ({status.name.lower()}); its log: {folder / 'daemon.log'}", style="red"
        )
        return 1
    outcome = Outcome(
        bodies=watch.bodies,
        wrong=compare(watch.bodies, expected),
        left_in_outbox=await _count_left(folder),
        folder=folder,
        took_s=time.monotonic() - began_at,
    )
    print_summary(console, outcome, expected, toolbox=_toolbox(), tell_calls=console.is_terminal)
    return 0 if outcome.is_good else 1


def _print_head(console: Console, server: PlaybackServer, folder: Path, speed: float) -> None:
    console.print("ARIMONITOR demo", style="bold")
    console.print(f"  a recorded Asterisk 22, {speed:g} times as fast as life, on {server.url}")
    console.print(f"  the daemon listens to it; its messages go to an SQLite outbox in {folder}", soft_wrap=True)
    console.print("  and from there, without RabbitMQ, to this screen. Ctrl-C stops it.\n")


def _settings(server: PlaybackServer, folder: Path) -> Settings:
    user, password = server.credentials
    return Settings(
        server="voip1",
        ari=AriSettings(
            url=server.url,
            user=user,
            password=ts.SecretStr(password),
            # Time is short here, and no real PBX suffers from eager reconnects.
            backoff_first_s=0.2,
            backoff_max_s=0.4,
        ),
        directory=DirectorySettings(folder=FOLDER),
        broker=BrokerSettings(mode="local"),
        outbox=OutboxSettings(path=folder / "outbox.db"),
        journal=JournalSettings(folder=folder / "journal"),
    )


def _make_screen(console: Console, watch: _Watch) -> Screen:
    return LiveScreen(console, watch.look) if console.is_terminal else PlainScreen(console)


async def _follow(watch: _Watch, settings: Settings) -> ExitStatus:
    """Run the daemon until the story is over and nothing is going on any more, or until it ends by itself."""
    stop = asyncio.Event()
    seams = Seams(
        make_sink=lambda store: LocalSink(store, watch.delivered),
        observers=(watch,),
        on_start=watch.use_monitor,
        stop=stop,
    )
    daemon = asyncio.create_task(run_daemon(settings, seams))
    over = asyncio.create_task(watch.wait_over())
    await asyncio.wait({daemon, over}, return_when=asyncio.FIRST_COMPLETED)
    watch.was_stopped = stop.is_set()
    over.cancel()
    watch.is_over = True
    stop.set()
    return await daemon


async def _count_left(folder: Path) -> int:
    """Messages that are still in the outbox, after the daemon has closed it."""
    outbox = Outbox(folder / "outbox.db")
    await outbox.open()
    try:
        vhosts = await outbox.pending_vhosts()
        return sum([len(await outbox.read_pending(vhost, after_seq=0, limit=10_000)) for vhost in vhosts])
    finally:
        await outbox.close()


def _toolbox() -> str:
    """How `arimonitor` is called from here."""
    beside = Path(sys.executable).with_name("arimonitor")
    return os.path.relpath(beside) if beside.exists() else "arimonitor"


@define(eq=False)
class _Watch(Observer):
    """Sees all that the daemon does, and tells the screen."""

    server: PlaybackServer
    messages: BinaryIO
    """Every message is written here, one a line."""
    screen: Screen | None = None
    was_stopped: bool = False
    is_over: bool = False
    """The daemon is being stopped: that it then hears no more is no news."""
    bodies: list[bytes] = Factory(list)
    _monitor: Monitor | None = None
    _events: int = 0
    _stored: int = 0
    _progress: asyncio.Event = Factory(asyncio.Event)

    def use_monitor(self, monitor: Monitor) -> None:
        """Look at this core from now on."""
        self._monitor = monitor

    def handled(self, item: Input, effects: Sequence[Effect]) -> None:  # noqa: ARG002  # the Observer's signature
        """Count events, and say when the connection goes and comes."""
        self._events += isinstance(item, AriEventReceived)
        if isinstance(item, ConnectionLost) and not self.is_over:
            self._show("connection", {"is": "lost: Asterisk's calls go on unseen"})
        elif isinstance(item, ConnectionRestored) and self.bodies:
            self._show("connection", {"is": "back: what happened meanwhile is found out"})
        self._progress.set()

    def stored(self, messages: Sequence[StoredMessage]) -> None:
        """Count what is on disk."""
        self._stored += len(messages)
        self._progress.set()

    def delivered(self, message: StoredMessage) -> None:
        """The sink's end: keep the message and show it."""
        self.bodies.append(message.body)
        self.messages.write(message.body + b"\n")
        self._show(message.type, msgspec.json.decode(message.body)["data"])

    def look(self) -> Moment:
        """What the live table shows now."""
        monitor = self._monitor
        return Moment(
            at_s=self._at_s(),
            length_s=self.server.length_s,
            now_ms=self.server.log_time() * 1000,
            away=monitor is not None and monitor.lost_at is not None,
            calls=[] if monitor is None else monitor.active_calls(),
            events=self._events,
            waiting=max(0, self._stored - len(self.bodies)),
        )

    async def wait_over(self) -> None:
        """Return when the story has been played and no call is left, or when that takes too long."""
        await self.server.wait_finished()
        # When time runs out, the comparison with the truth says what is missing.
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while self._is_busy():
                    self._progress.clear()
                    await self._progress.wait()

    def _is_busy(self) -> bool:
        return self._monitor is None or bool(self._monitor.active_calls()) or self._stored != len(self.bodies)

    def _at_s(self) -> float:
        return self.server.log_time() - self.server.begins_at

    def _show(self, kind: str, data: dict[str, Any]) -> None:
        if self.screen is not None:
            self.screen.show_message(kind, data, self._at_s())
