"""A TCP proxy on loopback that fails on command: the network between two programs."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType


class Proxy:
    """Forwards to one port; `stall` keeps connections open and silent, `cut` resets them, `refuse` takes none.

    `swallow` loses what the far side answers, `pace` lets its answers through one by one.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._swallowing = False
        self._is_closing_gently = False
        self._permits: asyncio.Semaphore | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.accepted = 0
        self.port = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    async def cut(self, *, reset: bool = True) -> None:
        """Reset every connection, or close it as a program does that ends."""
        self._is_closing_gently = not reset
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stall(self) -> None:
        """Let nothing through from now on, in either direction, without any sign of it."""
        self._flowing.clear()

    def resume(self) -> None:
        """Let everything through again."""
        self._flowing.set()

    def refuse(self, refusing: bool = True) -> None:
        """Reset new connections at once."""
        self._refusing = refusing

    def swallow(self, swallowing: bool = True) -> None:
        """Take the far side's answers and pass none on."""
        self._swallowing = swallowing

    def pace(self) -> asyncio.Semaphore:
        """Let a piece of the far side's answers through for each `release` of what is returned."""
        self._permits = asyncio.Semaphore(0)
        return self._permits

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            if not self._refusing:
                self.accepted += 1
                await self._forward(reader, writer)
        except (asyncio.CancelledError, OSError):
            pass  # cut, or the far side takes no connection
        finally:
            try:
                await self._end(writer)
            finally:
                self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer, is_answer=True))
        finally:
            await self._end(far_writer)

    async def _end(self, writer: asyncio.StreamWriter) -> None:
        if not self._is_closing_gently:
            await _reset(writer)
            return
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        try:
            while data := await reader.read(65536):
                await self._flowing.wait()
                if is_answer and self._permits is not None:
                    await self._permits.acquire()
                if is_answer and self._swallowing:
                    continue
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            pass


async def _reset(writer: asyncio.StreamWriter) -> None:
    plug = writer.get_extra_info("socket")
    if plug is not None and plug.fileno() >= 0:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
