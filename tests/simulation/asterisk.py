"""A made-up Asterisk: channels, bridges and endpoints that say over ARI what real ones say.

What is said when was copied from the captures (fixtures/captures). Events about one channel or bridge arrive in order,
those about different ones swap within a tenth of a second. Nothing is kept for a client that is not connected.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from random import Random
from typing import Any

import msgspec
from attrs import Factory, define, field

from tests.simulation.clock import ari_time, unix_ms
from tests.simulation.virtual_loop import VirtualLoop

SLACK_S = 0.105
"""How late an event may come after a younger one of another channel."""

Script = Generator[float, Any, None]
"""Something that happens on the PBX; it yields the seconds until it goes on."""

_encode = msgspec.json.Encoder().encode


@define(eq=False)
class Channel:
    """One channel as the PBX holds it."""

    id: str
    name: str
    state: str
    number: str
    """Caller id."""
    exten: str
    created_ms: int
    context: str = "condominio"
    connected: str = ""
    app: str = ""
    app_data: str = ""
    recording: str = ""
    linkedid: str = ""
    """Id of the oldest channel that this one has to do with."""
    bridge: Bridge | None = None
    own_snapshot: dict[str, Any] | None = None
    """A recorded channel brings its own."""

    def snapshot(self, *, with_variables: bool) -> dict[str, Any]:
        """What an event or GET /channels shows of it just now."""
        if self.own_snapshot is not None:
            return self.own_snapshot
        shown: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "caller": {"name": "", "number": self.number},
            "connected": {"name": "", "number": self.connected},
            "dialplan": {
                "context": self.context, "exten": self.exten, "priority": 1,
                "app_name": self.app, "app_data": self.app_data,
            },
            "creationtime": ari_time(self.created_ms),
        }  # fmt: skip
        if with_variables:
            shown["channelvars"] = {"CHANNEL(linkedid)": self.linkedid, "MIXMONITOR_FILENAME": self.recording}
        return shown


@define(eq=False)
class Bridge:
    """One mixing bridge."""

    id: str
    created_ms: int
    channels: list[str] = Factory(list)
    own_snapshot: dict[str, Any] | None = None

    def snapshot(self) -> dict[str, Any]:
        """What an event or GET /bridges shows of it."""
        if self.own_snapshot is not None:
            return {**self.own_snapshot, "channels": list(self.channels)}
        return {"id": self.id, "bridge_type": "mixing", "channels": list(self.channels),
                "creationtime": ari_time(self.created_ms)}  # fmt: skip


@define(eq=False)
class Asterisk:
    """The PBX. The scripts change it; a client with a socket hears of it."""

    loop: VirtualLoop
    random: Random
    with_variables: bool
    """Do snapshots carry channelvars? Else ChannelVarset tells of recordings."""
    jitter_s: float
    duplicates: float = 0.0
    """Share of events that arrive twice."""
    channels: dict[str, Channel] = Factory(dict)
    bridges: dict[str, Bridge] = Factory(dict)
    endpoints: dict[str, str] = Factory(dict)
    """online or offline, by number."""
    hear: Callable[[bytes], None] = field(default=lambda _raw: None)
    """Where events arrive: the application's socket."""
    started_ms: int = 0
    is_up: bool = True
    playing: int = 0
    """Scripts that are not over."""
    script: int = 0
    """The one that runs now; 0: none."""
    said: dict[int, list[bytes]] = Factory(dict)
    """Every event, by the script that caused it."""
    ever: list[tuple[int, str, str, str]] = Factory(list)
    """Every channel that ever was: script, id, creation, name."""
    buried: set[str] = Factory(set)
    """Ids of channels and bridges that ended."""
    _scripts: int = 0
    _serial: int = 0
    _names: int = 0
    _bridge_count: int = 0
    _arrived: dict[str, float] = Factory(dict)
    """By object, when its last event arrives."""
    _life: int = 0

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return unix_ms(self.loop.time())

    # -- scripts -------------------------------------------------------------------------------------------------

    def play(self, script: Script, after_s: float) -> None:
        """Let a script begin."""
        self._scripts += 1
        self.playing += 1
        self.loop.call_later(after_s, self._begin, script, self._scripts)

    def _begin(self, script: Script, number: int) -> None:
        self._go_on(script, number, self._life)

    def _go_on(self, script: Script, number: int, life: int) -> None:
        if life != self._life or not self.is_up:
            self.playing -= 1
            return
        self.script = number
        delay_s = next(script, None)
        self.script = 0
        if delay_s is not None:
            self.loop.call_later(delay_s, self._go_on, script, number, life)
        else:
            self.playing -= 1

    def restart(self, *, politely: bool) -> None:
        """All calls end; a polite one says so. Numbers in names begin anew."""
        if politely:
            for bridge in list(self.bridges.values()):
                for one in list(bridge.channels):
                    self.leave(self.channels[one])
            for channel in list(self.channels.values()):
                self.destroy(channel, 0)
        self._life += 1
        self.buried |= self.channels.keys() | self.bridges.keys()
        self.channels.clear()
        self.bridges.clear()
        self._serial = self._names = 0

    # -- what is said --------------------------------------------------------------------------------------------

    def say(self, kind: str, objects: Iterable[str], **fields: Any) -> None:
        """Publish an event of some objects."""
        event = {"type": kind, "timestamp": ari_time(self.now_ms()), **fields, "application": "arimonitor"}
        self.pass_on(kind, _encode(event), objects)

    def pass_on(self, kind: str, raw: bytes, objects: Iterable[str]) -> None:
        """Bring an event on its way: behind all that was said of the same objects, else at its own pace."""
        arrived = self._arrived
        at = self.loop.time() + (self.random.random() * self.jitter_s if self.jitter_s else 0.0)
        for one in objects:
            at = max(at, arrived.get(one, 0.0) + 1e-6)
        for one in objects:
            arrived[one] = at
        self.said.setdefault(self.script, []).append(raw)
        self.loop.call_at(at, self._arrive, raw)
        if kind != "ChannelDtmfReceived" and self.duplicates and self.random.random() < self.duplicates:
            # A digit pressed twice and a digit told twice are one and the same to whoever listens.
            self.loop.call_at(at, self._arrive, raw)

    def _arrive(self, raw: bytes) -> None:
        self.hear(raw)

    def _shown(self, channel: Channel) -> dict[str, Any]:
        return channel.snapshot(with_variables=self.with_variables)

    def _of(self, kind: str, channel: Channel, **fields: Any) -> None:
        self.say(kind, (channel.id,), channel=self._shown(channel), **fields)

    # -- channels ------------------------------------------------------------------------------------------------

    def born(self, name: str, state: str, *, number: str, exten: str, context: str = "condominio") -> Channel:
        """A new channel; `name` is completed as Asterisk does."""
        self._serial += 1
        at_ms = self.now_ms()
        if name.endswith((";1", ";2")):
            self._names += name.endswith(";1")
            name = f"{name[:-2]}-{self._names:08x}{name[-2:]}"
        elif "/" in name:
            self._names += 1
            name = f"{name}-{self._names:08x}"
        channel = Channel(f"pbx-{at_ms // 1000}.{self._serial}", name, state, number, exten, at_ms, context)
        channel.linkedid = channel.id
        self.channels[channel.id] = channel
        self.ever.append((self.script, channel.id, ari_time(at_ms), channel.name))
        self._of("ChannelCreated", channel)
        return channel

    def caller(self, number: str, exten: str) -> Channel:
        """A phone calls."""
        return self.born(f"PJSIP/{number}", "Ring", number=number, exten=exten)

    def leg(self, number: str, caller: Channel, app: str = "AppDial") -> Channel:
        """A phone is about to be rung for somebody."""
        leg = self.born(f"PJSIP/{number}", "Down", number=number, exten="s")
        leg.exten, leg.connected, leg.app, leg.app_data = caller.exten, caller.number, app, "(Outgoing Line)"
        leg.linkedid = caller.linkedid
        return leg

    def local_pair(self, exten: str, context: str) -> tuple[Channel, Channel]:
        """The two halves of a Local channel."""
        name = f"Local/{exten}@{context}"
        first = self.born(f"{name};1", "Down", number="", exten=exten, context=context)
        second = self.born(f"{name};2", "Ring", number="", exten=exten, context=context)
        second.linkedid = first.linkedid
        return first, second

    def record(self, channel: Channel) -> str:
        """MixMonitor starts; gives the path."""
        path = f"/lab/pbx/spool/monitor/{self.now_ms()}-{channel.number}-{channel.id}.wav"
        channel.recording = path
        if not self.with_variables:
            exten, channel.exten = channel.exten, "s"  # it runs in a subroutine
            self.say("ChannelVarset", (channel.id,), variable="MIXMONITOR_FILENAME", value=path,
                     channel=self._shown(channel))  # fmt: skip
            channel.exten = exten
        return path

    def run_app(self, channel: Channel, app: str, data: str = "") -> None:
        """The dialplan executes an application."""
        channel.app, channel.app_data = app, data

    def turn(self, channel: Channel, state: str) -> None:
        """A channel's state changes."""
        channel.state = state
        self._of("ChannelStateChange", channel)

    def dial(self, caller: Channel | None, peer: Channel, status: str, dialstring: str = "", **fields: Any) -> None:
        """Dial says something of a leg."""
        objects = [peer.id] if caller is None else [caller.id, peer.id]
        if caller is not None:
            peer.linkedid = caller.linkedid
            fields["caller"] = self._shown(caller)
        self.say("Dial", objects, dialstatus=status, dialstring=dialstring, peer=self._shown(peer), **fields)

    def shown(self, channel: Channel) -> dict[str, Any]:
        """Its snapshot, for an event's own field."""
        return self._shown(channel)

    def press(self, channel: Channel, digit: str) -> None:
        """A key is pressed on the channel's phone."""
        self._of("ChannelDtmfReceived", channel, digit=digit, duration_ms=100)

    def hold(self, channel: Channel, *, on: bool) -> None:
        """A phone puts the other side on hold, or takes it back."""
        self._of("ChannelHold" if on else "ChannelUnhold", channel)

    def ask_hangup(self, channel: Channel, cause: int = 16) -> None:
        """A phone hangs up, or Asterisk asks a channel to end."""
        self._of("ChannelHangupRequest", channel, cause=cause)

    def destroy(self, channel: Channel, cause: int) -> None:
        """A channel ends."""
        if channel.id not in self.channels:
            return
        self.leave(channel)
        if channel.app in {"Dial", "Queue"}:
            channel.app = channel.app_data = ""
        self.bury(channel.id)
        self._of("ChannelDestroyed", channel, cause=cause, cause_txt=CAUSES.get(cause, "Unknown"))

    def bury(self, channel_id: str) -> None:
        """A channel is no more."""
        self.channels.pop(channel_id, None)
        self.buried.add(channel_id)

    # -- bridges -------------------------------------------------------------------------------------------------

    def bridge(self, *channels: Channel) -> Bridge:
        """A new bridge with these channels in it, one after another."""
        self._bridge_count += 1
        bridge = Bridge(f"bridge-{self._life}-{self._bridge_count}", self.now_ms())
        self.bridges[bridge.id] = bridge
        for channel in channels:
            self.enter(channel, bridge)
        return bridge

    def enter(self, channel: Channel, bridge: Bridge) -> None:
        """A channel can be heard in a bridge."""
        channel.bridge = bridge
        bridge.channels.append(channel.id)
        members = [self.channels[one] for one in bridge.channels]
        oldest = min(members, key=lambda one: self.age(one.linkedid)).linkedid
        for member in members:
            member.linkedid = oldest
        self._move("ChannelEnteredBridge", channel, bridge)

    def leave(self, channel: Channel) -> None:
        """A channel leaves its bridge; the last one takes it along."""
        bridge = channel.bridge
        if bridge is None:
            return
        channel.bridge = None
        bridge.channels.remove(channel.id)
        self._move("ChannelLeftBridge", channel, bridge)
        if not bridge.channels:
            self.bridges.pop(bridge.id, None)

    def _move(self, kind: str, channel: Channel, bridge: Bridge) -> None:
        self.say(kind, (channel.id, bridge.id), bridge=bridge.snapshot(), channel=self._shown(channel))

    # -- endpoints -----------------------------------------------------------------------------------------------

    def register(self, number: str, *, online: bool) -> None:
        """An endpoint comes or goes."""
        state = self.endpoints[number] = "online" if online else "offline"
        status = "Reachable" if online else "Unreachable"
        endpoint = {"technology": "PJSIP", "resource": number, "state": state, "channel_ids": []}
        contact = {"uri": f"sip:{number}@10.0.0.{int(number) % 250}:5060", "contact_status": status, "aor": number}
        objects = (f"endpoint {number}",)
        self.say("PeerStatusChange", objects, endpoint=endpoint, peer={"peer_status": status})
        self.say("ContactStatusChange", objects, endpoint=endpoint, contact_info=contact)

    # -- what REST answers ---------------------------------------------------------------------------------------

    @staticmethod
    def age(channel_id: str) -> tuple[int, int]:
        """Sorts ids, older channels first."""
        seconds, _, serial = channel_id.rpartition("-")[2].partition(".")
        return int(seconds), int(serial)

    def list_channels(self) -> bytes:
        """GET /channels."""
        return _encode([self._shown(channel) for channel in self.channels.values()])

    def list_bridges(self) -> bytes:
        """GET /bridges."""
        return _encode([bridge.snapshot() for bridge in self.bridges.values()])

    def list_endpoints(self) -> bytes:
        """GET /endpoints."""
        return _encode(
            [{"technology": "PJSIP", "resource": number, "state": state, "channel_ids": []}
             for number, state in self.endpoints.items()]
        )  # fmt: skip

    def info(self) -> bytes:
        """GET /asterisk/info?only=status."""
        started = ari_time(self.started_ms)
        return _encode({"status": {"startup_time": started, "last_reload_time": started}})

    def show_channel(self, channel_id: str) -> bytes | None:
        """GET /channels/{id}; None: there is none."""
        channel = self.channels.get(channel_id)
        return None if channel is None else _encode(self._shown(channel))


CAUSES = {
    0: "Unknown", 3: "No route to destination", 16: "Normal Clearing", 17: "User busy", 19: "User alerting, no answer",
    21: "Call Rejected", 26: "Answered elsewhere",
}  # fmt: skip
