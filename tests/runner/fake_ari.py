"""An ARI server that behaves, or misbehaves, as a test wants it: real HTTP and a real websocket, no Asterisk."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any

from aiohttp import WSCloseCode, web

USER, PASSWORD = "arimonitor", "s3cret"
TOPICS = {
    "channel": "__AST_CHANNEL_ALL_TOPIC",
    "bridge": "__AST_BRIDGE_ALL_TOPIC",
    "endpoint": "__AST_ENDPOINT_ALL_TOPIC",
}


class FakeAri:
    """One PBX with one application. Attributes may be changed at any time."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"channels": [], "bridges": [], "endpoints": []}
        self.before_answer: dict[str, list[dict[str, Any]]] = {}
        """Events to send before a GET of that name is answered."""
        self.variables: dict[str, dict[str, str]] = {}
        """By id of the channels that exist, whether listed or not; those that are listed exist without it."""
        self.orphans: set[str] = set()
        """Ids that are listed and do not exist."""
        self.after_answer: Callable[[str], None] = lambda _path: None
        """Called with the path of each answered GET: the time to change things."""
        self.read_only = False
        self.hang_handshake = False
        self.hang_rest: set[str] = set()
        """Paths (`channels`, `asterisk/info`) that are never answered."""
        self.failing: set[str] = set()
        """Paths that are answered with 500."""
        self.raw: dict[str, bytes] = {}
        """By path: what is answered with 200, as it is, whatever it is."""
        self.startup_time = "2026-11-22T09:59:21.339+0000"
        self.lacking: set[str] = set()
        """Kinds of event source that a subscription silently leaves out."""
        self.late_registrations = 0
        """How many requests find the application not registered yet."""
        self.requests: list[str] = []
        self.filters: list[list[str]] = []
        self.handshakes: list[web.Request] = []
        self.socket: web.WebSocketResponse | None = None
        self.dials_out = False
        """The application has an outbound websocket, so it is registered at all times."""
        self.sources: set[str] = set()
        self.changed = asyncio.Condition()
        self._released = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> FakeAri:
        application = web.Application()
        application.add_routes([web.get("/ari/events", self._events), web.route("*", "/ari/{path:.*}", self._rest)])
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        if self.socket is not None:
            await self.socket.close()
        await self._runner.cleanup()

    async def when(self, condition) -> None:
        """Wait until something is true of this server."""
        async with self.changed:
            await self.changed.wait_for(condition)

    async def when_subscribed(self) -> None:
        """Wait until a client is connected and asked for endpoints, its last request."""
        await self.when(lambda: self.socket is not None and "GET endpoints" in self.requests)

    async def send(self, *events: dict[str, Any] | bytes) -> None:
        """Send events over the current websocket; bytes as they are, whatever they are."""
        for event in events:
            if isinstance(event, bytes):
                await self.socket.send_bytes(event)
            else:
                await self.socket.send_str(json.dumps(event))

    async def drop(self) -> None:
        """Close the websocket; what was asked before is forgotten."""
        self.requests.clear()
        socket, self.socket = self.socket, None
        await socket.close(code=WSCloseCode.INTERNAL_ERROR)

    async def _note(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def _authorized(self, request: web.Request) -> bool:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return request.headers.get("Authorization") == wanted

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self.handshakes.append(request)
        if self.hang_handshake:
            await self._note()
            await self._released.wait()
        if not self._authorized(request):
            return web.Response(status=401)
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        replaced, self.socket = self.socket, socket
        if replaced is not None and not replaced.closed:
            # A successor inherits subscription and filter; the old socket stays open, and deaf.
            await replaced.send_str(json.dumps({"type": "ApplicationReplaced", "application": "arimonitor"}))
        else:
            self.sources = set()
        await self._note()
        async for _ in socket:
            pass
        return socket

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        self.requests.append(f"{request.method} {path}")
        await self._note()
        if path in self.hang_rest:
            await self._released.wait()
        if not self._authorized(request):
            return web.json_response({"message": "Authentication required"}, status=401)
        if request.method != "GET" and self.read_only:
            return web.json_response({"message": "Write access denied"}, status=403)
        if path in self.failing:
            response = web.json_response({"message": "Internal error"}, status=500)
        elif path in self.raw:
            response = web.Response(body=self.raw[path])
        elif path.startswith("applications/"):
            response = await self._application(request, path)
        elif path == "asterisk/info":
            response = web.json_response({"status": {"startup_time": self.startup_time}})
        elif path.startswith("channels/"):
            response = self._channel(request, path)
        else:
            for event in self.before_answer.get(path, []):
                await self.send(event)
            response = web.json_response(self.answers[path])
        self.after_answer(path)
        await self._note()
        return response

    def _channel(self, request: web.Request, path: str) -> web.StreamResponse:
        """Asterisk's two views of a channel: its cache of snapshots, and the channel itself."""
        one = path.removeprefix("channels/").removesuffix("/variable")
        shown = {channel["id"]: channel for channel in self.answers["channels"]}
        if not path.endswith("/variable"):
            if one not in shown and one not in self.variables:
                return web.json_response({"message": "Channel not found"}, status=404)
            return web.json_response(shown.get(one) or {"id": one})
        if one in self.orphans or (one not in shown and one not in self.variables):
            return web.json_response({"message": "Provided channel was not found"}, status=404)
        name = request.query["variable"]
        value = self.variables.get(one, {}).get(name, one if "(" in name else None)
        if value is None:
            return web.json_response({"message": "Provided variable was not found"}, status=404)
        return web.json_response({"value": value})

    async def _application(self, request: web.Request, path: str) -> web.StreamResponse:
        if (self.socket is None and not self.dials_out) or self.late_registrations > 0:
            self.late_registrations -= 1
            return web.json_response({"message": "Application not found"}, status=404)
        if path.endswith("/eventFilter"):
            document = await request.json()
            assert document["disallowed"] == []
            self.filters.append([entry["type"] for entry in document["allowed"]])
        elif path.endswith("/subscription"):
            asked = {source.rstrip(":") for source in request.query["eventSource"].split(",")}
            self.sources = asked - self.lacking
        shown = {f"{kind}_ids": [topic] if kind in self.sources else [] for kind, topic in TOPICS.items()}
        return web.json_response({"name": "arimonitor", **shown})
