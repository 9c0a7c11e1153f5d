"""Asterisk's side of an outbound websocket: it dials, sends what it kept, and only then reads what it is asked."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from types import TracebackType
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

REGISTERED = {"type": "ApplicationRegistered", "application": "arimonitor"}
LISTEN_USER, LISTEN_PASSWORD = "pbx1", "segredo"


class FakeDialer:
    """One connection that an Asterisk opens. It dials until somebody listens."""

    def __init__(self, port: int, *kept: dict[str, Any] | bytes, answers: bool = True, **options: Any) -> None:
        """Dial this port and send `kept` first. Without `answers` it reads nothing that it is asked."""
        credentials = b64encode(f"{LISTEN_USER}:{options.pop('password', LISTEN_PASSWORD)}".encode()).decode()
        self._url = f"ws://127.0.0.1:{port}{options.pop('path', '/ari')}"
        self._options = {
            "additional_headers": {"Authorization": f"Basic {credentials}"},
            "subprotocols": ["ari"],
            "compression": None,
            "ping_interval": None,
            "proxy": None,
            **options,
        }
        self._kept = kept
        self._answers = answers
        self._reading: asyncio.Task[None] | None = None
        self.socket: ClientConnection

    async def __aenter__(self) -> FakeDialer:
        while True:
            try:
                self.socket = await connect(self._url, **self._options)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                break
        await self.send(*self._kept)
        if self._answers:
            self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.socket.close()
        if self._reading is not None:
            await self._reading

    async def send(self, *events: dict[str, Any] | bytes) -> None:
        """Send live events; bytes as they are, whatever they are."""
        for event in events:
            await self.socket.send(event if isinstance(event, bytes) else json.dumps(event))

    def vanish(self) -> None:
        """Be gone without a word: what was sent is on its way, nothing more comes, and nothing is answered."""
        self.socket.transport.pause_reading()

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                asked = json.loads(text)
                answer = {"type": "RESTResponse", "request_id": asked["request_id"], "status_code": 200}
                await self.send(answer)
        except ConnectionClosed:
            pass
