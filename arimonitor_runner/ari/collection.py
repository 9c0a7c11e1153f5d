"""Reading what Asterisk shows: the picture that a ConnectionRestored holds.

`GET /channels` alone may not be believed. It shows Asterisk's cache of snapshots, which on some versions keeps orphans:
channels that are long gone. And a call must not be given up because of one list. So what is missing in it is asked for
one by one, and what looks like an orphan is looked up as a real channel, by reading a variable of it. Where an answer
stays out, a second list has to agree with the first: nothing is concluded from an absence that is seen only once. And
a channel whose end waits in memory, because it came while Asterisk was being read, did not end unseen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from typing import TypeVar
from urllib.parse import quote

import msgspec
import structlog
from attrs import define

from arimonitor_core.ari_events import UNREADABLE
from arimonitor_core.inputs import AriEventReceived, ConnectionRestored
from arimonitor_core.values import parse_time_ms
from arimonitor_runner.ari.channelvars import NEEDED
from arimonitor_runner.ari.errors import AriError, AriNotFound
from arimonitor_runner.ari.rest import AriRest
from arimonitor_runner.ari.startup import STATUS_PATH, read_startup_ms
from arimonitor_runner.settings import AriSettings

LINKEDID = "CHANNEL(linkedid)"
VARIABLES = (LINKEDID, NEEDED, "DIALEDPEERNAME")
"""Read of each channel where snapshots bring none: whom it belongs to, its recording, who answered."""

QUESTIONS_AT_A_TIME = 8
"""Asterisk has some threads for HTTP, and other clients."""
CHANNELS_ASKED_MAX = 1000
"""Channels about which one picture asks single questions: beyond that, lists have to do."""
LONG_CALL_S = 3600.0
"""A channel older than this is looked up: an orphan only ever gets older."""

_T = TypeVar("_T")
_log = structlog.get_logger()


class _Channel(msgspec.Struct):
    id: str
    creationtime: str = ""
    channelvars: dict[str, str | None] | None = None


class _Destroyed(msgspec.Struct):
    type: str
    channel: msgspec.Raw


class _Value(msgspec.Struct):
    value: str


_Listing = dict[str, msgspec.Raw]
"""Channel snapshots, verbatim, by channel id."""


@define
class CollectionCounts:
    """What pictures were made of, since the start."""

    orphans: int = 0
    """Channels that Asterisk listed although they did not exist."""
    unlisted: int = 0
    """Channels that existed although Asterisk's first list lacked them."""


class Collector:
    """Reads Asterisk's channels, bridges and endpoints; one for all connections of a feed."""

    def __init__(self, settings: AriSettings, known_channels: Callable[[], Collection[str]]) -> None:
        """Join the parts.

        Args:
            settings: limits.
            known_channels: ids of the channels that the core follows at the moment.
        """
        self._settings = settings
        self._known_channels = known_channels
        self._started_ms = 0
        self.counts = CollectionCounts()

    async def collect(
        self, rest: AriRest, received_at: float, waiting: Iterable[AriEventReceived] = ()
    ) -> ConnectionRestored:
        """Read everything. Raises AriError where something cannot be read.

        Args:
            rest: where to ask.
            received_at: the time that the picture stands for: before all that waits.
            waiting: events that came since; looked at when everything is read.
        """
        info = await rest.get(STATUS_PATH)
        channels = await rest.get("channels")
        bridges = await rest.get("bridges")
        endpoints = await rest.get("endpoints")
        variables: dict[str, dict[str, str]] = {}
        has_restarted = self._has_restarted(info)
        listing = _find_listing(channels)
        if listing is not None:  # else the core says that it cannot read it, and concludes nothing
            known = frozenset(self._known_channels())
            inquiry = _Inquiry(self._settings, rest, known, received_at)
            confirmed = await inquiry.run(listing, has_restarted=has_restarted)
            self.counts.orphans += len(listing.keys() - confirmed.keys())
            self.counts.unlisted += len(confirmed.keys() - listing.keys())
            ended = _find_ended(waiting)
            confirmed |= {one: ended[one] for one in sorted(known - confirmed.keys()) if one in ended}
            if confirmed.keys() != listing.keys():
                channels = msgspec.json.encode(list(confirmed.values()))
            variables = {one: values for one, values in inquiry.variables.items() if one in confirmed}
        return ConnectionRestored(
            received_at=received_at,
            channels=channels,
            bridges=bridges,
            endpoints=endpoints,
            info=info,
            variables=msgspec.json.encode(variables),
        )

    def _has_restarted(self, info: bytes) -> bool:
        """Is it another Asterisk process than that of the picture before? Then all that was known is dead."""
        before, started_ms = self._started_ms, read_startup_ms(info)
        self._started_ms = started_ms or before
        return before not in (0, self._started_ms)


