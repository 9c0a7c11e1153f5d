"""The part of ARI that a playback serves: events, and the resources that a monitor reads or sets."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

from aiohttp import web

from arimonitor_runner.demo.applications import SOURCES, Application, Applications
from arimonitor_runner.demo.pbx import Json, RecordedPbx

ENTITY_ID = "02:fc:00:00:00:01"
VERSION = "22.10.1"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Pbx(Protocol):
    """What the routes need of the server that they belong to."""

    @property
    def pbx(self) -> RecordedPbx:
        """Channels, bridges and endpoints of this moment."""
        ...

    @property
    def applications(self) -> Applications:
        """Who is connected."""
        ...

    @property
    def credentials(self) -> tuple[str, str]:
        """User and password."""
        ...

    @property
    def is_away(self) -> bool:
        """Nothing can be reached at this moment."""
        ...

    @property
    def started_at(self) -> float:
        """Start of Asterisk, Unix seconds."""
        ...


def make_routes(server: Pbx) -> list[web.RouteDef]:
    """All routes, each behind user and password."""
    routes = _Routes(server)

    def guarded(handler: Handler) -> Handler:
        async def guard(request: web.Request) -> web.StreamResponse:
            if server.is_away:
                return web.Response(status=503)
            if not _is_authorized(request, server.credentials):
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="Asterisk REST Interface"'})
            return await handler(request)

        return guard

    return [
        web.get("/ari/events", guarded(routes.serve_events)),
        web.get("/ari/channels", guarded(routes.list_channels)),
        web.get("/ari/channels/{id}", guarded(routes.get_channel)),
        web.get("/ari/channels/{id}/variable", guarded(routes.get_variable)),
        web.get("/ari/bridges", guarded(routes.list_bridges)),
        web.get("/ari/endpoints", guarded(routes.list_endpoints)),
        web.get("/ari/endpoints/{technology}/{resource}", guarded(routes.get_endpoint)),
        web.get("/ari/asterisk/info", guarded(routes.get_info)),
        web.get("/ari/applications", guarded(routes.list_applications)),
        web.get("/ari/applications/{name}", guarded(routes.get_application)),
        web.post("/ari/applications/{name}/subscription", guarded(routes.subscribe)),
        web.put("/ari/applications/{name}/eventFilter", guarded(routes.set_filter)),
    ]


class _Routes:
    """One method per resource; each answers as Asterisk does, errors included."""

    def __init__(self, server: Pbx) -> None:
        self._server = server

    async def serve_events(self, request: web.Request) -> web.StreamResponse:
        name = request.query.get("app", "")
        if not name or request.transport is None:
            return _refuse(400, "HTTP request is missing param: [app]")
        socket = web.WebSocketResponse(protocols=("ari",), compress=False)
        await socket.prepare(request)
        application = Application(name, socket, request.transport)
        if request.query.get("subscribeAll") == "true":
            application.sources.update(SOURCES)
        await self._server.applications.register(application)
        try:
            async for _ in socket:  # reading answers pings and sees the end; a client has nothing to say here
                pass
        finally:
            await self._server.applications.unregister(application)
        return socket

    async def list_channels(self, _: web.Request) -> web.Response:
        return web.json_response(self._server.pbx.list_channels())

    async def get_channel(self, request: web.Request) -> web.Response:
        return _found(self._server.pbx.find_channel(request.match_info["id"]), "Channel not found")

    async def get_variable(self, request: web.Request) -> web.Response:
        pbx, channel_id = self._server.pbx, request.match_info["id"]
        if pbx.find_channel(channel_id) is None:
            return _refuse(404, "Provided channel was not found")
        value = pbx.find_variable(channel_id, request.query.get("variable", ""))
        return _found(None if value is None else {"value": value}, "Provided variable was not found")

    async def list_bridges(self, _: web.Request) -> web.Response:
        return web.json_response(self._server.pbx.list_bridges())

    async def list_endpoints(self, _: web.Request) -> web.Response:
        return web.json_response(self._server.pbx.list_endpoints())

    async def get_endpoint(self, request: web.Request) -> web.Response:
        found = self._server.pbx.find_endpoint(request.match_info["technology"], request.match_info["resource"])
        return _found(found, "Endpoint not found")

    async def get_info(self, request: web.Request) -> web.Response:
        started = datetime.fromtimestamp(self._server.started_at, UTC).isoformat(timespec="milliseconds")
        started = started.replace("+00:00", "+0000")
        parts = {
            "system": {"version": VERSION, "entity_id": ENTITY_ID},
            "config": {"name": "pbx", "default_language": "en"},
            "status": {"startup_time": started, "last_reload_time": started},
        }
        only = request.query.get("only")
        return web.json_response({key: part for key, part in parts.items() if only is None or key in only.split(",")})

    async def list_applications(self, _: web.Request) -> web.Response:
        return web.json_response(self._server.applications.describe())

    async def get_application(self, request: web.Request) -> web.Response:
        application = self._server.applications.find(request.match_info["name"])
        return _found(application.describe() if application else None, "Application not found")

    async def subscribe(self, request: web.Request) -> web.Response:
        application = self._server.applications.find(request.match_info["name"])
        if application is None:
            return _refuse(404, "Application not found")
        kinds = {kind for source in request.query.getall("eventSource", []) for kind in _kinds(source)}
        if not kinds or not kinds <= set(SOURCES):
            return _refuse(400, "Invalid parameter")
        await self._server.applications.subscribe(application, kinds)
        return web.json_response(application.describe())

    async def set_filter(self, request: web.Request) -> web.Response:
        application = self._server.applications.find(request.match_info["name"])
        if application is None:
            return _refuse(404, "Application not found")
        try:
            wanted = json.loads(await request.text())
        except ValueError:
            wanted = None
        if not _is_filter(wanted):
            return _refuse(400, "Invalid format definition")
        # A list that is left out keeps its value, an empty one is emptied.
        application.allowed = wanted.get("allowed", application.allowed)
        application.disallowed = wanted.get("disallowed", application.disallowed)
        return web.json_response(application.describe())


def _kinds(event_source: str) -> list[str]:
    """`channel:,bridge:` names two kinds; an id after the colon is not told apart: all of a kind or none."""
    return [part.partition(":")[0] for part in event_source.split(",")]


def _is_filter(wanted: object) -> bool:
    return isinstance(wanted, dict) and all(
        isinstance(entries, list) and all(isinstance(e, dict) and isinstance(e.get("type"), str) for e in entries)
        for entries in (wanted.get("allowed", []), wanted.get("disallowed", []))
    )


def _is_authorized(request: web.Request, credentials: tuple[str, str]) -> bool:
    expected = ":".join(credentials)
    if request.query.get("api_key") == expected:
        return True
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        return scheme.lower() == "basic" and base64.b64decode(encoded).decode() == expected
    except (binascii.Error, UnicodeDecodeError):
        return False


def _found(thing: Json | None, otherwise: str) -> web.Response:
    return _refuse(404, otherwise) if thing is None else web.json_response(thing)


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)
