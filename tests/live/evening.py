"""One scenario with the real daemon looking on: what was commanded, what the daemon told, what it left behind."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

from attrs import Factory, define

from arimonitor_core.inputs import Input
from arimonitor_runner.journal import read_journal
from tests.live.lab import ARI_PASSWORD, ARI_USER, Pair, load
from tests.runner.processes import Process, daemon_arguments
from tests.runner.proxy import Proxy
from tests.runner.rabbit import Delivered, RabbitNode

APPLICATION = "arimonitor-live"

Way = Literal["network", "daemon", "asterisk"]
"""Where a scenario has a gap: does the network break, is the daemon killed, or does Asterisk end?"""


@define
class Evening:
    """The evidence."""

    name: str
    folder: Path
    """Holds the truth, CEL, CDR, and the recorder's log."""
    delivered: list[Delivered] = Factory(list)
    """What came out of RabbitMQ, vhost by vhost."""
    log: list[dict[str, Any]] = Factory(list)
    """The daemon's."""
    journal: list[Input] = Factory(list)
    """The daemon's."""
    exit_statuses: tuple[int, int] = (-1, -1)
    """Of the daemon and of the recorder, after SIGTERM."""
    left_in_outbox: int = -1
    left_behind: list[str] = Factory(list)
    """Files beside the outbox."""

    @property
    def bodies(self) -> list[bytes]:
        """The messages, vhost by vhost, each in the order that a consumer gets them."""
        return [body for _, _, body in self.delivered]


async def spend(
    pair: Pair, rabbit: RabbitNode, directory: Path, vhosts: list[str], name: str, folder: Path, way: Way = "network"
) -> Evening:
    """Run a scenario beside a daemon, which a proxy can cut off, and a recorder, which only Asterisk can."""
    evening = Evening(name, folder)
    spool = folder / f"{name}-daemon"
    spool.mkdir(parents=True)
    for vhost in vhosts:
        rabbit.purge(vhost)
    async with Proxy(8088, pair.host) as proxy:
        options = {"ari_application": APPLICATION, "ari_backoff_max_s": "0.2", "ari_ping_interval_s": "1"}
        arguments = daemon_arguments(f"http://127.0.0.1:{proxy.port}", str(spool), str(directory), **options)

        async def start() -> Process:
            user = f"--ari-user={ARI_USER}"
            return await Process.start("arimonitor_runner.daemon", *arguments, user, password=ARI_PASSWORD)

        daemon = await start()
        recorder = await Process.start(
            "arimonitor_runner.cli", "record", f"--url={pair.url}", f"--user={ARI_USER}",
            "-o", str(folder / "recorded.ndjson"), password=ARI_PASSWORD,
        )  # fmt: skip

        async def end() -> None:
            evening.exit_statuses = (await hands.daemon.end(signal.SIGTERM), await recorder.end(signal.SIGTERM))

        hands = Hands(asyncio.get_running_loop(), proxy, daemon, end, way, start)
        try:
            await daemon.until_logged("ARI connection up")
            await recorder.until_logged("ARI connection up")

            await asyncio.to_thread(play, pair, name, folder, hands)
        finally:
            for process in {daemon, hands.daemon, recorder}:
                await process.end(signal.SIGKILL)
    evening.log = daemon.log if hands.daemon is daemon else daemon.log + hands.daemon.log
    evening.journal = [record for _, record in read_journal(spool / "journal", on_problem=_fail)]
    for vhost in vhosts:
        # Everything was confirmed, so it is there; how much it is a quorum queue only says a moment later.
        evening.delivered += await asyncio.to_thread(rabbit.consume, vhost, 10**6, timeout_s=1)
    with sqlite3.connect(spool / "outbox.db") as connection:
        (evening.left_in_outbox,) = connection.execute("SELECT count(*) FROM messages").fetchone()
    connection.close()
    evening.left_behind = sorted(str(p.relative_to(spool)) for p in spool.rglob("*") if p.is_file())
    return evening


def _fail(problem: object) -> None:
    raise AssertionError(str(problem))


@define
class Hands:
    """What a scenario, in its thread, may do to the daemon in ours."""

    loop: asyncio.AbstractEventLoop
    proxy: Proxy
    daemon: Process
    end: Callable[[], Coroutine[Any, Any, None]]
    way: Way = "network"
    start: Callable[[], Awaitable[Process]] | None = None
    """Starts another daemon in the place of one that was killed."""

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it in the event loop and wait for it."""
        asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def cut(self) -> None:
        """Take away the network, or the daemon; Asterisk goes away by itself."""
        if self.way == "network":
            self.proxy.refuse()
            await self.proxy.cut()
        elif self.way == "daemon":
            await self.daemon.end(signal.SIGKILL)

    async def mend(self) -> None:
        """Give it back and wait until the daemon listens again."""
        if self.way == "daemon":
            self.daemon = await self.start()
            await self.daemon.until_logged("ARI connection up")
            return
        self.proxy.refuse(refusing=False)
        await self.daemon.until_logged_times("ARI connection up", 2)


def play(pair: Pair, name: str, folder: Path, hands: Hands) -> None:
    """Run one of the lab's scenarios; its captures are ours, its gaps are the daemon's."""
    labctl, scenarios = load("labctl"), load("scenarios")

    class WatchedLab(labctl.Lab):
        """The lab's own, with the daemon and the recorder in the place of its capture."""

        is_over = False

        def capture_start(self, seg: str = "", wait: float = 30) -> None:
            """Everything listens already; after a gap, it listens again."""
            if self.segments:
                hands.do(hands.mend())
                self.log("capture connected")
                return
            self.segments.append({"file": f"{self.name}.ndjson"})

        def capture_stop(self) -> None:
            """A gap, or the end."""
            if self.is_over:
                hands.do(hands.end())
                # Only now: a lab begins by removing files of its scenario's name.
                (folder / "recorded.ndjson").rename(folder / f"{self.name}.ndjson")
            else:
                hands.do(hands.cut())
            self.log("capture disconnected")

        def snapshot(self, *what: str) -> None:
            """The recorder's log has no gap to be joined."""

        def finish(self) -> dict[str, Any]:
            """The scenario is over."""
            self.is_over = True
            return super().finish()

    lab = WatchedLab(pair.version, name, folder, name)
    try:
        scenarios.ALL[name](lab)
    finally:
        lab.finish()
        lab.disconnect()
    assert lab.notes == []
