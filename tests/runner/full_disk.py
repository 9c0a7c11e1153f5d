"""A program that uses an outbox while its disk has no room, and prints what happened; `test_outbox_trouble` runs it.

`tmpfs FOLDER` mounts a small file system, which needs a mount namespace of its own; `rlimit FOLDER` limits the size of
files instead, which the kernel answers with another error. `run_in_full_disk` runs this program or another such one.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arimonitor_core.effects import PublishMessage
from arimonitor_runner.outbox import Outbox, OutboxUnavailableError
from tests.runner.conftest import build_message

ROOT = Path(__file__).parents[2]


class SmallFileSystem:
    """A tmpfs of some megabytes."""

    def __init__(self, folder: Path, megabytes: int = 1) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", folder], check=True)
        self._filler = folder / "filler"

    def fill(self, *_pids: int) -> None:
        """Take all room that is left."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    def free(self, *_pids: int) -> None:
        """Give it back."""
        self._filler.unlink()


class LimitedFiles:
    """No file may grow beyond a page; what Python makes of SIGXFSZ, which is to ignore it, makes the write fail."""

    def __init__(self, _folder: Path, _megabytes: int = 1) -> None:
        self._unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, *pids: int) -> None:
        """Allow nothing more, also to these processes."""
        for pid in (0, *pids):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, self._unlimited[1]))

    def free(self, *pids: int) -> None:
        """Allow everything again, also to these processes of ours, which inherited the limit."""
        for pid in (0, *pids):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, self._unlimited)


Disk = SmallFileSystem | LimitedFiles
DISKS: dict[str, type[Disk]] = {"tmpfs": SmallFileSystem, "rlimit": LimitedFiles}


def run_in_full_disk(module: str, kind: str, *arguments: str) -> tuple[str, Any]:
    """Run such a program; gives the kind of disk that it had, and what it printed.

    Where nothing can be mounted, the limit on file sizes is the one way to have a real disk refuse a real write.
    """
    prefix = _in_mount_namespace() if kind == "tmpfs" else []
    kind = kind if prefix else "rlimit"
    command = [*prefix, sys.executable, "-W", "error", "-m", module, kind, *arguments]
    # What measures coverage writes files, too, and no file may grow.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return kind, json.loads(done.stdout)


def _in_mount_namespace() -> list[str]:
    """The command before a command that may mount; empty where the machine allows no mounts at all."""
    for prefix in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        mounting = [*prefix, "mount", "-t", "tmpfs", "none", "/mnt"]
        if subprocess.run(mounting, capture_output=True, check=False).returncode == 0:
            return prefix
    return []


class Story:
    """The outbox and what it says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.troubles: list[str | None] = []
        self.failures: list[str] = []
        self.in_trouble = asyncio.Event()

    async def open(self) -> Outbox:
        """Open it."""
        outbox = Outbox(self.path, on_trouble=self._note, on_failure=lambda error: self.failures.append(str(error)))
        await outbox.open()
        return outbox

    def _note(self, text: str | None) -> None:
        self.troubles.append(text)
        (self.in_trouble.clear if text is None else self.in_trouble.set)()


def large(name: str) -> PublishMessage:
    """A message that no page has room for."""
    return build_message(name, body=os.urandom(10_000))


async def pending(outbox: Outbox) -> list[str]:
    """Everything that is stored."""
    return [message.message_id for message in await outbox.read_pending("t", after_seq=0, limit=1000)]


async def run(disk: Disk, story: Story) -> dict[str, Any]:
    """Fill the disk and free it while messages come; fill it once more and close."""
    outbox = await story.open()
    first = (await outbox.append([large("before")])).stored[0]
    disk.fill()
    waiting = [asyncio.create_task(outbox.append([large(str(number))])) for number in range(20)]
    await story.in_trouble.wait()
    outbox.confirm([first.seq])
    done_in_trouble = sum(task.done() for task in waiting)
    disk.free()
    appended = await asyncio.gather(*waiting)
    after_trouble = await pending(outbox)
    disk.fill()
    lost = asyncio.create_task(outbox.append([large("lost")]))
    await story.in_trouble.wait()
    given_up = [await _outcome(outbox.close), await _outcome(lambda: lost)]
    disk.free()
    outbox = await story.open()
    after_restart = await pending(outbox)
    await outbox.close()
    return {
        "done_in_trouble": done_in_trouble,
        "stored": [message.message_id for one in appended for message in one.stored],
        "after_trouble": after_trouble,
        "given_up": given_up,
        "after_restart": after_restart,
        "troubles": story.troubles,
        "failures": story.failures,
    }


async def _outcome(work: Callable[[], Any]) -> str:
    try:
        await work()
    except OutboxUnavailableError:
        return "unavailable"
    return "done"


def main() -> None:
    """Run on the kind of disk that was asked for."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    disk = DISKS[kind](folder)
    sys.stdout.write(json.dumps(asyncio.run(run(disk, Story(folder / "spool" / "outbox.db")))))


if __name__ == "__main__":
    main()
