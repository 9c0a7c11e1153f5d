"""What strikes the daemon: kills, restarts, successors, a network that breaks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request
from base64 import b64encode
from contextlib import suppress

import websockets
from attrs import frozen

from arimonitor_runner.control import CommandError, NoDaemon, send_command
from tests.live.lab import ARI_PASSWORD, ARI_USER, Pair
from tests.live.trials import APPLICATION, Strike, Trial
from tests.runner.waiting import until

EARLY_KILLS = 0.3
"""Share of the kills that strike while the daemon starts, reads its state, or connects."""
START_S = 1.5
SNAPSHOTS = 0.3
"""Share of the other kills that strike while a snapshot is ordered."""


async def kill(trial: Trial) -> None:
    """SIGKILL at a random instant, and a new start at once."""
    for number in range(trial.count):
        ordered = None
        if number and trial.rng.random() < EARLY_KILLS:
            await trial.pause(0, START_S)
        else:
            await trial.daemon.until_logged("ARI connection up")
            await trial.pause(0.1, 4)
            if trial.rng.random() < SNAPSHOTS:
                ordered = asyncio.create_task(_order_snapshot(trial))
                await trial.pause(0, 0.02)
        await trial.daemon.end(signal.SIGKILL)
        await trial.start()
        if ordered is not None:
            await ordered
    await trial.daemon.until_logged("ARI connection up")


async def _order_snapshot(trial: Trial) -> None:
    with suppress(NoDaemon, CommandError, OSError):  # it may be killed meanwhile
        await send_command(trial.journal, {"command": "snapshot"})


async def restart(trial: Trial) -> None:
    """What `systemctl restart` does: SIGTERM, and a new start once it has ended."""
    for _ in range(trial.count):
        await trial.pause(0.5, 4)
        assert await trial.daemon.end(signal.SIGTERM) == 0
        await trial.start_and_wait()


async def hand_over(trial: Trial) -> None:
    """Start a second daemon with the same options, or have the daemon do so by SIGHUP, in turn; the last is ours."""
    for left in reversed(range(trial.count)):
        await trial.pause(0.5, 3)
        old, ended = trial.pid, os.pidfd_open(trial.pid)
        try:
            if left % 2:
                await _send_hangup(trial)
            else:
                await trial.start_and_wait()
            await _until_ended(ended)
        finally:
            os.close(ended)
        assert trial.pid != old


async def _send_hangup(trial: Trial) -> None:
    def heirs() -> list[int]:
        return [line["successor"] for line in trial.daemon.log if "successor" in line]

    before = heirs()
    os.kill(trial.pid, signal.SIGHUP)
    await until(lambda: len(heirs()) > len(before))
    trial.pid = heirs()[-1]


async def _until_ended(pid_descriptor: int) -> None:
    """Wait for the end of a process that need not be our child."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(pid_descriptor, ended.set)
    await ended.wait()
    loop.remove_reader(pid_descriptor)


async def cut_off(trial: Trial) -> None:
    """Break the daemon's connections, by reset and by FIN in turn, and look whether Asterisk still works."""
    for number in range(trial.count):
        await trial.daemon.until_logged_times("ARI connection up", number + 1)
        await trial.pause(0.05, 1.5)
        await trial.proxy.cut(reset=number % 2 == 0)
    await trial.daemon.until_logged_times("ARI connection up", trial.count + 1)
    await _check_asterisk(trial.pair)


async def _check_asterisk(pair: Pair) -> None:
    """A new websocket opens, and the list of applications, where a deadlock would show, is answered."""
    query = f"app=arimonitor-probe&api_key={ARI_USER}:{ARI_PASSWORD}"
    async with websockets.connect(f"ws://{pair.host}:8088/ari/events?{query}"):
        request = urllib.request.Request(f"{pair.url}/ari/applications")
        request.add_header("Authorization", "Basic " + b64encode(f"{ARI_USER}:{ARI_PASSWORD}".encode()).decode())
        with await asyncio.to_thread(urllib.request.urlopen, request, timeout=10) as answer:
            names = {shown["name"] for shown in json.load(answer)}
    assert {APPLICATION, "arimonitor-probe"} <= names


@frozen
class Fault:
    """What strikes, and how often: in every run, and where time is no matter."""

    strike: Strike
    count: int
    full_count: int
    exit_status: int = 0
    """Of the daemons that it ends."""
    through_proxy: bool = False


FAULTS = {
    "kills": Fault(kill, 8, 100, -signal.SIGKILL),
    "restarts": Fault(restart, 3, 20),
    "handovers": Fault(hand_over, 4, 20, 3),
    "disconnects": Fault(cut_off, 10, 100, through_proxy=True),
}
