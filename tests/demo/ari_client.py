"""A monitor's side of ARI, bare, for the tests of the playback server."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect

from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_core.records import decode_record
from arimonitor_runner.demo.playback import PlaybackServer

CAPTURES = Path(__file__).parents[2] / "fixtures" / "captures"
FAST = 200.0
"""Seconds of a log per second: a capture of half a minute takes a moment."""


def read_capture(name: str) -> list[Input]:
    with gzip.open(CAPTURES / f"{name}.ndjson.gz") as lines:
        return [decode_record(line) for line in lines]


def events_of(records: Sequence[Input]) -> list[dict[str, Any]]:
    return [json.loads(record.raw) for record in records if isinstance(record, AriEventReceived)]


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"arimonitor:{password}".encode()).decode()}


class Client:
    """A monitor's side of ARI, bare: one websocket and REST."""

    def __init__(self, server: PlaybackServer, http: aiohttp.ClientSession) -> None:
        self.server = server
        self.http = http

    def connect(self, app: str = "arimonitor", query: str = "", password: str = "arimonitor") -> connect:
        """A websocket of the application; await it, or enter it."""
        url = self.server.url.replace("http", "ws")
        return connect(f"{url}/ari/events?app={app}&api_key=arimonitor:{password}{query}", max_queue=None)

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and body of one REST request."""
        options.setdefault("headers", basic("arimonitor"))
        async with self.http.request(method, f"{self.server.url}/ari/{path}", **options) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def get(self, path: str) -> Any:
        """Body of a GET that succeeds."""
        status, body = await self.ask("GET", path)
        assert status == 200, (path, body)
        return body

    async def subscribe(self, sources: str = "channel:,bridge:,endpoint:", app: str = "arimonitor") -> Any:
        """Subscribe, and return the application as the server describes it."""
        status, body = await self.ask("POST", f"applications/{app}/subscription", params={"eventSource": sources})
        assert status == 200, body
        return body

    async def set_filter(self, body: Any, app: str = "arimonitor") -> tuple[int, Any]:
        """Status and body of the answer to a new event filter."""
        return await self.ask("PUT", f"applications/{app}/eventFilter", json=body)


@asynccontextmanager
async def playing(records: Sequence[Input], **options: Any) -> AsyncIterator[Client]:
    async with PlaybackServer(records, **options) as server, aiohttp.ClientSession() as http:
        yield Client(server, http)


async def read_all(socket: ClientConnection, server: PlaybackServer) -> list[dict[str, Any]]:
    """Everything that the socket brings until the log has been played."""
    received: list[dict[str, Any]] = []

    async def read() -> None:
        async for message in socket:
            received.append(json.loads(message))

    reader = asyncio.create_task(read())
    await server.wait_finished()
    # A ping is answered after what was sent before it.
    await (await socket.ping())
    reader.cancel()
    return received


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