class _Inquiry:
    """The single questions of one picture."""

    def __init__(self, settings: AriSettings, rest: AriRest, known: frozenset[str], received_at: float) -> None:
        self._settings = settings
        self._rest = rest
        self._known = known
        self._received_at = received_at
        self.variables: dict[str, dict[str, str]] = {}
        """What was read, by channel id."""

    async def run(self, listing: _Listing, *, has_restarted: bool) -> _Listing:
        """Give the channels that exist, in the order of the list. Raises AriError where that stays open."""
        absent = frozenset() if has_restarted else self._known - listing.keys()
        found = await self._ask_each(sorted(absent), self._find_channel)
        open_questions = absent - found.keys()
        confirmed = {**listing, **{one: snapshot for one, snapshot in found.items() if snapshot is not None}}
        suspects = await self._read_channels(confirmed, has_restarted=has_restarted)
        if open_questions or suspects:
            await asyncio.sleep(self._settings.confirm_wait_s)
            again = _find_listing(await self._rest.get("channels"))
            if again is None:
                raise AriError("GET channels: the answer is no list of channels")
            confirmed |= {one: again[one] for one in sorted(open_questions) if one in again}
            # One that is gone from the list as well by now has just ended: its ChannelDestroyed tells how.
            orphans = suspects & again.keys()
            if orphans:
                _log.warning("Asterisk lists channels that do not exist: left out", channels=sorted(orphans)[:20])
            confirmed = {one: snapshot for one, snapshot in confirmed.items() if one not in orphans}
        return confirmed

    async def _read_channels(self, listing: _Listing, *, has_restarted: bool) -> frozenset[str]:
        """Read what snapshots lack, and look up what may be an orphan; gives those that do not exist."""
        names: dict[str, tuple[str, ...]] = {}
        for one, raw in listing.items():
            channel = msgspec.json.decode(raw, type=_Channel)
            if channel.channelvars is None or NEEDED not in channel.channelvars:
                names[one] = VARIABLES
            elif not has_restarted and self._is_doubtful(channel):
                names[one] = (LINKEDID,)
        # Of what the core does not know it has no variable either: those come first.
        wanted = sorted(names, key=lambda one: one in self._known)
        read = await self._ask_each(wanted, lambda one: self._read_variables(one, names[one]))
        unread = sum(one not in read and names[one] == VARIABLES for one in names)
        if unread:
            _log.warning("variables could not be read: recordings of calls in a gap may be missing", channels=unread)
        self.variables = {one: values for one, values in read.items() if values and names[one] == VARIABLES}
        return frozenset(one for one, values in read.items() if values is None)

    def _is_doubtful(self, channel: _Channel) -> bool:
        created_ms = parse_time_ms(channel.creationtime)
        is_old = created_ms is not None and created_ms / 1000 < self._received_at - LONG_CALL_S
        return channel.id not in self._known or is_old

    async def _find_channel(self, channel_id: str) -> msgspec.Raw | None:
        try:
            answer = await self._rest.get(f"channels/{quote(channel_id, safe='')}")
        except AriNotFound:
            return None
        found = _find_listing(b"[%b]" % answer)
        if not found:
            raise AriError("the answer is no channel")
        return found.get(channel_id)

    async def _read_variables(self, channel_id: str, names: Iterable[str]) -> dict[str, str] | None:
        """Read variables of the real channel; what is not set is left out. None: there is no such channel."""
        values: dict[str, str] = {}
        for name in names:
            try:
                answer = await self._rest.get(
                    f"channels/{quote(channel_id, safe='')}/variable?variable={quote(name, safe='')}"
                )
                values[name] = msgspec.json.decode(answer, type=_Value).value
            except AriNotFound as error:
                # "Provided variable was not found" or "Provided channel was not found": one status for both.
                if "channel" in error.message.lower():
                    return None
            except UNREADABLE as error:
                raise AriError("the answer is no value") from error
        return values

    async def _ask_each(self, ids: Collection[str], ask: Callable[[str], Awaitable[_T]]) -> dict[str, _T]:
        """Ask about each channel, a few at a time, as long as one request may take; gives the answers that came."""
        waiting = deque(list(ids)[:CHANNELS_ASKED_MAX])
        answers: dict[str, _T] = {}
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._settings.request_timeout_s

        async def work() -> None:
            while waiting and loop.time() < give_up_at:
                channel_id = waiting.popleft()
                with suppress(AriError):
                    answers[channel_id] = await ask(channel_id)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(QUESTIONS_AT_A_TIME, len(waiting))):
                group.create_task(work())
        return answers


def _find_listing(answer: bytes) -> _Listing | None:
    """Read an answer of GET /channels; None where it is none."""
    try:
        snapshots = msgspec.json.decode(answer, type=list[msgspec.Raw])
        return {msgspec.json.decode(raw, type=_Channel).id: raw for raw in snapshots}
    except UNREADABLE:
        return None


def _find_ended(waiting: Iterable[AriEventReceived]) -> _Listing:
    """The last snapshots of the channels whose end is among these events."""
    ended: _Listing = {}
    for event in waiting:
        if b"ChannelDestroyed" in event.raw:
            with suppress(*UNREADABLE):
                destroyed = msgspec.json.decode(event.raw, type=_Destroyed)
                if destroyed.type == "ChannelDestroyed":
                    ended[msgspec.json.decode(destroyed.channel, type=_Channel).id] = destroyed.channel
    return ended
