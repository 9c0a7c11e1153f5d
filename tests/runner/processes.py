"""The daemon and the recorder as real processes, and their logs."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.runner.fake_ari import PASSWORD, USER


class Process:
    """A running command. Its standard error is read line by line, its standard output to the end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._grown = asyncio.Condition()
        self._ended = False
        self.log: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())
        self._output = asyncio.create_task(process.stdout.read())

    @classmethod
    async def start(cls, module: str, *arguments: str, password: str = PASSWORD) -> Process:
        """Run a module with this interpreter."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ARIMONITOR_")}
        environment["ARIMONITOR_ARI_PASSWORD"] = password
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-m", module, *arguments, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**20,
        )  # fmt: skip
        return cls(process)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def until_logged(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for a log line whose event holds this text, with these fields; the end of the process ends the wait."""

        def find() -> dict[str, Any] | None:
            for line in self.log:
                if event in line["event"] and all(line.get(key) == value for key, value in fields.items()):
                    return line
            return None

        return await self._until(find)

    async def until_logged_times(self, event: str, count: int) -> None:
        """Wait until so many log lines hold this text."""
        async with self._grown:
            await self._grown.wait_for(lambda: sum(event in line["event"] for line in self.log) >= count or self._ended)
        assert not self._ended, f"not logged {count} times; the log: {self.log}"

    async def _until(self, find: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
        async with self._grown:
            await self._grown.wait_for(lambda: find() is not None or self._ended)
        found = find()
        assert found is not None, f"never logged; the log: {self.log}"
        return found

    async def end(self, signal_number: int | None = None) -> int:
        """Send a signal, if one is given, and wait for the end; gives the exit status."""
        if signal_number is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal_number)
        status = await self._process.wait()
        await self._reading
        return status

    async def output(self) -> bytes:
        """Everything on standard output, after the end."""
        return await self._output

    async def _read(self) -> None:
        while line := await self._process.stderr.readline():
            try:
                record = json.loads(line)
            except ValueError:
                record = {"event": line.decode().rstrip("\n")}
            async with self._grown:
                self.log.append(record)
                self._grown.notify_all()
        async with self._grown:
            self._ended = True
            self._grown.notify_all()


def daemon_arguments(url: str, folder: str, directory: str, **settings: str) -> list[str]:
    """Options of a daemon with all its files in one folder."""
    options = {
        "server": "pbx",
        "ari-url": url,
        "ari-user": USER,
        "ari-backoff-first-s": "0.05",
        "directory-folder": directory,
        "outbox-path": f"{folder}/outbox.db",
        "journal-folder": f"{folder}/journal",
        "pid-file": f"{folder}/run/arimonitor.pid",
        "logs-format": "json",
        "broker-backoff-max-s": "0.2",
        **{name.replace("_", "-"): value for name, value in settings.items()},
    }
    return [f"--{name}={value}" for name, value in options.items()]
