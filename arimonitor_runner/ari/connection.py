"""One ARI websocket, from its handshake to its end.

The order is what keeps both sides safe (measured on Asterisk 16 and 22): connect without subscribeAll, put the event
filter, subscribe, and only then read what exists, while events wait in memory. The reading task does nothing else than
append: Asterisk drops a client that lets its socket fill up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import structlog

from arimonitor_core.ari_events import UNREADABLE
from arimonitor_core.inputs import AriEventReceived
from arimonitor_runner.ari import channelvars
from arimonitor_runner.ari.collection import Collector
from arimonitor_runner.ari.delivery import DirectDelivery
from arimonitor_runner.ari.errors import ApplicationReplaced, AriError
from arimonitor_runner.ari.gate import EventGate
from arimonitor_runner.ari.lag import LagWatch
from arimonitor_runner.ari.rest import AriRest, repeat_until_connected
from arimonitor_runner.input_queue import InputQueue, now
from arimonitor_runner.settings import ALL_EVENTS, AriSettings

VARIABLE_EVENT = "ChannelVarset"
TAKEOVER_EVENT = "ApplicationReplaced"

Hold = Callable[[], Awaitable[bool]]
"""Waits for our predecessor to end. True: it heard everything up to our connection, and we continue from there."""

_log = structlog.get_logger()


class _Peek(msgspec.Struct):
    type: str = ""
    application: str = ""


_peek = msgspec.json.Decoder(_Peek).decode


class AriConnection:
    """Listens on one open websocket. It is read from now on, in a task; `run`, once, feeds what comes."""

    _takes: Callable[[bytes], bool] | None = None
    """Looks at a message before it is fed; False where it is no event."""

    def __init__(
        self,
        settings: AriSettings,
        websocket: DirectDelivery,
        rest: AriRest,
        queue: InputQueue,
        collector: Collector,
        on_up: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._websocket = websocket
        self._rest = rest
        self._gate = EventGate(queue, settings.queue_max)
        self._collector = collector
        self._on_up = on_up
        self._has_channelvars: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._is_looking = False
        self._lag = LagWatch()
        self._refreshing = asyncio.Lock()
        self._opened_at = now()
        self._refused: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(), name="ari reader")
        self.up_at: float | None = None
        """Since when events are fed, by the event loop's clock; None where it never came to that."""
        self.ended_at: float | None = None
        """When reading ended, Unix seconds."""
        self.is_overrun = False
        """It ended because memory was full."""

    @property
    def is_gap(self) -> bool:
        """Did its end leave the core deaf?"""
        return self.up_at is not None

    async def ended(self) -> bool:
        """Return when nothing can be read any more; True: another process took over the application's name."""
        await asyncio.wait({self._reader})
        return not self._reader.cancelled() and isinstance(self._reader.exception(), ApplicationReplaced)

    async def run(self, hold: Hold | None = None) -> None:
        """Feed what there is and what happens, until the connection ends; never returns.

        Args:
            hold: awaited first, while events wait in memory, even where the connection does not live that long.

        Raises ApplicationReplaced, or AriError (and its kinds) for every other end.
        """
        try:
            continues = hold is not None and await hold()
            if continues:
                # Subscription and filter were inherited with the application's name: what waits is all there was.
                self.up_at = asyncio.get_running_loop().time()
            await alongside(self._reader, self._start(continues=continues))
            await alongside(self._reader, self._settle_filter())
            await self._reader
        finally:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            if self.up_at is not None:
                self._gate.open()  # where it ended while Asterisk was being read: it was heard all the same
            await self._websocket.close()

    async def refresh(self) -> None:
        """Read everything again and feed one ConnectionRestored in its place among the events. Raises AriError."""
        async with self._refreshing:
            if self._reader.done() or self.up_at is None:
                raise AriError("there is no connection to Asterisk")
            began_at = now()
            self._gate.close()
            try:
                await alongside(self._reader, self._feed_picture(began_at))
            except ApplicationReplaced as error:
                raise AriError("another process took over while Asterisk was being read") from error
            finally:
                self._gate.open()

    async def _read(self) -> None:
        """Append every event, in order, until the connection ends; never returns."""
        websocket, refused = self._websocket, self._refused
        websocket.hand_over(self._take)
        closed = asyncio.create_task(websocket.wait_closed())
        try:
            await asyncio.wait((closed, refused), return_when=asyncio.FIRST_COMPLETED)
            if refused.done():
                raise refused.result()
            raise AriError(f"websocket closed: {websocket.protocol.close_exc}")
        finally:
            websocket.hand_over(_ignore)
            closed.cancel()
            self.ended_at = now()

    def _take(self, raw: bytes) -> None:
        """Append one event, in the turn of the event loop in which it came. Must not raise."""
        if self._takes is not None and not self._takes(raw):
            return
        received_at = now()
        if received_at >= self._lag.due_at:
            self._lag.look(raw, received_at)
        if not self._gate.put(AriEventReceived(received_at, raw)):
            self.is_overrun = True
            self._refuse(AriError(f"{self._settings.queue_max} events wait in memory: the machine is too slow"))
        elif b"ApplicationReplaced" in raw and self._is_takeover(raw):
            self._refuse(ApplicationReplaced())
        elif self._is_looking:
            self._learn(channelvars.look_at_event(raw))

    def _refuse(self, reason: Exception) -> None:
        """Take nothing more."""
        self._websocket.hand_over(_ignore)
        self._refused.set_result(reason)

    def _is_takeover(self, raw: bytes) -> bool:
        try:
            event = _peek(raw)
        except UNREADABLE:
            return False
        return event.type == TAKEOVER_EVENT and event.application in ("", self._settings.application)

    def _learn(self, verdict: bool | None) -> None:
        """Note whether snapshots hold channelvars; the first channel that is seen decides."""
        if verdict is not None and not self._has_channelvars.done():
            self._has_channelvars.set_result(verdict)
        self._is_looking = not self._has_channelvars.done()

    def _allowed_types(self, *, with_variables: bool) -> list[str]:
        """Give the filter's list of types; empty, as Asterisk has it, for all."""
        if ALL_EVENTS in self._settings.events:
            return []
        types = [name for name in self._settings.events if name not in (TAKEOVER_EVENT, VARIABLE_EVENT)]
        # Asterisk's filter also eats ApplicationReplaced, and without it we would never learn of a successor.
        return [TAKEOVER_EVENT, *types, *([VARIABLE_EVENT] if with_variables else [])]

    async def _start(self, *, continues: bool) -> None:
        """Filter, subscribe, look at what exists where nobody did before us, and let it all through in order."""
        allowed = self._allowed_types(with_variables=self._settings.channelvars != "yes")
        # The filter goes first: then nothing that it would have dropped can come at all.
        await repeat_until_connected(lambda: self._rest.put_event_filter(allowed))
        await self._rest.subscribe()
        await self._rest.verify_subscription()
        if continues:
            self._look_at_waiting(b"[]")
            self._gate.open()
        else:
            # The time is that of the handshake, before the first event: times of inputs never step back.
            await self._feed_picture(self._opened_at)
        self.up_at = asyncio.get_running_loop().time()
        self._on_up()
        _log.info("ARI connection up", application=self._settings.application, url=self._settings.url)

    async def _feed_picture(self, received_at: float) -> None:
        picture = await self._collector.collect(self._rest, received_at, self._gate.waiting)
        # From here to the end nothing awaits: no event can slip in between.
        if self._reader.done():
            raise AriError("the connection was lost while Asterisk was being read")
        self._look_at_waiting(picture.channels)
        self._gate.open(picture)

    def _look_at_waiting(self, channels: bytes) -> None:
        if self._settings.channelvars == "auto":
            self._learn(channelvars.look_at_channels(channels))
            for event in self._gate.waiting:
                self._learn(channelvars.look_at_event(event.raw))

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


def _ignore(_raw: bytes) -> None:
    """Nothing is done with it."""


async def alongside(reader: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> None:
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
