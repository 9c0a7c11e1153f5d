"""An Asterisk that sends made-up traffic over ARI, in a process of its own, as fast or as steadily as it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from aiohttp import web

from arimonitor_runner.demo.applications import Application, Applications
from arimonitor_runner.demo.pbx import RecordedPbx
from arimonitor_runner.demo.rest import make_routes
from benchmarks.traffic import Traffic, picture

USER, PASSWORD = "arimonitor", "arimonitor"
WRITE_BYTES = 64 * 1024
"""Sent in one piece where speed is what counts: the pump shall cost as little as it can."""


class Pump:
    """The handle on the other process. Its clock is `time.monotonic`, which all processes of a machine share."""

    def __init__(self, url: str, commands: Connection) -> None:
        self.url = url
        self._commands = commands

    def prepare(self, traffic: Traffic) -> None:
        """Encode it, so that sending it costs little more than the system calls."""
        self._ask("prepare", traffic)

    def flood(self, application: str) -> float:
        """Send all of it as fast as the client takes it; gives when that began."""
        return float(self._ask("flood", application))

    def send_steadily(self, application: str, events_per_s: float) -> list[float]:
        """Send all of it, each event by itself; gives when each was sent."""
        sent: list[float] = self._ask("send_steadily", application, events_per_s)
        return sent

    def _ask(self, *command: Any) -> Any:
        self._commands.send(command)
        return self._commands.recv()


@contextmanager
def running_pump() -> Iterator[Pump]:
    """Start it and end it."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), name="pump")
    process.start()
    theirs.close()
    try:
        yield Pump(ours.recv(), ours)
    finally:
        ours.close()
        process.join()


def _serve(commands: Connection) -> None:
    asyncio.run(_Server().run(commands))


class _Server:
    def __init__(self) -> None:
        self.pbx = RecordedPbx()
        self.pbx.load(picture())
        self.applications = Applications()
        self.credentials = (USER, PASSWORD)
        self.is_away = False
        self.started_at = picture().received_at - 3600
        self._requests: dict[str, web.Request] = {}
        self._frames: list[bytes] = []

    async def run(self, commands: Connection) -> None:
        """Do what comes in over the pipe until its other end is closed."""
        application = web.Application()
        routes = [route for route in make_routes(self) if route.path != "/ari/events"]
        application.add_routes([*routes, web.get("/ari/events", self._serve_events)])
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        commands.send(f"http://127.0.0.1:{runner.addresses[0][1]}")
        try:
            while True:
                name, *arguments = await asyncio.to_thread(commands.recv)
                commands.send(await getattr(self, name)(*arguments))
        except EOFError:
            await self.applications.close_all()
            await runner.cleanup()

    async def prepare(self, traffic: Traffic) -> None:
        self._frames = [_frame(raw) for raw in traffic.events()]

    async def flood(self, application: str) -> float:
        request = self._requests[application]
        pieces = list(_join(self._frames))
        began_at = time.monotonic()
        for piece in pieces:
            request.transport.write(piece)
            await request.writer.drain()
        return began_at

    async def send_steadily(self, application: str, events_per_s: float) -> list[float]:
        request = self._requests[application]
        began_at = time.monotonic()
        sent = []
        for number, frame in enumerate(self._frames):
            wait_s = began_at + number / events_per_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            sent.append(time.monotonic())
            request.transport.write(frame)
        return sent

    async def _serve_events(self, request: web.Request) -> web.StreamResponse:
        """Asterisk's side of the websocket; frames go past aiohttp, which answers pings alone."""
        name = request.query["app"]
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self._requests[name] = request
        one = Application(name, socket, request.transport)
        await self.applications.register(one)
        async for _ in socket:
            pass
        await self.applications.unregister(one)
        return socket


def _frame(raw: bytes) -> bytes:
    """A text frame as a server sends it: whole and unmasked."""
    if len(raw) < 126:
        return b"\x81%c%b" % (len(raw), raw)
    assert len(raw) < 2**16
    return b"\x81\x7e%b%b" % (len(raw).to_bytes(2, "big"), raw)


def _join(frames: list[bytes]) -> Iterator[bytes]:
    piece: list[bytes] = []
    size = 0
    for frame in frames:
        piece.append(frame)
        size += len(frame)
        if size >= WRITE_BYTES:
            yield b"".join(piece)
            piece.clear()
            size = 0
    yield b"".join(piece)
