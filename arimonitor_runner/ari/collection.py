"""Reading what Asterisk shows: the picture that a ConnectionRestored holds."""

from __future__ import annotations

from collections.abc import Callable, Collection

from arimonitor_core.inputs import ConnectionRestored
from arimonitor_runner.ari.rest import AriRest
from arimonitor_runner.settings import AriSettings


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

    async def collect(self, rest: AriRest, received_at: float) -> ConnectionRestored:
        """Read everything. Raises AriError where something cannot be read."""
        info = await rest.get("asterisk/info?only=status")
        channels = await rest.get("channels")
        bridges = await rest.get("bridges")
        endpoints = await rest.get("endpoints")
        return ConnectionRestored(
            received_at=received_at, channels=channels, bridges=bridges, endpoints=endpoints, info=info
        )
