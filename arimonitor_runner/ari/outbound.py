"""The websocket that Asterisk 22 opens to us (`type = outbound_websocket`): nothing is lost while we are away.

Asterisk keeps events in its memory while nobody listens and sends them first on the next connection. Where that replay
ends it does not say reliably: `ApplicationRegistered` follows it on a reconnect, but comes first after Asterisk's own
start. So we ask something over the websocket: Asterisk reads only when it has sent all that it kept, and its answer
stands in the stream where the replay ends. From there on events wait until everything has been read, as ever.

Asterisk 22.10 can crash while it writes to a socket that breaks. So nothing here breaks one without need: a failed
request is made again on the open connection, pings are patient, and the end is a close frame, read to its answer.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from base64 import b64encode
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any, cast
from uuid import uuid4

import msgspec
import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from arimonitor_core.ari_events import UNREADABLE
from arimonitor_runner.ari.connection import AriConnection, Hold, alongside
from arimonitor_runner.ari.delivery import DirectServer
from arimonitor_runner.ari.errors import AriError
from arimonitor_runner.ari.inbound import CLOSE_S
from arimonitor_runner.backoff import Backoff
from arimonitor_runner.input_queue import InputQueue, now
from arimonitor_runner.settings import AriSettings

PONG_S = 60.0
"""At least so long a ping may stay unanswered: Asterisk does not read while it sends what it kept."""
REMIND_S = 60.0
"""Time between two lines that say that Asterisk does not dial us."""
PROBE_S = 0.2
"""A living Asterisk answers a ping at once; one that dials waits half a second for us."""
SECOND = "a second Asterisk dials us and is sent away: a monitor follows one"
WAITING_MAX = 3
"""Connections that may wait for the one before them to be read to its end."""

_log = structlog.get_logger()

_library_log = logging.getLogger(f"{__name__}.websockets")
# Anybody may knock at a port; a traceback for each that says nothing sensible helps nobody.
_library_log.addFilter(lambda record: record.msg != "opening handshake failed")


class _Answer(msgspec.Struct):
    type: str = ""
    request_id: str = ""


class DialedConnection(AriConnection):
    """One websocket that Asterisk opened."""

    def __init__(self, *parts: Any) -> None:
        """Join the parts of an `AriConnection`."""
        self._question = uuid4().hex
        self._has_replayed = asyncio.Event()
        self._count = 0
        self._takes = self._look
        super().__init__(*parts)
        self._lag.due_at = float("inf")  # what Asterisk kept is late, and should be

    @property
    def is_gap(self) -> bool:
        """Asterisk keeps what happens when the connection ends; only what we refused is lost."""
        return self.is_overrun

    async def run(self, hold: Hold | None = None) -> None:
        """Feed what Asterisk kept, then what there is, then what happens, until the connection ends; never returns.

        Raises ApplicationReplaced, or AriError for every other end.
        """
        try:
            if hold is not None:
                await hold()
            self._gate.open()
            await alongside(self._reader, self._await_replay())
            await alongside(self._reader, self._start_patiently())
            await alongside(self._reader, self._settle_filter())
            await asyncio.wait({self._reader})
            self._reader.result()
        except asyncio.CancelledError:
            raise  # the door ends it, once Asterisk cannot dial anew: a new connection would take what comes now
        except BaseException:
            await self.finish()
            raise

    async def finish(self) -> None:
        """Close in good order and feed all that came until the end."""
        await self.hang_up()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._gate.open()

    async def is_alive(self, within_s: float) -> bool:
        """Does whoever is at the other end still answer, in this time?"""
        if self._reader.done():
            return False
        try:
            async with asyncio.timeout(within_s):
                await (await self._websocket.ping())
        except (TimeoutError, ConnectionClosed):
            return False
        return True

    async def hang_up(self) -> None:
        """Close it; whoever runs it comes to its end."""
        await self._websocket.close(CloseCode.GOING_AWAY)

    async def reject(self, reason: str) -> None:
        """Close it unused."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._websocket.close(CloseCode.POLICY_VIOLATION, reason)

    def _look(self, raw: bytes) -> bool:
        """Count a message; False for the answer to our question, which is no event."""
        self._count += 1
        if not self._question or b"RESTResponse" not in raw:
            return True
        try:
            answer = msgspec.json.decode(raw, type=_Answer)
        except UNREADABLE:
            return True
        if answer.type != "RESTResponse" or answer.request_id != self._question:
            return True
        self._end_replay()
        return False

    def _end_replay(self) -> None:
        """From here on events wait for the picture."""
        self._question = ""
        self._opened_at = self._lag.due_at = now()
        self._gate.close()
        self._has_replayed.set()

    async def _await_replay(self) -> None:
        """Ask something and wait until it is answered, or until nothing has come for so long as a request may take."""
        question = {"type": "RESTRequest", "transaction_id": "replay", "request_id": self._question}
        try:
            await self._websocket.send(
                msgspec.json.encode(question | {"method": "GET", "uri": "asterisk/ping"}), text=True
            )
        except ConnectionClosed:
            await self._has_replayed.wait()  # the reader comes to the same end, after the events before it
        while not self._has_replayed.is_set():
            count = self._count
            try:
                async with asyncio.timeout(self._settings.request_timeout_s):
                    await self._has_replayed.wait()
            except TimeoutError:
                if count == self._count:
                    _log.warning("Asterisk answers nothing over its websocket: what it kept may follow late")
                    self._end_replay()
        _log.info("Asterisk has sent what it kept", events=self._count)

    async def _start_patiently(self) -> None:
        """Read what there is; where that fails, do so again later: the events come all the same."""
        backoff = Backoff(first_s=self._settings.backoff_first_s, cap_s=self._settings.backoff_max_s)
        while True:
            try:
                async with self._refreshing:
                    await self._start(continues=False)
            except AriError as error:
                self._gate.open()
                delay_s = backoff.next_delay_s()
                _log.error("what Asterisk shows cannot be read", reason=str(error), retry_in_s=round(delay_s, 2))
                await asyncio.sleep(delay_s)
                self._opened_at = now()
                self._gate.close()
            else:
                return


