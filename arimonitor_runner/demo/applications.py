"""The ARI applications of a playback: who is connected, what they subscribed to, what their filter lets through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from aiohttp import WSMsgType, web
from attrs import Factory, define

from arimonitor_runner.demo.pbx import Json

WRITE_TIMEOUT_S = 5.0
"""A client that takes nothing for so long loses its connection, as with Asterisk's websocket_write_timeout."""

SOURCES = ("channel", "bridge", "endpoint", "deviceState")
_ALL_TOPICS = {
    "channel": "__AST_CHANNEL_ALL_TOPIC",
    "bridge": "__AST_BRIDGE_ALL_TOPIC",
    "endpoint": "__AST_ENDPOINT_ALL_TOPIC",
    "deviceState": "__AST_DEVICE_STATE_ALL_TOPIC",
}
_ENDPOINT_EVENTS = frozenset({"ContactStatusChange", "EndpointStateChange", "PeerStatusChange"})
_TWO_SOURCES = frozenset({"ChannelEnteredBridge", "ChannelLeftBridge", "BridgeBlindTransfer", "BridgeAttendedTransfer"})


@define(eq=False)
class Application:
    """One registered application and the connection that owns it."""

    name: str
    socket: web.WebSocketResponse
    transport: asyncio.Transport
    sources: set[str] = Factory(set)
    """Of SOURCES, each meaning all of its kind."""
    allowed: list[Json] = Factory(list)
    disallowed: list[Json] = Factory(list)

    def wants(self, event_type: str) -> bool:
        """Is an event of this type sent to the application?"""
        return bool(self.sources & _sources_of(event_type)) and self.passes(event_type)

    def passes(self, event_type: str) -> bool:
        """Does the event filter let the type through? As in Asterisk, `disallowed` wins."""
        if any(entry["type"] == event_type for entry in self.disallowed):
            return False
        return not self.allowed or any(entry["type"] == event_type for entry in self.allowed)

    def describe(self) -> Json:
        """Answer of `GET /applications/{name}`, in Asterisk's form."""
        topics = {source: [_ALL_TOPICS[source]] if source in self.sources else [] for source in SOURCES}
        return {
            "name": self.name,
            "channel_ids": topics["channel"],
            "bridge_ids": topics["bridge"],
            "endpoint_ids": topics["endpoint"],
            "device_names": topics["deviceState"],
            "events_allowed": self.allowed,
            "events_disallowed": self.disallowed,
        }

    async def send(self, raw: bytes) -> None:
        """Send one event; a client that is gone or takes nothing is cut off."""
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self.socket.send_frame(raw, WSMsgType.TEXT)
        except (TimeoutError, ConnectionError):
            self.cut()

    def cut(self) -> None:
        """Break the connection without a close frame."""
        self.transport.abort()


class Applications:
    """All registered applications, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Application] = {}
        self._replaced: set[Application] = set()
        self._changed = asyncio.Condition()

    def find(self, name: str) -> Application | None:
        """The application of that name, where one is connected."""
        return self._by_name.get(name)

    def describe(self) -> list[Json]:
        """Answer of `GET /applications`."""
        return [application.describe() for application in self._by_name.values()]

    async def register(self, application: Application) -> None:
        """Connect an application; a connection that owned the name hears ApplicationReplaced and owns it no more."""
        before = self._by_name.get(application.name)
        self._by_name[application.name] = application
        if before is not None:
            application.sources |= before.sources
            application.allowed, application.disallowed = before.allowed, before.disallowed
            self._replaced.add(before)
            if before.passes("ApplicationReplaced"):
                await before.send(b'{"type":"ApplicationReplaced","application":"%b"}' % application.name.encode())
        await self._announce()

    async def unregister(self, application: Application) -> None:
        """Forget a connection; the application goes with the one that owns it, subscription and filter too."""
        self._replaced.discard(application)
        if self._by_name.get(application.name) is application:
            del self._by_name[application.name]
        await self._announce()

    async def subscribe(self, application: Application, sources: Iterable[str]) -> None:
        """Add to what an application hears of."""
        application.sources.update(sources)
        await self._announce()

    async def wait_subscribed(self) -> None:
        """Return when some application hears of something."""
        async with self._changed:
            await self._changed.wait_for(lambda: any(a.sources for a in self._by_name.values()))

    async def broadcast(self, event_type: str, raw: bytes) -> None:
        """Send an event to every application that wants it."""
        for application in list(self._by_name.values()):
            if application.wants(event_type):
                named = raw.replace(b'"application":"arimonitor"', b'"application":"%b"' % application.name.encode())
                await application.send(named)

    def cut_all(self) -> None:
        """Break all connections; the applications and their filters are gone."""
        for application in [*self._by_name.values(), *self._replaced]:
            application.cut()
        self._by_name.clear()

    async def close_all(self) -> None:
        """Close all connections in good order."""
        for application in [*self._by_name.values(), *self._replaced]:
            with contextlib.suppress(ConnectionError):
                await application.socket.close()

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _sources_of(event_type: str) -> frozenset[str]:
    if event_type in _ENDPOINT_EVENTS:
        return frozenset({"endpoint"})
    if event_type == "DeviceStateChanged":
        return frozenset({"deviceState"})
    if event_type in _TWO_SOURCES:
        return frozenset({"channel", "bridge"})
    return frozenset({"bridge" if event_type.startswith("Bridge") else "channel"})
