"""Asterisk's HTTP server as the daemon sees it: one websocket for each application, and REST."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from contextvars import copy_context
from functools import partial
from random import Random
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from websockets.exceptions import ConnectionClosedError

from arimonitor_runner.ari.errors import AriError, AriNotFound
from arimonitor_runner.ari.rest import NotConnected
from arimonitor_runner.settings import AriSettings
from tests.simulation.asterisk import Asterisk
from tests.simulation.stand_ins import own_process

_VARIABLES = {"MIXMONITOR_FILENAME": "recording", "CHANNEL(linkedid)": "linkedid"}


class HttpServer:
    """Where daemons connect to."""

    def __init__(self, pbx: Asterisk, random: Random) -> None:
        self.pbx = pbx
        self.random = random
        self.is_up = True
        self.client: Socket | None = None
        """The socket of whoever connected last."""
        self.is_subscribed = False
        self.heard = 0
        pbx.hear = self._hear

    def _hear(self, raw: bytes) -> None:
        if self.client is not None and self.is_subscribed:
            self.heard += 1
            self.client.arrive(raw)

    def connect(self) -> Socket:
        """A websocket with our application's name; who had it before hears so, and then nothing more."""
        if not self.is_up:
            raise ConnectionRefusedError("connection refused")
        before, self.client = self.client, Socket(self)
        if before is None:
            self.is_subscribed = False
        else:
            before.arrive(b'{"type":"ApplicationReplaced","application":"arimonitor"}')
        return self.client

    def forget(self, socket: Socket) -> None:
        """A socket is closed; with the last one of an application its subscriptions go."""
        if self.client is socket:
            self.client = None
            self.is_subscribed = False

    def drop(self, *, silently: bool) -> None:
        """The network fails. Silently: no side is told, and only an unanswered ping will."""
        client = self.client
        if client is None:
            return
        self.forget(client)
        if silently:
            self.pbx.loop.call_later(self.random.uniform(5.0, 15.0), client.end)
        else:
            client.end()

    def go_down(self) -> None:
        """Asterisk ends, and with it every connection."""
        self.is_up = False
        self.drop(silently=False)

    def go_up(self) -> None:
        """Asterisk serves again."""
        self.is_up = True

    async def travel(self) -> None:
        """A request takes its time; a PBX that is away answers none."""
        await asyncio.sleep(self.random.uniform(0.0005, 0.02))
        if not self.is_up:
            raise AriError("connection refused")


class Socket:
    """The daemon's side of one websocket, as a `DirectClient` is."""

    class protocol:  # noqa: N801  # the library's name
        """What the library says of an end."""

        close_exc = ConnectionClosedError(None, None)

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._frames: list[bytes] = []
        self._take: Callable[[bytes], object] = self._frames.append
        self._over = asyncio.Event()
        process = own_process()
        # What arrives is dealt with by the daemon's process, whoever sent it.
        self._call_soon = partial(asyncio.get_running_loop().call_soon, context=copy_context())
        process.on_death.append(self._abandon)

    def _abandon(self) -> None:
        self._server.forget(self)

    def arrive(self, raw: bytes) -> None:
        """A frame came in."""
        if not self._over.is_set():
            self._call_soon(self._hand, raw)

    def _hand(self, raw: bytes) -> None:
        self._take(raw)

    def hand_over(self, take: Callable[[bytes], object]) -> None:
        """As `DirectDelivery.hand_over`."""
        for raw in self._frames:
            take(raw)
        self._frames.clear()
        self._take = take

    def end(self) -> None:
        """The connection is over; what came before is handed over first."""
        self._call_soon(self._over.set)

    async def wait_closed(self) -> None:
        """Return when it is over."""
        await self._over.wait()

    async def close(self) -> None:
        """Say goodbye."""
        self._server.forget(self)
        self._over.set()
        await asyncio.sleep(0.001)


class VirtualRest:
    """In the place of `AriRest`: the same requests without HTTP."""

    server: HttpServer
    """Of this world; set before it begins."""

    def __init__(self, settings: AriSettings) -> None:
        self._settings = settings

    async def __aenter__(self) -> VirtualRest:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    async def put_event_filter(self, allowed: Iterable[str]) -> None:
        """The made-up Asterisk says little more than is asked for anyway."""
        await self.server.travel()

    async def subscribe(self) -> None:
        """From here on events come."""
        await self.server.travel()
        if self.server.client is None:
            raise NotConnected("404 for our own application", "Application not found")
        self.server.is_subscribed = True

    async def verify_subscription(self) -> None:
        """It is as we asked."""
        await self.server.travel()
        if not self.server.is_subscribed:
            raise AriError("not subscribed")

    async def get(self, path: str) -> bytes:
        """What Asterisk shows at this moment."""
        await self.server.travel()
        pbx = self.server.pbx
        match path.split("?", maxsplit=1)[0].split("/"):
            case ["asterisk", "info"]:
                return pbx.info()
            case ["channels"]:
                return pbx.list_channels()
            case ["bridges"]:
                return pbx.list_bridges()
            case ["endpoints"]:
                return pbx.list_endpoints()
            case ["channels", channel_id]:
                shown = pbx.show_channel(unquote(channel_id))
                if shown is not None:
                    return shown
            case ["channels", channel_id, "variable"]:
                return self._variable(unquote(channel_id), unquote(path.partition("variable=")[2]))
        raise AriNotFound(f"404 GET {path}", "Channel not found")

    def _variable(self, channel_id: str, name: str) -> bytes:
        channel = self.server.pbx.channels.get(channel_id)
        if channel is None:
            raise AriNotFound(f"404 GET {name}", "Provided channel was not found")
        value = getattr(channel, _VARIABLES[name]) if name in _VARIABLES else ""
        if not value:
            raise AriNotFound(f"404 GET {name}", "Provided variable was not found")
        return json.dumps({"value": value}).encode()


async def open_websocket(_url: str, **_options: Any) -> Socket:
    """In the place of `websockets.connect`."""
    server = VirtualRest.server
    await asyncio.sleep(server.random.uniform(0.0005, 0.02))
    return server.connect()
