"""A program that runs daemons on a disk that has no room, and prints what they did; `test_full_disk` runs it.

Arguments: as of `full_disk`, then the directory's folder, then which of the stories.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from tests.runner.daemons import daemon, playing
from tests.runner.full_disk import DISKS, Disk
from tests.runner.processes import Process

CAPTURE = "answered_caller_hangs_up"
WAITS = "the state on disk cannot be written: the start waits"
GOES_ON = "the state on disk can be written again"


async def run_start(disk: Disk, folder: Path, directory: Path) -> dict[str, Any]:
    """Start where there was never any room, where there is some soon, and where an earlier daemon left its state."""
    told = {}
    async with playing(CAPTURE) as (server, events):
        disk.fill()
        async with daemon(folder, server.url, directory) as process:
            told["nothing there"] = await _stop_while_waiting(process)
        async with daemon(folder, server.url, directory) as process:
            await process.until_logged(WAITS)
            handshakes_before = len(server.handshakes)
            disk.free(process.pid)
            await process.until_logged(GOES_ON)
            await server.when_subscribed()
            await server.send(*events)
            await process.until_logged("ARI connection up")
            told["room"] = await _stop(process)
        disk.fill()
        async with daemon(folder, server.url, directory) as process:
            told["an earlier state"] = await _stop_while_waiting(process)
        disk.free()
    return {"stories": told, "handshakes": [handshakes_before, len(server.handshakes)]}


async def run_full(disk: Disk, folder: Path, directory: Path) -> dict[str, Any]:
    """Have the disk of the outbox fill up while a daemon runs, and ask that to stop."""
    journal = str(directory.parent / "journal")
    async with (
        playing(CAPTURE) as (server, events),
        daemon(folder, server.url, directory, journal_folder=journal, drain_timeout_s="1") as process,
    ):
        await process.until_logged("ARI connection up")
        disk.fill(process.pid)
        await server.send(*events)
        await process.until_logged("the outbox cannot be written")
        return await _stop(process)


async def _stop_while_waiting(process: Process) -> dict[str, Any]:
    await process.until_logged(WAITS)
    return await _stop(process)


async def _stop(process: Process) -> dict[str, Any]:
    status = await process.end(signal.SIGTERM)
    return {"status": status, "log": process.log}


STORIES = {"start": run_start, "run": run_full}


def main() -> None:
    """Run on the kind of disk that was asked for."""
    kind, folder, directory, story = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), STORIES[sys.argv[4]]
    sys.stdout.write(json.dumps(asyncio.run(story(DISKS[kind](folder, 16), folder, directory))))


if __name__ == "__main__":
    main()
