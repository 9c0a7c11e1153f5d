"""What a recorded Asterisk would show over REST at any moment of its log, worked out from the log's own events.

Every ARI event carries complete snapshots of the channels, bridges and endpoints it is about, so the newest snapshot
of each thing is what `GET /channels`, `/bridges` and `/endpoints` answer. A log that was filtered at the source lacks
BridgeDestroyed: there a bridge goes with the last channel that leaves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from arimonitor_core.inputs import ConnectionRestored

Json = dict[str, Any]
"""One ARI object, decoded."""


class RecordedPbx:
    """The channels, bridges and endpoints of a PBX whose events are played."""

    def __init__(self) -> None:
        self._channels: dict[str, Json] = {}
        self._variables: dict[str, dict[str, str]] = {}
        self._ended: set[str] = set()
        self._bridges: dict[str, Json] = {}
        self._endpoints: dict[tuple[str, str], Json] = {}

    def load(self, shown: ConnectionRestored) -> None:
        """Take over what the recorder saw when it read the PBX itself; what was known before is forgotten."""
        self._channels = {channel["id"]: channel for channel in _decode_list(shown.channels)}
        self._bridges = {bridge["id"]: bridge for bridge in _decode_list(shown.bridges)}
        for endpoint in _decode_list(shown.endpoints):
            self._endpoints[endpoint["technology"], endpoint["resource"]] = endpoint

    def apply(self, event: Json) -> None:
        """Follow one event; one that is about something else changes nothing."""
        kind = event.get("type")
        match event:
            case {"type": "ChannelVarset", "channel": {"id": channel_id}, "variable": name, "value": value}:
                self._variables.setdefault(channel_id, {})[name] = value
        for thing in _snapshots(event):
            if "dialplan" in thing:
                self._follow_channel(thing, ended=kind == "ChannelDestroyed")
            elif "bridge_class" in thing:
                self._follow_bridge(thing, kind)
            elif "resource" in thing and "technology" in thing:
                self._endpoints[thing["technology"], thing["resource"]] = thing

    def list_channels(self) -> list[Json]:
        """Answer of `GET /channels`; may be empty."""
        return list(self._channels.values())

    def find_channel(self, channel_id: str) -> Json | None:
        """Answer of `GET /channels/{id}`."""
        return self._channels.get(channel_id)

    def find_variable(self, channel_id: str, name: str) -> str | None:
        """Value of a channel's variable: of its snapshot, or of the events that set it; None: not set, or not told."""
        shown = self._channels.get(channel_id, {}).get("channelvars", {})
        value = shown.get(name) or self._variables.get(channel_id, {}).get(name)
        # A variable that a snapshot shows as empty is not set; a function always has a value.
        return value or (shown.get(name) if "(" in name else None)

    def list_bridges(self) -> list[Json]:
        """Answer of `GET /bridges`; may be empty."""
        return list(self._bridges.values())

    def list_endpoints(self) -> list[Json]:
        """Answer of `GET /endpoints`, each with the channels that it has at the moment."""
        channels: dict[str, list[str]] = {}
        for channel in self._channels.values():
            channels.setdefault(channel["name"].rpartition("-")[0], []).append(channel["id"])
        return [
            {**endpoint, "channel_ids": channels.get(f"{technology}/{resource}", [])}
            for (technology, resource), endpoint in self._endpoints.items()
        ]

    def find_endpoint(self, technology: str, resource: str) -> Json | None:
        """Answer of `GET /endpoints/{technology}/{resource}`."""
        wanted = (technology, resource)
        return next((e for e in self.list_endpoints() if (e["technology"], e["resource"]) == wanted), None)

    def _follow_channel(self, channel: Json, *, ended: bool) -> None:
        if ended:
            self._channels.pop(channel["id"], None)
            self._variables.pop(channel["id"], None)
            self._ended.add(channel["id"])
        elif channel["id"] not in self._ended:
            # Asterisk's topics have no mutual order: a bridge may still speak of a channel that is gone.
            self._channels[channel["id"]] = channel

    def _follow_bridge(self, bridge: Json, kind: object) -> None:
        if kind == "BridgeDestroyed" or (kind == "ChannelLeftBridge" and not bridge["channels"]):
            self._bridges.pop(bridge["id"], None)
        elif kind in {"BridgeCreated", "ChannelEnteredBridge"} or bridge["id"] in self._bridges:
            # A transfer still shows the bridge that it emptied; that does not bring it back.
            self._bridges[bridge["id"]] = bridge


def _snapshots(event: Json) -> Iterator[Json]:
    return (value for value in event.values() if isinstance(value, dict))


def _decode_list(raw: bytes) -> list[Json]:
    return msgspec.json.decode(raw, type=list[Json])
