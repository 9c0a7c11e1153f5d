"""What Asterisk would answer if it were asked at some moment of a capture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from arimonitor_core.inputs import AriEventReceived, ConnectionRestored, Input
from arimonitor_core.monitor import RECORDING_VARIABLE
from arimonitor_core.values import is_local_half, other_half

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
        self.recordings: dict[str, str] = {}
        """Paths of the recordings that go on, by channel id."""
        self.linkedids: dict[str, str] = {}
        """By channel id, as far as dialing and conversations of two tell; consultations are linked too late."""
        self._members: dict[str, list[str]] = {}
        self._gone: set[str] = set()
        self._halves: dict[str, str] = {}

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
                self._link_first(channel)
        for key in _BRIDGE_KEYS:
            bridge = event.get(key)
            if bridge is not None and bridge["id"] not in self._gone:
                self.bridges[bridge["id"]] = bridge
                self._members.setdefault(bridge["id"], [])
        self._move(event)
        self._link(event)
        if event["type"] == "ChannelVarset" and event["variable"] == RECORDING_VARIABLE and "channel" in event:
            self.recordings[event["channel"]["id"]] = event["value"]
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

    def _link_first(self, channel: dict[str, Any]) -> None:
        """A new channel is linked to itself, the second half of a Local channel to what the first is."""
        name, channel_id = channel["name"], channel["id"]
        if channel_id not in self.linkedids:
            half = self._halves.get(other_half(name), "") if is_local_half(name) else ""
            self.linkedids[channel_id] = self.linkedids.get(half, channel_id)
            self._halves[name] = channel_id

    def _link(self, event: dict[str, Any]) -> None:
        """A leg is linked to what its caller is, and in a conversation of two all to what the oldest is."""
        if event["type"] == "Dial" and "caller" in event:
            linkedid = self.linkedids[event["caller"]["id"]]
            for leg in (event[key] for key in ("peer", "forwarded") if key in event):
                half = self._halves.get(other_half(leg["name"]), "") if is_local_half(leg["name"]) else ""
                self.linkedids |= dict.fromkeys(filter(None, (leg["id"], half)), linkedid)
        elif event["type"] == "ChannelEnteredBridge" and event["bridge"]["bridge_class"] == "basic":
            members = self._members[event["bridge"]["id"]]
            oldest = min((self.linkedids[member] for member in members), key=_sort_id)
            self.linkedids |= dict.fromkeys(members, oldest)

    def _forget(self, table: dict[str, dict[str, Any]], key: str) -> None:
        self._gone.add(key)
        table.pop(key, None)

    def list_at(self, received_at: float, started: str = "", *, with_variables: bool = False) -> ConnectionRestored:
        """The answers of GET /channels, /bridges, /endpoints, /asterisk/info, and of reading variables one by one."""
        bridges = [
            {**bridge, "channels": [one for one in self._members[bridge_id] if one in self.channels]}
            for bridge_id, bridge in self.bridges.items()
        ]
        return ConnectionRestored(
            received_at=received_at,
            channels=msgspec.json.encode(list(self.channels.values())),
            bridges=msgspec.json.encode(bridges),
            endpoints=msgspec.json.encode(list(self.endpoints.values())),
            info=msgspec.json.encode({"status": {"startup_time": started, "last_reload_time": started}}),
            variables=msgspec.json.encode({one: self._variables(one) for one in self.channels if with_variables}),
        )

    def _variables(self, channel_id: str) -> dict[str, str]:
        values = {"CHANNEL(linkedid)": self.linkedids[channel_id]}
        recording = self.recordings.get(channel_id)
        return values if recording is None else {**values, RECORDING_VARIABLE: recording}


def _sort_id(channel_id: str) -> tuple[float, int]:
    """``pbx-1795344672.366``: the second of its birth, and a number that only rises."""
    second, _, number = channel_id.rpartition("-")[2].partition(".")
    return float(second), int(number)
