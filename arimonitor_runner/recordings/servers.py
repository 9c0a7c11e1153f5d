"""Which audio server takes a recording: each its share, those that fail the last, each client only its own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Sequence

from attrs import define, frozen

from arimonitor_core.directory import Client
from arimonitor_runner.recordings import AudioServer

REST_FIRST_S = 5.0
"""How long a server rests after it failed; it doubles with every failure after a rest."""
REST_MAX_S = 300.0


@define
class _Health:
    """What was seen of one server."""

    failures: int = 0
    """Rests in a row."""
    rests_until: float = 0.0
    reason: str = ""


@frozen(kw_only=True)
class ServerHealth:
    """What was seen of one server, for an operator."""

    name: str
    failures: int
    """Failures in a row; those of uploads that were under way together count as one."""
    rests_s: float
    """Seconds until it is chosen again as any other; 0: it is not resting."""
    reason: str
    """Of the last failure; empty where it works."""


class AudioServers:
    """The audio servers of the directory."""

    def __init__(
        self,
        servers: Sequence[AudioServer],
        *,
        chance: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with every server being well.

        Args:
            servers: in the order of the directory.
            chance: decides among them.
            clock: seconds; only differences count.
        """
        self._chance = chance or random.Random()  # noqa: S311  # spreads work, no secret
        self._clock = clock
        self._servers = {server.name: server for server in servers}
        self._health = {name: _Health() for name in self._servers}

    def replace(self, servers: Sequence[AudioServer]) -> None:
        """Take what the directory says now; a server that stays as it was keeps what is known of it."""
        before, self._servers = self._servers, {server.name: server for server in servers}
        self._health = {
            name: self._health[name] if before.get(name) == server else _Health()
            for name, server in self._servers.items()
        }

    def choose(self, client: Client | None, *, exclude: Collection[str] = ()) -> AudioServer | None:
        """The server for a client's next recording (None: of no client); None: there is none that is not excluded.

        By chance, in proportion to the weights. Weight 0 waits for all others to be resting or excluded. Where all
        rest, the one that has failed least is tried, of these the one whose rest ends first.
        """
        names = client.audio if client is not None and client.audio else tuple(self._servers)
        known = [self._servers[name] for name in names if name in self._servers and name not in exclude]
        now = self._clock()
        awake = [server for server in known if self._health[server.name].rests_until <= now]
        weighted = [server for server in awake if server.weight > 0]
        if weighted:
            return self._chance.choices(weighted, [server.weight for server in weighted])[0]
        if awake:
            return awake[0]
        return min(known, key=self._badness, default=None)

    def find(self, name: str) -> AudioServer | None:
        """The server of that name."""
        return self._servers.get(name)

    def failed(self, server: AudioServer, reason: str) -> None:
        """It did not do what it should: it rests, each time longer."""
        health, now = self._health.get(server.name), self._clock()
        if health is None:
            return
        health.reason = reason
        # What was under way together fails together, and says no more than one failure does.
        if health.rests_until <= now:
            # The exponent is bounded: 2.0 ** failures overflows after a thousand.
            health.rests_until = now + min(REST_MAX_S, REST_FIRST_S * 2.0 ** min(health.failures, 32))
            health.failures += 1

    def worked(self, server: AudioServer) -> None:
        """It did what it should: it is as well as any."""
        if server.name in self._health:
            self._health[server.name] = _Health()

    def health(self) -> list[ServerHealth]:
        """What is known of each, in the order of the directory."""
        now = self._clock()
        return [
            ServerHealth(name=name, failures=one.failures, rests_s=max(0.0, one.rests_until - now), reason=one.reason)
            for name, one in self._health.items()
        ]

    def _badness(self, server: AudioServer) -> tuple[int, float]:
        health = self._health[server.name]
        return health.failures, health.rests_until
