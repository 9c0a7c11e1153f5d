"""A server that speaks ARI as the Asterisk of a capture log did: its events over a websocket, its state over REST.

It stands in for a PBX in the demonstration and in tests. Ports are real and on loopback. What a monitor asks for is
honoured as Asterisk honours it: user and password, one connection per application (a second one replaces the first),
subscription to channels, bridges and endpoints, the event filter, which dies with the application.

The log's clock stands still until an application has subscribed; from then on it runs at `speed`. Where a log is played
as if it happened now, its instants are drawn together by the same speed, so that Asterisk's clock and ours agree: a
conversation of ten seconds played twice as fast is one of five. Where the log says that the connection was lost, the
server cuts it and answers 503 until the log says `restored`; there the clock waits for the next subscription, so that
what the log holds is played whole however long a client takes to come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import msgspec
from aiohttp import web

from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored, Input
from arimonitor_runner.demo.applications import Applications
from arimonitor_runner.demo.pbx import Json, RecordedPbx
from arimonitor_runner.demo.rebase import retimed
from arimonitor_runner.demo.rest import make_routes

SHUTDOWN_S = 1.0
"""How long a connection may take to close when the server stops."""

_decode_event = msgspec.json.Decoder(dict[str, object]).decode


class PlaybackServer:
    """Plays one capture log; use it as an asynchronous context manager or call `start` and `stop`."""

    def __init__(
        self,
        records: Sequence[Input],
        *,
        speed: float = 1.0,
        username: str = "arimonitor",
        password: str = "arimonitor",  # noqa: S107  # a recording on loopback has nothing to hide
        move_to_now: bool = True,
    ) -> None:
        """Prepare to play.

        Args:
            records: a capture log in order, as `decode_record` read it; at least one record.
            speed: seconds of the log per second of the clock; above 0.
            username: ARI user that a client must name.
            password: that user's password.
            move_to_now: play the log as if it happened now; otherwise every byte as it was recorded.
        """
        if not records or speed <= 0:
            raise ValueError("a playback needs at least one record and a speed above 0")
        self._records = list(records)
        self._speed = speed
        self._move_to_now = move_to_now
        self._pbx = RecordedPbx()
        self._applications = Applications()
        self._clock = _LogClock(self._records[0].received_at, speed)
        self._finished = asyncio.Event()
        self._away = False
        self._credentials = (username, password)
        self._player: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Asterisk's HTTP server, such as http://127.0.0.1:40123; ARI is below /ari. Empty before `start`."""
        return self._url

    @property
    def pbx(self) -> RecordedPbx:
        """What the PBX shows at this moment of the log."""
        return self._pbx

    @property
    def applications(self) -> Applications:
        """The applications that clients have registered."""
        return self._applications

    @property
    def credentials(self) -> tuple[str, str]:
        """User and password that a client must give."""
        return self._credentials

    @property
    def is_away(self) -> bool:
        """Does the log say that the PBX cannot be reached at this moment?"""
        return self._away

    @property
    def started_at(self) -> float:
        """When the recorded Asterisk claims to have started: an hour before the log, Unix seconds."""
        return self._records[0].received_at - 3600.0

    def log_time(self) -> float:
        """Now, on the log's clock, in Unix seconds; it stands still while the log waits for a subscription."""
        return self._clock.now()

    @property
    def records(self) -> Sequence[Input]:
        """The log as it is played."""
        return self._records

    @property
    def begins_at(self) -> float:
        """Where the log's clock begins, Unix seconds."""
        return self._records[0].received_at

    @property
    def length_s(self) -> float:
        """How long the log is, on its own clock."""
        return self._records[-1].received_at - self._records[0].received_at

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen (port 0: any free one) and play as soon as somebody has subscribed."""
        if self._move_to_now:
            self._records = retimed(self._records, start_at=time.time(), speed=self._speed)
            self._clock = _LogClock(self._records[0].received_at, 1.0)
        application = web.Application()
        application.add_routes(make_routes(self))
        self._runner = web.AppRunner(application, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        address = self._runner.addresses[0]
        self._url = f"http://{host}:{address[1]}"
        self._player = asyncio.create_task(self._play(), name="playback")

    async def stop(self) -> None:
        """Close all connections and the port."""
        if self._player is not None:
            self._player.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._player
        await self._applications.close_all()
        if self._runner is not None:
            await self._runner.cleanup()

    async def wait_finished(self) -> None:
        """Return when the last record has been played; the server goes on answering."""
        await self._finished.wait()

    async def __aenter__(self) -> PlaybackServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _play(self) -> None:
        first, *rest = self._records
        if isinstance(first, ConnectionRestored):
            self._pbx.load(first)
        else:
            rest = self._records
        await self._hold_for_subscription(self._records[0].received_at)
        for record in rest:
            await self._clock.sleep_until(record.received_at)
            await self._play_record(record)
        self._finished.set()

    async def _play_record(self, record: Input) -> None:
        if isinstance(record, AriEventReceived):
            event: Json = _decode_event(record.raw)
            self._pbx.apply(event)
            if not self._away:
                await self._applications.broadcast(str(event.get("type")), record.raw)
        elif isinstance(record, ConnectionLost):
            self._away = True
            self._applications.cut_all()
        elif isinstance(record, ConnectionRestored):
            self._pbx.load(record)
            self._away = False
            await self._hold_for_subscription(record.received_at)

    async def _hold_for_subscription(self, log_time: float) -> None:
        self._clock.stop_at(log_time)
        await self._applications.wait_subscribed()
        self._clock.go()


class _LogClock:
    """A clock that runs `speed` times as fast as the world's and can be stopped."""

    def __init__(self, log_time: float, speed: float) -> None:
        self._log_time = log_time
        self._speed = speed
        self._started_at: float | None = None

    def now(self) -> float:
        if self._started_at is None:
            return self._log_time
        return self._log_time + (time.monotonic() - self._started_at) * self._speed

    def stop_at(self, log_time: float) -> None:
        self._log_time = log_time
        self._started_at = None

    def go(self) -> None:
        self._started_at = time.monotonic()

    async def sleep_until(self, log_time: float) -> None:
        delay_s = (log_time - self.now()) / self._speed
        if delay_s > 0:
            await asyncio.sleep(delay_s)