class OutboundDoor:
    """Where Asterisk dials us. One Asterisk, and one connection after the other."""

    def __init__(
        self, settings: AriSettings, queue: InputQueue, make: Callable[[DirectServer], DialedConnection]
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._make = make
        self._server: Server | None = None
        self._arrived: asyncio.Queue[DialedConnection] = asyncio.Queue()
        self._newest: DialedConnection | None = None
        self._current: DialedConnection | None = None
        self._one_by_one = asyncio.Lock()
        self._complained_at: dict[str, float] = {}
        credentials = f"{settings.listen_user}:{settings.listen_password}".encode()
        self._authorization = b"Basic " + b64encode(credentials)

    async def __aenter__(self) -> OutboundDoor:
        _log.warning(
            "Asterisk dials us: while we are away it keeps events in its memory without limit, and it can crash when "
            "the connection breaks; docs/operating.md says when that is worth it"
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is None:
            return
        self._server.close(close_connections=False)
        async with self._one_by_one:
            if self._current is not None:
                await self._current.finish()
            while not self._arrived.empty():
                await self._arrived.get_nowait().finish()
        self._server.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens, once it does."""
        return 0 if self._server is None else int(next(iter(self._server.sockets)).getsockname()[1])

    async def next_connection(self) -> DialedConnection:
        """Wait for Asterisk. Raises AriError where nobody can listen there."""
        if self._server is None:
            await self._listen()
        while True:
            try:
                async with asyncio.timeout(REMIND_S):
                    self._current = await self._arrived.get()
                    return self._current
            except TimeoutError:
                _log.warning("Asterisk does not dial us", port=self.port, waited_s=REMIND_S)

    async def _listen(self) -> None:
        settings = self._settings
        if not settings.listen_password:
            raise AriError("ari.listen_password is not set: nobody is let in without a password")
        try:
            self._server = await serve(
                self._serve,
                settings.listen_host,
                settings.listen_port,
                subprotocols=[Subprotocol("ari")],
                process_request=self._check,
                compression=None,
                server_header=None,
                logger=_library_log,
                open_timeout=settings.handshake_timeout_s,
                ping_interval=settings.ping_interval_s,
                ping_timeout=max(PONG_S, settings.ping_timeout_s),
                close_timeout=CLOSE_S,
                max_size=settings.message_bytes_max,
                create_connection=DirectServer,
            )
        except OSError as error:
            raise AriError(f"cannot listen on {settings.listen_host}:{settings.listen_port}: {error}") from error
        _log.info("waiting for Asterisk to dial us", host=settings.listen_host, port=self.port)

    async def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        """Let only our Asterisk in, only once, and only while there is room for what it brings."""
        if request.path.partition("?")[0] != self._settings.listen_path:
            return connection.respond(HTTPStatus.NOT_FOUND, "not here\n")
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, self._authorization):
            self._complain("somebody who is not our Asterisk dials us", connection)
            response = connection.respond(HTTPStatus.UNAUTHORIZED, "who are you?\n")
            response.headers["WWW-Authenticate"] = 'Basic realm="ARIMONITOR"'
            return response
        if self._newest is not None and await self._newest.is_alive(PROBE_S):
            # Better now than later: a websocket that is never opened cannot break.
            self._complain(SECOND, connection)
            return connection.respond(HTTPStatus.CONFLICT, "another Asterisk is connected\n")
        if self._arrived.qsize() >= WAITING_MAX or len(self._queue) > self._settings.queue_max // 2:
            # Asterisk comes back by itself; meanwhile it keeps what happens, which we could not.
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "not now\n")
        return None

    async def _serve(self, websocket: ServerConnection) -> None:
        """Read at once, whoever it is; feed when it is its turn."""
        connection = self._make(cast("DirectServer", websocket))  # as `create_connection` says
        async with self._one_by_one:
            before = self._newest
            if before is not None and await before.is_alive(self._settings.ping_timeout_s):
                self._complain(SECOND, websocket)
                await connection.reject("another Asterisk is connected")
                return
            if before is not None:
                await before.hang_up()
            self._newest = connection
            self._arrived.put_nowait(connection)
        await websocket.wait_closed()

    def _complain(self, what: str, connection: ServerConnection) -> None:
        """Log it, but not with each of the attempts that an Asterisk makes twice a second."""
        time_s = asyncio.get_running_loop().time()
        if time_s - self._complained_at.get(what, -REMIND_S) >= REMIND_S:
            self._complained_at[what] = time_s
            _log.error(what, peer=":".join(map(str, connection.remote_address[:2])))
