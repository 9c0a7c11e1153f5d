"""Commands to the running daemon, over a Unix socket in its state folder.

One request a connection, one line of JSON each way::

    {"command": "snapshot"}            {"ok": true, "position": 1234}
    {"command": "dance"}               {"ok": false, "error": "unknown command dance; there are ..."}

Who may write to the socket may command: it belongs to the daemon's user alone.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog

from arimonitor_runner.disk import naming

SOCKET_NAME = "control.sock"
REQUEST_BYTES_MAX = 2**16
REQUEST_S = 10.0

Command = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Takes the request, gives the answer's further fields; raises CommandError where it cannot."""

_log = structlog.get_logger()


class CommandError(Exception):
    """The command could not be carried out; the text says why."""


class NoDaemon(Exception):  # noqa: N818  # named as a fact, like its text
    """Nobody listens on the socket; the text names it."""


class ControlServer:
    """Listens for commands."""

    def __init__(self, folder: Path, commands: Mapping[str, Command]) -> None:
        self._folder = folder
        self._path = folder / SOCKET_NAME
        self._commands = dict(commands)
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._stack = ExitStack()

    async def start(self) -> None:
        """Listen. A socket left behind by a crash, or by a predecessor that is leaving, is replaced. Raises OSError."""
        with suppress(FileNotFoundError):
            self._path.unlink()
        old_mask = os.umask(0o177)
        try:
            # The short name stays valid as long as the server lives: it may look the socket up again.
            address = f"{self._stack.enter_context(_short(self._folder))}/{SOCKET_NAME}"
            with naming(self._path):
                self._server = await asyncio.start_unix_server(self._serve, address, limit=REQUEST_BYTES_MAX)
        except OSError:
            self._stack.close()
            raise
        finally:
            os.umask(old_mask)
        self._inode = self._path.stat().st_ino

    async def close(self) -> None:
        """Listen no more."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self._stack.close()
        # A successor may have put its own socket in this place.
        with suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_S):
                line = await reader.readline()
            writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
            await writer.drain()
        except (TimeoutError, ValueError, OSError):
            pass  # whoever it was says nothing, too much, or is gone
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            name = request["command"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return {"ok": False, "error": 'a request is a line of JSON: {"command": NAME}'}
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            known = ", ".join(sorted(self._commands))
            return {"ok": False, "error": f"unknown command {str(name)[:80]}; there are {known}"}
        try:
            return {"ok": True, **await command(request)}
        except CommandError as error:
            return {"ok": False, "error": str(error)}
        except Exception as error:
            _log.exception("a command failed", command=name)
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}


async def send_command(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Ask the daemon of a state folder. Raises NoDaemon, and CommandError with what it answered instead."""
    try:
        with _short(folder) as short:
            reader, writer = await asyncio.open_unix_connection(f"{short}/{SOCKET_NAME}", limit=2**26)
    except OSError as error:
        raise NoDaemon(f"{folder / SOCKET_NAME}: no daemon listens there ({error.strerror or error})") from error
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    if not line:
        raise NoDaemon(f"{folder / SOCKET_NAME}: the daemon ended before it answered")
    answer: dict[str, Any] = json.loads(line)
    if not answer.pop("ok"):
        raise CommandError(answer["error"])
    return answer


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A short name for a folder: a socket's address has room for 107 bytes, a path may be longer."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
