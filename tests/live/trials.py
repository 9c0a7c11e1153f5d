"""The daemon under traffic while fault after fault strikes it, and what is left as evidence."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, nullcontext
from pathlib import Path
from typing import Any

from attrs import Factory, define

from arimonitor_core.inputs import Input
from arimonitor_core.snapshot import restore_snapshot
from arimonitor_runner.journal import list_snapshots, read_journal, read_snapshot
from tests.live.lab import ARI_PASSWORD, ARI_USER, Pair, load
from tests.live.traffic import Traffic
from tests.runner.processes import Process, daemon_arguments
from tests.runner.proxy import Proxy
from tests.runner.rabbit import Delivered, RabbitNode

APPLICATION = "arimonitor-trial"
CALM_S = 3.0
"""Time for calls that no fault touches, before the first one and after the last one."""

_OPTIONS = {
    "ari_application": APPLICATION,
    "ari_backoff_max_s": "0.2",
    # Small, so that the journal has several segments and a restart finds snapshots of all ages.
    "journal_segment_bytes_max": str(2**16),
    "journal_snapshot_interval_s": "2",
}


@define
class Trial:
    """What a fault strikes."""

    pair: Pair
    folder: Path
    """The daemon's state."""
    arguments: Sequence[str]
    rng: random.Random
    count: int
    """How many faults there are to be."""
    traffic: Traffic
    proxy: Proxy | None = None
    """Between the daemon and Asterisk."""
    processes: list[Process] = Factory(list)
    pid: int = 0
    """Of the daemon that serves, which the last of the processes is, or descends from."""

    @property
    def daemon(self) -> Process:
        """The last one started; the log of those that it hands over to is in its own."""
        return self.processes[-1]

    @property
    def journal(self) -> Path:
        """The folder of journal and snapshots."""
        return self.folder / "journal"

    async def start(self) -> Process:
        """Start a daemon on our state folder."""
        daemon = await Process.start(
            "arimonitor_runner.daemon", *self.arguments, f"--ari-user={ARI_USER}", password=ARI_PASSWORD
        )
        self.processes.append(daemon)
        self.pid = daemon.pid
        return daemon

    async def start_and_wait(self) -> Process:
        """Start one, and wait until it listens."""
        daemon = await self.start()
        await daemon.until_logged("ARI connection up")
        return daemon

    async def pause(self, low_s: float, high_s: float) -> None:
        """Let the world go on for a random time: when a fault strikes is all that it is about."""
        await asyncio.sleep(self.rng.uniform(low_s, high_s))


Strike = Callable[[Trial], Awaitable[None]]


@define
class Evidence:
    """What is left after a trial."""

    name: str
    folder: Path
    """Holds the truth, CEL, CDR, and the log of a recorder that heard everything."""
    spool: Path
    delivered: list[Delivered] = Factory(list)
    """What came out of RabbitMQ, vhost by vhost, repeats too."""
    journal: list[Input] = Factory(list)
    problems: list[str] = Factory(list)
    """What `arimonitor journal verify` finds wrong."""
    logs: list[dict[str, Any]] = Factory(list)
    exit_statuses: list[int] = Factory(list)
    """Of each daemon that the trial itself started, in that order."""
    left_in_outbox: int = -1
    left_in_memory: int = -1
    """Calls in the last snapshot, taken when no telephone called any more."""


async def try_out(
    pair: Pair, rabbit: RabbitNode, directory: Path, vhosts: Sequence[str], folder: Path, *,
    name: str, strike: Strike, count: int, seed: int, through_proxy: bool,
) -> Evidence:  # fmt: skip
    """Have faults strike while calls are made, and gather the evidence once all calls are over."""
    evidence = Evidence(name, folder, folder / f"{name}-daemon")
    evidence.spool.mkdir(parents=True)
    for vhost in vhosts:
        rabbit.purge(vhost)
    async with Proxy(8088, pair.host) if through_proxy else nullcontext() as proxy:
        url = f"http://127.0.0.1:{proxy.port}" if proxy else pair.url
        arguments = daemon_arguments(url, str(evidence.spool), str(directory), **_OPTIONS)
        lab = await asyncio.to_thread(_make_lab, pair, name, folder)
        rng = random.Random(seed)
        trial = Trial(pair, evidence.spool, arguments, rng, count, Traffic(lab, seed), proxy)
        recorder = await Process.start(
            "arimonitor_runner.cli", "record", f"--url={pair.url}", f"--user={ARI_USER}",
            "-o", str(folder / "recorded.ndjson"), password=ARI_PASSWORD,
        )  # fmt: skip
        try:
            await recorder.until_logged("ARI connection up")
            await trial.start_and_wait()
            async with _calling(trial.traffic):
                await trial.pause(CALM_S, CALM_S)
                await strike(trial)
                await trial.pause(CALM_S, CALM_S)
            await _look_into_memory(trial, evidence)
            evidence.exit_statuses = [await process.end() for process in trial.processes[:-1]]
            evidence.exit_statuses.append(await trial.daemon.end(signal.SIGTERM))
            assert await recorder.end(signal.SIGTERM) == 0
        finally:
            for process in (*trial.processes, recorder):
                await process.end(signal.SIGKILL)
    evidence.logs = [line for process in trial.processes for line in process.log]
    (folder / "recorded.ndjson").rename(folder / f"{name}.ndjson")
    await asyncio.to_thread(_finish, lab)
    await _look_at_the_disk(trial, evidence)
    for vhost in vhosts:
        # Everything was confirmed, so it is there; how much it is a quorum queue only says a moment later.
        evidence.delivered += await asyncio.to_thread(rabbit.consume, vhost, 10**6, timeout_s=1)
    return evidence


@asynccontextmanager
async def _calling(traffic: Traffic) -> AsyncIterator[None]:
    """Calls are made, and at the end there are none left."""
    placing = asyncio.create_task(asyncio.to_thread(traffic.run))
    try:
        yield
    finally:
        traffic.stop()
        await placing


async def _look_into_memory(trial: Trial, evidence: Evidence) -> None:
    """Order a snapshot of the daemon that still runs, and count the calls in it."""
    status, output = await run_command("snapshot", f"--folder={trial.journal}")
    assert status == 0, output
    document = read_snapshot(list_snapshots(trial.journal)[-1])
    evidence.left_in_memory = len(restore_snapshot(document).active_calls())


async def _look_at_the_disk(trial: Trial, evidence: Evidence) -> None:
    status, output = await run_command("journal", "verify", f"--folder={trial.journal}")
    evidence.problems = [] if status == 0 else output.splitlines()
    evidence.journal = [record for _, record in read_journal(trial.journal, on_problem=evidence.problems.append)]
    with closing(sqlite3.connect(trial.folder / "outbox.db")) as outbox:
        (evidence.left_in_outbox,) = outbox.execute("SELECT count(*) FROM messages").fetchone()


async def run_command(*arguments: str) -> tuple[int, str]:
    """Run `arimonitor`; gives its exit status and all it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "arimonitor_runner.cli", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode, output.decode()


def _make_lab(pair: Pair, name: str, folder: Path) -> Any:
    labctl = load("labctl")

    class Lab(labctl.Lab):
        """The lab's own, with our recorder in the place of its capture."""

        def capture_stop(self) -> None:
            """It is over already."""

    lab = Lab(pair.version, name, folder)
    lab.segments.append({"file": f"{name}.ndjson"})
    return lab


def _finish(lab: Any) -> None:
    """Write the truth: what was commanded, with Asterisk's own records of it."""
    lab.finish()
    lab.disconnect()
    assert lab.notes == []
