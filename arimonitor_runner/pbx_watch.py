"""Is Asterisk's event system healthy? What is looked at here shows trouble before calls are ignored.

Asterisk's ARI can deadlock while the rest of Asterisk works: then `GET /applications` hangs while `GET /asterisk/info`
answers, queues inside Asterisk grow, and from 500 on PJSIP ignores new calls. A client that reads too slowly fills the
same queues. Nothing here mends anything: an operator has to be told in time.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterable
from itertools import pairwise

import structlog
from attrs import Factory, define, frozen

from arimonitor_runner.ami import AmiError, ami_session
from arimonitor_runner.ari.errors import AriError, AriTimeout
from arimonitor_runner.ari.rest import AriRest
from arimonitor_runner.ari.startup import STATUS_PATH, read_startup_ms
from arimonitor_runner.settings import AmiSettings, AriSettings

REMIND_S = 600.0
"""How often a deadlock is told again, and looked at: each look leaves one more thread of Asterisk hanging."""
COMMAND = "core show taskprocessors like stasis/m:ari"
"""`like` compares beginnings; the queues are named `stasis/m:ari:application/NAME-number`."""
LENGTH_WARNED = 100
LENGTH_GROWING_MIN = 10
"""Growth below this is chance."""
LOOKS_GROWING = 3

_QUEUE_LINE = re.compile(r"(?P<name>\S+)\s+\d+\s+(?P<length>\d+)\s+\d+\s+\d+\s+(?P<high_water>\d+)(?:\s+\d+)*\s*")

_log = structlog.get_logger()


@frozen(kw_only=True)
class QueueLength:
    """One of Asterisk's task queues."""

    name: str
    length: int
    high_water: int
    """From here on Asterisk counts itself as overloaded."""


@define
class _Watched:
    """What was seen of a queue."""

    lengths: deque[int] = Factory(lambda: deque(maxlen=LOOKS_GROWING))
    level: str = ""
    """What was said of it last: warning, error, or nothing."""


def parse_queues(lines: Iterable[str]) -> list[QueueLength]:
    """Read the output of `core show taskprocessors`, of Asterisk 16 as of 22; what is no queue is left out."""
    found = [match for line in lines if (match := _QUEUE_LINE.fullmatch(line))]
    return [
        QueueLength(name=one["name"], length=int(one["length"]), high_water=int(one["high_water"])) for one in found
    ]


class PbxWatch:
    """Looks at Asterisk at intervals and tells what is wrong, once, and when it is over."""

    def __init__(self, ari: AriSettings, ami: AmiSettings) -> None:
        self._ari = ari
        self._ami = ami
        self._stuck_ms: int | None = None
        """When the Asterisk that is deadlocked started; None: none is."""
        self._probed_at = float("-inf")
        self._queues: dict[str, _Watched] = {}
        self._is_ami_broken = False

    async def run(self) -> None:
        """Watch until cancelled; returns at once where that is switched off."""
        if not self._ari.watch_interval_s:
            return
        async with AriRest(self._ari) as rest:
            while True:
                await asyncio.sleep(self._ari.watch_interval_s)
                await self.look(rest)

    async def look(self, rest: AriRest) -> None:
        """Look once at everything that is watched."""
        await self._probe(rest)
        if self._ami.host and self._ami.user:
            await self._look_at_queues()

    async def _probe(self, rest: AriRest) -> None:
        loop = asyncio.get_running_loop()
        if self._stuck_ms is not None and loop.time() - self._probed_at < REMIND_S:
            started_ms = await _find_startup_ms(rest)
            if started_ms in (None, self._stuck_ms):
                return
        self._probed_at = loop.time()
        try:
            await rest.get_application()
        except AriTimeout as error:
            started_ms = await _find_startup_ms(rest)
            if started_ms is None:
                return  # all of Asterisk is away: the feed tells that
            self._stuck_ms = started_ms
            _log.error("ARI is deadlocked, only a restart of Asterisk helps", reason=str(error))
            return
        except AriError:
            pass  # refused, not registered: it answers
        if self._stuck_ms is not None:
            self._stuck_ms = None
            _log.info("ARI answers again")

    async def _look_at_queues(self) -> None:
        try:
            async with ami_session(self._ami, timeout_s=self._ari.request_timeout_s) as ami:
                queues = parse_queues(await ami.run_command(COMMAND))
        except AmiError as error:
            if not self._is_ami_broken:
                _log.warning("Asterisk's queues cannot be watched", host=self._ami.host, reason=str(error))
            self._is_ami_broken = True
            return
        if self._is_ami_broken:
            self._is_ami_broken = False
            _log.info("Asterisk's queues are watched again")
        shown = {queue.name: queue for queue in queues}
        # A queue ends with its connection, and its name does not come again.
        for name in self._queues.keys() - shown.keys():
            self._judge(QueueLength(name=name, length=0, high_water=1), self._queues.pop(name))
        for name, queue in shown.items():
            self._judge(queue, self._queues.setdefault(name, _Watched()))

    def _judge(self, queue: QueueLength, watched: _Watched) -> None:
        watched.lengths.append(queue.length)
        level = _find_level(queue, list(watched.lengths))
        if level == watched.level or (level and watched.level == "error"):
            return
        watched.level = level
        context = {"queue": queue.name, "length": queue.length}
        if level == "error":
            _log.error("Asterisk is overloaded by events and may ignore new calls", **context)
        elif level == "warning":
            _log.warning("events pile up in Asterisk: who reads them is too slow", **context)
        else:
            _log.info("events pile up in Asterisk no longer", **context)


def _find_level(queue: QueueLength, lengths: list[int]) -> str:
    if queue.length >= queue.high_water:
        return "error"
    is_growing = (
        len(lengths) == LOOKS_GROWING
        and queue.length >= LENGTH_GROWING_MIN
        and all(earlier < later for earlier, later in pairwise(lengths))
    )
    return "warning" if queue.length > LENGTH_WARNED or is_growing else ""


async def _find_startup_ms(rest: AriRest) -> int | None:
    """Ask the part of Asterisk that works in a deadlock as well; None: it does not answer either."""
    try:
        return read_startup_ms(await rest.get(STATUS_PATH))
    except AriError:
        return None
