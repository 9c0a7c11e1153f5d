"""Listening to Asterisk over ARI: a feed of inputs for the core that survives every loss of the connection.

`AriFeed` fills an `InputQueue` with what the core understands: ConnectionRestored with what Asterisk shows, the events
verbatim, ConnectionLost once for each loss. The daemon and the recorder use it alike.
"""

from __future__ import annotations

import asyncio
import random

import structlog
from attrs import asdict, define

from arimonitor_core.inputs import ConnectionLost
from arimonitor_runner.ari.connection import AriConnection
from arimonitor_runner.ari.errors import ApplicationReplaced, AriError, AriRefused, AriStuck
from arimonitor_runner.ari.rest import AriRest
from arimonitor_runner.backoff import Backoff
from arimonitor_runner.input_queue import InputQueue, now
from arimonitor_runner.settings import AriSettings

__all__ = ["AriFeed"]

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


class AriFeed:
    """Keeps a connection to one Asterisk, for as long as `run` runs."""

    def __init__(self, settings: AriSettings, queue: InputQueue) -> None:
        self._settings = settings
        self._queue = queue
        self._backoff = Backoff(first_s=settings.backoff_first_s, cap_s=settings.backoff_max_s)
        self._connection: AriConnection | None = None
        self.counts = FeedCounts()

    @property
    def is_up(self) -> bool:
        """Do events come in?"""
        return self._connection is not None and self._connection.up_at is not None

    def statistics(self) -> dict[str, int]:
        """The counts, by name."""
        return asdict(self.counts)

    async def run(self) -> None:
        """Connect and reconnect until cancelled. Returns only when another process took over our application name."""
        async with AriRest(self._settings) as rest:
            while True:
                connection = self._connection = AriConnection(self._settings, rest, self._queue, self._count_connection)
                try:
                    await connection.run()
                except ApplicationReplaced:
                    _log.warning(
                        "replaced: another process listens with this application name now",
                        application=self._settings.application,
                    )
                    return
                except AriError as error:
                    delay_s = self._note_end(connection, error)
                finally:
                    self._connection = None
                await asyncio.sleep(delay_s)
                await self._queue.wait_half_empty()

    def _count_connection(self) -> None:
        self.counts.connections += 1

    def _note_end(self, connection: AriConnection, error: AriError) -> float:
        """Tell the core and the operator; gives the seconds to wait before the next attempt."""
        if connection.up_at is not None:
            self.counts.losses += 1
            self.counts.overruns += connection.is_overrun
            self._queue.put_anyway(ConnectionLost(received_at=now()))
            if asyncio.get_running_loop().time() - connection.up_at >= self._settings.stable_after_s:
                self._backoff.reset()
        else:
            self.counts.failures += 1
        delay_s = self._backoff.next_delay_s()
        if isinstance(error, AriStuck):
            # More handshakes can only make it worse; a restart of Asterisk is what helps.
            delay_s = self._settings.backoff_deadlock_s * random.uniform(1.0, 1.25)  # noqa: S311  # jitter, no secret
            what = "Asterisk answers REST but no handshake: ARI is probably deadlocked, only its restart helps"
        elif connection.up_at is not None:
            what = "ARI connection lost, reconnecting"
        elif isinstance(error, AriRefused):
            what = "Asterisk refuses us"
        else:
            what = "no ARI connection"
        _log.error(what, reason=str(error), retry_in_s=round(delay_s, 2))
        return delay_s
