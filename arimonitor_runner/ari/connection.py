"""One ARI websocket, from its handshake to its end.

The order is what keeps both sides safe (measured on Asterisk 16 and 22): connect without subscribeAll, put the event
filter, subscribe, and only then read what exists, while events wait in memory. The reading task does nothing else than
append: Asterisk drops a client that lets its socket fill up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from arimonitor_core.inputs import AriEventReceived, ConnectionRestored
from arimonitor_runner.ari import channelvars
from arimonitor_runner.ari.errors import ApplicationReplaced, AriError, AriRefused, AriStuck
from arimonitor_runner.ari.rest import AriRest, authorization, repeat_until_connected
from arimonitor_runner.input_queue import InputQueue, now
from arimonitor_runner.settings import ALL_EVENTS, AriSettings

VARIABLE_EVENT = "ChannelVarset"
TAKEOVER_EVENT = "ApplicationReplaced"

_CLOSE_S = 2.0
_FRAMES_BUFFERED = 1024

_log = structlog.get_logger()


class _Peek(msgspec.Struct):
    type: str = ""
    application: str = ""


_peek = msgspec.json.Decoder(_Peek).decode


class AriConnection:
    """One attempt to listen. Use it once: `run`."""

    def __init__(self, settings: AriSettings, rest: AriRest, queue: InputQueue, on_up: Callable[[], None]) -> None:
        self._settings = settings
        self._rest = rest
        self._queue = queue
        self._on_up = on_up
        self._waiting: deque[AriEventReceived] = deque()
        self._deliver: Callable[[AriEventReceived], bool] = self._keep_waiting
        self._has_channelvars: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._is_looking = False
        self.up_at: float | None = None
        """When ConnectionRestored was fed, by the event loop's clock; None where it never came to that."""
        self.is_overrun = False
        """It ended because the queue was full."""

    async def run(self) -> None:
        """Connect, feed what there is and what happens, until the connection ends; never returns.

        Raises ApplicationReplaced, or AriError (and its kinds) for every other end.
        """
        websocket = await self._connect()
        opened_at = now()
        reader = asyncio.create_task(self._read(websocket), name="ari reader")
        try:
            await _alongside(reader, self._start(opened_at))
            await _alongside(reader, self._settle_filter())
            await reader
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await websocket.close()

    async def _connect(self) -> ClientConnection:
        settings = self._settings
        scheme, _, rest = settings.url.rstrip("/").partition("://")
        socket_scheme = "wss" if scheme == "https" else "ws"
        try:
            return await connect(
                f"{socket_scheme}://{rest}/ari/events?app={quote(settings.application, safe='')}",
                additional_headers=authorization(settings),
                proxy=None,
                compression=None,
                open_timeout=settings.handshake_timeout_s,
                ping_interval=settings.ping_interval_s,
                ping_timeout=settings.ping_timeout_s,
                close_timeout=_CLOSE_S,
                max_size=settings.message_bytes_max,
                max_queue=_FRAMES_BUFFERED,
            )
        except TimeoutError as error:
            raise await self._explain_timeout() from error
        except InvalidStatus as error:
            raise self._explain_status(error.response.status_code) from error
        except (InvalidHandshake, OSError, EOFError) as error:
            raise AriError(f"no websocket: {error or type(error).__name__}") from error

    async def _explain_timeout(self) -> AriError:
        """Tell a PBX that is away from one whose event system is stuck: then simple requests still work."""
        limit_s = self._settings.handshake_timeout_s
        try:
            await self._rest.get("asterisk/info?only=status")
        except AriError as error:
            return AriError(f"no websocket handshake within {limit_s:g} s; {error}")
        return AriStuck(f"no websocket handshake within {limit_s:g} s, but GET /asterisk/info answers")

    def _explain_status(self, status: int) -> AriError:
        user = self._settings.user
        if status in (401, 403):
            return AriRefused(f"{status}: Asterisk does not accept user {user} with this password (ari.conf)")
        return AriError(f"websocket handshake answered with status {status}")

    async def _read(self, websocket: ClientConnection) -> None:
        """Append every event, in order; never returns."""
        receive = websocket.recv
        try:
            while True:
                raw = await receive(decode=False)
                if not self._deliver(AriEventReceived(now(), raw)):
                    self.is_overrun = True
                    raise AriError(f"{self._settings.queue_max} events wait in memory: the machine is too slow")
                if b"ApplicationReplaced" in raw:
                    self._look_for_takeover(raw)
                if self._is_looking:
                    self._learn(channelvars.look_at_event(raw))
        except ConnectionClosed as error:
            raise AriError(f"websocket closed: {error}") from error

    def _look_for_takeover(self, raw: bytes) -> None:
        try:
            event = _peek(raw)
        except msgspec.MsgspecError:
            return
        if event.type == TAKEOVER_EVENT and event.application in ("", self._settings.application):
            raise ApplicationReplaced

    def _learn(self, verdict: bool | None) -> None:
        """Note whether snapshots hold channelvars; the first channel that is seen decides."""
        if verdict is not None and not self._has_channelvars.done():
            self._has_channelvars.set_result(verdict)
        self._is_looking = not self._has_channelvars.done()

    def _keep_waiting(self, event: AriEventReceived) -> bool:
        self._waiting.append(event)
        return len(self._waiting) < self._settings.queue_max

    def _allowed_types(self, *, with_variables: bool) -> list[str]:
        """Give the filter's list of types; empty, as Asterisk has it, for all."""
        if ALL_EVENTS in self._settings.events:
            return []
        types = [name for name in self._settings.events if name not in (TAKEOVER_EVENT, VARIABLE_EVENT)]
        # Asterisk's filter also eats ApplicationReplaced, and without it we would never learn of a successor.
        return [TAKEOVER_EVENT, *types, *([VARIABLE_EVENT] if with_variables else [])]

    async def _start(self, opened_at: float) -> None:
        """Filter, subscribe, look at what exists, and let it all through in the right order."""
        with_variables = self._settings.channelvars != "yes"
        allowed = self._allowed_types(with_variables=with_variables)
        # The filter goes first: then nothing that it would have dropped can come at all.
        await repeat_until_connected(lambda: self._rest.put_event_filter(allowed))
        await self._rest.subscribe()
        await self._rest.verify_subscription()
        channels = await self._rest.get("channels")
        bridges = await self._rest.get("bridges")
        endpoints = await self._rest.get("endpoints")
        if self._settings.channelvars == "auto":
            self._learn(channelvars.look_at_channels(channels))
            for event in self._waiting:
                self._learn(channelvars.look_at_event(event.raw))
        # From here to the end nothing awaits: no event can slip in between.
        # The time is that of the handshake, before the first event: times of inputs never step back.
        self._queue.put_anyway(
            ConnectionRestored(received_at=opened_at, channels=channels, bridges=bridges, endpoints=endpoints)
        )
        for event in self._waiting:
            self._queue.put_anyway(event)
        self._waiting.clear()
        self._deliver = self._queue.put
        self.up_at = asyncio.get_running_loop().time()
        self._on_up()
        _log.info("ARI connection up", application=self._settings.application, url=self._settings.url)

    async def _settle_filter(self) -> None:
        """Where snapshots turn out to hold channelvars, stop ChannelVarset at its source."""
        if self._settings.channelvars != "auto" or ALL_EVENTS in self._settings.events:
            return
        if not self._has_channelvars.done():
            _log.info("no channel is alive: ChannelVarset is let through until one shows whether it has channelvars")
        if not await self._has_channelvars:
            _log.warning(
                "channel snapshots lack the recording's path: ChannelVarset stays on, four times the events",
                recommended=channelvars.RECOMMENDED,
            )
            return
        try:
            await self._rest.put_event_filter(self._allowed_types(with_variables=False))
        except AriError as error:
            # Nothing is lost by it: there are only more events than needed.
            _log.warning("ChannelVarset could not be filtered out", reason=str(error))
        else:
            _log.info("channel snapshots hold channelvars: ChannelVarset is filtered out at the source")


async def _alongside(reader: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> None:
    """Do something while the reader reads; its end is the end of the work as well."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({reader, task}, return_when=asyncio.FIRST_COMPLETED)
        if reader.done():
            reader.result()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
