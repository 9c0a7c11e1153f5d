"""The little of Asterisk's manager interface that the watch needs: log in, run a command of the console, leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from arimonitor_runner.settings import AmiSettings

LINES_MAX = 10_000
"""Far above any answer that we ask for, and a bound all the same."""

Packet = list[tuple[str, str]]
"""The lines of an answer: name and value, in order; a name may come more than once."""


class AmiError(Exception):
    """The manager interface cannot be used; the text says why and holds no secret."""


class AmiSession:
    """A session that is logged in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._actions = 0

    async def run_command(self, command: str) -> list[str]:
        """Run a command of Asterisk's console; gives its output, line by line. Raises AmiError."""
        packet = await self.act({"Action": "Command", "Command": command})
        return [value for name, value in packet if name == "Output"]

    async def act(self, fields: Mapping[str, str]) -> Packet:
        """Send an action and give its answer. Raises AmiError, also where Asterisk answers with one."""
        self._actions += 1
        action_id = str(self._actions)
        lines = [f"{name}: {value}" for name, value in {**fields, "ActionID": action_id}.items()]
        if any("\r" in line or "\n" in line for line in lines):
            raise AmiError(f"{fields['Action']}: a line end is not allowed in a value")
        self._writer.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        await self._writer.drain()
        while True:
            packet = await self._read_packet()
            values = dict(packet)
            if values.get("ActionID") == action_id:  # else an event, which nobody asked for
                break
        if values.get("Response") != "Success":
            outputs = [value for name, value in packet if name == "Output" and value]
            raise AmiError(f"{fields['Action']}: {(outputs or [values.get('Message', 'no success')])[0]}")
        return packet

    async def _read_packet(self) -> Packet:
        packet: Packet = []
        for _ in range(LINES_MAX):
            line = await self._reader.readline()
            if not line.endswith(b"\n"):
                raise AmiError("the connection ended in mid-answer")
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if not text:
                return packet
            name, _, value = text.partition(":")
            packet.append((name, value.removeprefix(" ")))
        raise AmiError(f"an answer of more than {LINES_MAX} lines")


@asynccontextmanager
async def ami_session(settings: AmiSettings, *, timeout_s: float) -> AsyncIterator[AmiSession]:
    """Connect, log in, and leave at the end, all within a time. Raises AmiError."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(settings.host, settings.port)
            try:
                await reader.readline()  # the greeting
                session = AmiSession(reader, writer)
                login = {"Username": settings.user, "Secret": str(settings.password)}
                await session.act({"Action": "Login", **login, "Events": "off"})
                yield session
                with suppress(AmiError):
                    await session.act({"Action": "Logoff"})
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError as error:
        raise AmiError(f"no answer within {timeout_s:g} s") from error
    except (OSError, ValueError) as error:
        raise AmiError(str(error)) from error
