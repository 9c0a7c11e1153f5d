"""What Asterisk would answer if it were asked at some moment of a capture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from arimonitor_core.inputs import AriEventReceived, ConnectionRestored, Input

_CHANNEL_KEYS = (
    "channel", "caller", "peer", "forwarded", "transferee", "transfer_target", "replace_channel",
    "transferer_first_leg", "transferer_second_leg",
)  # fmt: skip
_BRIDGE_KEYS = ("bridge", "bridge_from", "transferer_first_leg_bridge", "transferer_second_leg_bridge")


def channels_of(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The snapshots of channels in a decoded event; the `peer` of endpoint events is none."""
    if "endpoint" not in event:
        yield from (event[key] for key in _CHANNEL_KEYS if key in event)


class ShadowPbx:
    """Follows all events, those too that a monitor misses, and lists what lives.

    Only for captures with all event types: the others do not show where in the dialplan a channel is.
    """

    def __init__(self) -> None:
        self.channels: dict[str, dict[str, Any]] = {}
        self.bridges: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, dict[str, Any]] = {}
        self._members: dict[str, list[str]] = {}
        self._gone: set[str] = set()

    def follow(self, inputs: Iterable[Input]) -> None:
        """Take over the latest snapshot of everything that the events speak of."""
        for item in inputs:
            if isinstance(item, AriEventReceived):
                event = msgspec.json.decode(item.raw)
                self._see(event)

    def _see(self, event: dict[str, Any]) -> None:
        if "endpoint" in event:
            self.endpoints[event["endpoint"]["resource"]] = event["endpoint"]
        for channel in channels_of(event):
            if channel["id"] not in self._gone:
                self.channels[channel["id"]] = channel
        for key in _BRIDGE_KEYS:
            bridge = event.get(key)
            if bridge is not None and bridge["id"] not in self._gone:
                self.bridges[bridge["id"]] = bridge
                self._members.setdefault(bridge["id"], [])
        self._move(event)
        if event["type"] == "ChannelDestroyed":
            self._forget(self.channels, event["channel"]["id"])
        elif event["type"] == "BridgeDestroyed":
            self._forget(self.bridges, event["bridge"]["id"])

    def _move(self, event: dict[str, Any]) -> None:
        """Who is in a bridge is what entering and leaving say: transfers show bridges as they were before."""
        if event["type"] not in {"ChannelEnteredBridge", "ChannelLeftBridge"}:
            return
        members = self._members.setdefault(event["bridge"]["id"], [])
        channel_id = event["channel"]["id"]
        if channel_id in members:
            members.remove(channel_id)
        if event["type"] == "ChannelEnteredBridge":
            members.append(channel_id)

    def _forget(self, table: dict[str, dict[str, Any]], key: str) -> None:
        self._gone.add(key)
        table.pop(key, None)

    def list_at(self, received_at: float) -> ConnectionRestored:
        """The answers of GET /channels, /bridges and /endpoints."""
        bridges = [
            {**bridge, "channels": [one for one in self._members[bridge_id] if one in self.channels]}
            for bridge_id, bridge in self.bridges.items()
        ]
        return ConnectionRestored(
            received_at=received_at,
            channels=msgspec.json.encode(list(self.channels.values())),
            bridges=msgspec.json.encode(bridges),
            endpoints=msgspec.json.encode(list(self.endpoints.values())),
        )
