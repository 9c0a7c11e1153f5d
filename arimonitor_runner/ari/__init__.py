"""Listening to Asterisk over ARI: a feed of inputs for the core that survives every loss of the connection.

`AriFeed` fills an `InputQueue` with what the core understands: ConnectionRestored with what Asterisk shows, the events
verbatim, ConnectionLost once for each loss. The daemon and the recorder use it alike.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection

import structlog
from attrs import asdict, define

from arimonitor_core.inputs import ConnectionLost
from arimonitor_runner.ari.collection import Collector
from arimonitor_runner.ari.connection import AriConnection, Hold
from arimonitor_runner.ari.errors import ApplicationReplaced, AriError, AriRefused, AriStuck
from arimonitor_runner.ari.inbound import InboundDoor
from arimonitor_runner.ari.outbound import DialedConnection, OutboundDoor
from arimonitor_runner.ari.rest import AriRest
from arimonitor_runner.backoff import Backoff
from arimonitor_runner.input_queue import InputQueue, now
from arimonitor_runner.settings import AriSettings

__all__ = ["AriError", "AriFeed", "Hold"]

_log = structlog.get_logger()


@define
class FeedCounts:
    """What happened since the start."""

    connections: int = 0
    """Times the connection came up."""
    losses: int = 0
    """Times it was lost after that."""
    failures: int = 0
    """Attempts that did not come up."""
    overruns: int = 0
    """Losses of our own making: the queue was full."""
    refreshes: int = 0
    """Times that everything was read again on request."""


class AriFeed:
    """Keeps a connection to one Asterisk, for as long as `run` runs."""

    def __init__(
        self,
        settings: AriSettings,
        queue: InputQueue,
        *,
        known_channels: Callable[[], Collection[str]] = tuple,
        hold: Hold | None = None,
    ) -> None:
        """Join the parts.

        Args:
            settings: where Asterisk is, and all limits.
            queue: filled with inputs.
            known_channels: ids of the channels that the core follows at the moment.
            hold: awaited once, when the first websocket is open and its events wait in memory: the time to let a
                predecessor end and to load what it left. True where it heard everything up to our connection; then
                its successor feeds what waits and nothing else. False: the ordinary start.
        """
        self._settings = settings
        self._queue = queue
        self._hold = hold
        self._collector = Collector(settings, known_channels)
        self._backoff = Backoff(first_s=settings.backoff_first_s, cap_s=settings.backoff_max_s)
        self._rest: AriRest | None = None
        self._connection: AriConnection | None = None
        self.opened = asyncio.Event()
        """Set when the first websocket is open."""
        self.was_replaced_while_up = False
        """`run` returned because of a successor, and all events up to the end were fed."""
        self.counts = FeedCounts()

    @property
    def is_up(self) -> bool:
        """Do events come in?"""
        return self._connection is not None and self._connection.up_at is not None

    def statistics(self) -> dict[str, int]:
        """The counts, by name."""
        requests = 0 if self._rest is None else self._rest.requests
        return asdict(self.counts) | asdict(self._collector.counts) | {"requests": requests}

    async def ended_while_held(self) -> bool:
        """Return when nothing is heard any more while `hold` is awaited; True: another process has our name now."""
        await self.opened.wait()
        return self._connection is not None and await self._connection.ended()

    async def refresh(self) -> None:
        """Read everything from Asterisk again and feed it as one ConnectionRestored; returns when it is fed.

        Raises AriError where there is no connection, or it does not last so long.
        """
        if self._connection is None or not self.is_up:
            raise AriError("there is no connection to Asterisk")
        await self._connection.refresh()
        self.counts.refreshes += 1

    async def run(self) -> None:
        """Listen until cancelled. Returns only when another process took over our application name."""
        async with AriRest(self._settings) as self._rest, self._make_door(self._rest) as door:
            while True:
                try:
                    await self._listen(door)
                except ApplicationReplaced:
                    _log.warning(
                        "replaced: another process listens with this application name now",
                        application=self._settings.application,
                    )
                    self.was_replaced_while_up = self.is_up
                    return
                except AriError as error:
                    delay_s = self._note_end(error)
                finally:
                    self._connection = None
                await asyncio.sleep(delay_s)
                await self._queue.wait_half_empty()

    def _make_door(self, rest: AriRest) -> InboundDoor | OutboundDoor:
        parts = (rest, self._queue, self._collector, self._count_connection)
        if self._settings.mode == "outbound":
            return OutboundDoor(
                self._settings, self._queue, lambda websocket: DialedConnection(self._settings, websocket, *parts)
            )
        return InboundDoor(self._settings, rest, lambda websocket: AriConnection(self._settings, websocket, *parts))

    async def _listen(self, door: InboundDoor | OutboundDoor) -> None:
        """Feed what one connection brings, until its end."""
        self._connection = await door.next_connection()
        self.opened.set()
        # Whatever becomes of this connection: the predecessor is waited for once.
        hold, self._hold = self._hold, None
        await self._connection.run(hold)

    def _count_connection(self) -> None:
        self.counts.connections += 1

    def _note_end(self, error: AriError) -> float:
        """Tell the core and the operator; gives the seconds to wait before the next attempt."""
        connection = self._connection
        up_at = None if connection is None else connection.up_at
        if connection is not None and connection.is_gap:
            self._queue.put_anyway(ConnectionLost(received_at=connection.ended_at or now()))
            self.counts.overruns += connection.is_overrun
        if up_at is None:
            self.counts.failures += 1
        else:
            self.counts.losses += 1
            if asyncio.get_running_loop().time() - up_at >= self._settings.stable_after_s:
                self._backoff.reset()
        if isinstance(connection, DialedConnection):
            _log.error("Asterisk's connection to us ended; it keeps what happens until it is back", reason=str(error))
            return 0.0
        delay_s = self._backoff.next_delay_s()
        if isinstance(error, AriStuck):
            # More handshakes can only make it worse; a restart of Asterisk is what helps.
            delay_s = self._settings.backoff_deadlock_s * random.uniform(1.0, 1.25)  # noqa: S311  # jitter, no secret
        _log.error(_name_failure(error, was_up=up_at is not None), reason=str(error), retry_in_s=round(delay_s, 2))
        return delay_s


def _name_failure(error: AriError, *, was_up: bool) -> str:
    if isinstance(error, AriStuck):
        return "Asterisk answers REST but no handshake: ARI is probably deadlocked, only its restart helps"
    if was_up:
        return "ARI connection lost, reconnecting"
    return "Asterisk refuses us" if isinstance(error, AriRefused) else "no ARI connection"
