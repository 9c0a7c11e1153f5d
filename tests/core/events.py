"""A small Asterisk: says in real ARI JSON what happens to its channels, to one monitor, and keeps what that answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import Factory, define

from arimonitor_core.directory import Client, Directory, Endpoint, RingGroup
from arimonitor_core.effects import Diagnostic, Effect, PublishMessage
from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored, Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.policies import Policies
from tests.core.contract import check_message

NOON_MS = 1_795_348_800_000
DIRECTORY = Directory.of(
    clients=[Client(code="112", vhost="vila-madalena"), Client(code="113", vhost="jardim-paulista")],
    endpoints=[
        Endpoint(number="1121", type="unidade"),
        Endpoint(number="1122", type="apto"),
        Endpoint(number="1123", type="portaria"),
        Endpoint(number="1124", type="apto"),
        Endpoint(number="1129", type="unidade"),
    ],
    ring_groups=[RingGroup(number="1120", members=("1122", "1123"))],
)


def encode_time(at_ms: int) -> str:
    """An instant as ARI writes it."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}+0000"


@define
class Phone:
    """A channel, and what its snapshots show now."""

    id: str
    name: str
    number: str
    exten: str
    created: str
    state: str = "Down"
    context: str = "condominio"
    app: str = ""
    app_data: str = ""
    connected: str = ""
    variables: dict[str, str] | None = None

    def snapshot(self) -> dict[str, Any]:
        """The JSON object."""
        shown = {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "protocol_id": "",
            "caller": {"name": "", "number": self.number},
            "connected": {"name": "", "number": self.connected},
            "accountcode": "",
            "dialplan": {
                "context": self.context, "exten": self.exten, "priority": 1, "app_name": self.app,
                "app_data": self.app_data,
            },
            "creationtime": self.created,
            "language": "en",
        }  # fmt: skip
        return shown if self.variables is None else {**shown, "channelvars": self.variables}


@define
class Room:
    """A bridge and who is in it."""

    id: str
    created: str
    kind: str = "mixing"
    phones: list[str] = Factory(list)

    def snapshot(self) -> dict[str, Any]:
        """The JSON object."""
        return {"id": self.id, "technology": "simple_bridge", "bridge_type": self.kind, "creator": "", "name": "",
                "channels": list(self.phones), "creationtime": self.created}  # fmt: skip


class Scene:
    """One monitor and the Asterisk that it listens to. Every method that makes an event returns its effects."""

    def __init__(self, *, directory: Directory = DIRECTORY, policies: Policies | None = None) -> None:
        self.monitor = Monitor(server="voip1", directory=directory, policies=policies)
        self._policies = policies or Policies()
        self.now_ms = NOON_MS
        self.effects: list[Effect] = []
        self._made = 0

    # -- time and inputs -----------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Unix seconds."""
        return self.now_ms / 1000

    def wait(self, seconds: float) -> None:
        """Time goes on, unseen by the monitor."""
        self.now_ms += round(seconds * 1000)

    def give(self, item: Input) -> list[Effect]:
        """Hand any input to the monitor."""
        effects = list(self.monitor.handle(item))
        for effect in effects:
            if isinstance(effect, PublishMessage):
                check_message(effect, forceclose_status=self._policies.forceclose_status)
        self.effects += effects
        return effects

    def raw(self, raw: bytes) -> list[Effect]:
        """A websocket message as it is."""
        return self.give(AriEventReceived(self.now, raw))

    def event(self, kind: str, **fields: Any) -> list[Effect]:
        """An event of the current moment; channels and bridges are shown by their snapshots."""
        body: dict[str, Any] = {"type": kind, "timestamp": encode_time(self.now_ms)}
        body |= {key: _shown(value) for key, value in fields.items() if value is not None}
        body |= {"asterisk_id": "02:fc:00:00:00:01", "application": "arimonitor"}
        return self.raw(json.dumps(body, separators=(",", ":")).encode())

    # -- channels ------------------------------------------------------------------------------------------------

    def phone(self, name: str, exten: str = "s", number: str | None = None) -> Phone:
        """A channel that nobody was told of yet: `1121` is an endpoint of PJSIP, other names are given whole."""
        self._made += 1
        if "/" not in name:
            number = name if number is None else number
            name = f"PJSIP/{name}-{self._made:08x}"
        created = encode_time(self.now_ms)
        return Phone(id=f"pbx-1.{self._made}", name=name, number=number or "", exten=exten, created=created)

    def call(self, name: str, exten: str, number: str | None = None) -> Phone:
        """A caller's channel is created."""
        phone = self.phone(name, exten, number)
        self.created(phone)
        return phone

    def created(self, phone: Phone) -> list[Effect]:
        """ChannelCreated."""
        return self.event("ChannelCreated", channel=phone)

    def rung(self, caller: Phone | None, name: str, dialstring: str | None = None, exten: str = "s") -> Phone:
        """A leg is created and dialed."""
        leg = self.phone(name, exten)
        self.created(leg)
        self.dial(caller, leg, "", dialstring if dialstring is not None else name)
        return leg

    def dial(self, caller: Phone | None, peer: Phone, status: str, dialstring: str = "", **more: Any) -> list[Effect]:
        """Dial."""
        return self.event("Dial", dialstatus=status, dialstring=dialstring, caller=caller, peer=peer, **more)

    def answered(self, caller: Phone | None, peer: Phone) -> list[Effect]:
        """The leg picks up; it is not connected yet."""
        peer.state = "Up"
        return self.dial(caller, peer, "ANSWER")

    def up(self, phone: Phone) -> list[Effect]:
        """ChannelStateChange to Up."""
        phone.state = "Up"
        return self.event("ChannelStateChange", channel=phone)

    def destroyed(self, phone: Phone, cause: int = 16, text: str = "Normal Clearing") -> list[Effect]:
        """ChannelDestroyed."""
        return self.event("ChannelDestroyed", cause=cause, cause_txt=text, channel=phone)

    def pressed(self, phone: Phone, digits: str) -> None:
        """ChannelDtmfReceived, once a digit."""
        for digit in digits:
            self.event("ChannelDtmfReceived", digit=digit, duration_ms=100, channel=phone)

    def varset(self, phone: Phone | None, variable: str, value: str) -> list[Effect]:
        """ChannelVarset, whose keys Asterisk writes in this order."""
        body: dict[str, Any] = {"variable": variable, "value": value, "type": "ChannelVarset"}
        body |= {"timestamp": encode_time(self.now_ms)} | ({} if phone is None else {"channel": phone.snapshot()})
        return self.raw(json.dumps(body, separators=(",", ":")).encode())

    # -- bridges -------------------------------------------------------------------------------------------------

    def room(self, kind: str = "mixing") -> Room:
        """A bridge, empty."""
        self._made += 1
        return Room(id=f"bridge-{self._made}", created=encode_time(self.now_ms), kind=kind)

    def enter(self, room: Room, *phones: Phone) -> Room:
        """ChannelEnteredBridge for each."""
        for phone in phones:
            room.phones.append(phone.id)
            self.event("ChannelEnteredBridge", bridge=room, channel=phone)
        return room

    def leave(self, room: Room, *phones: Phone) -> None:
        """ChannelLeftBridge for each."""
        for phone in phones:
            room.phones.remove(phone.id)
            self.event("ChannelLeftBridge", bridge=room, channel=phone)

    def talk(self, *phones: Phone) -> Room:
        """All enter a new bridge."""
        return self.enter(self.room(), *phones)

    def converse(self, caller_name: str = "1121", callee_name: str = "1122") -> tuple[Phone, Phone, Room]:
        """A call that is answered after two seconds."""
        caller = self.call(caller_name, callee_name)
        callee = self.rung(caller, callee_name)
        self.wait(2)
        self.answered(caller, callee)
        return caller, callee, self.talk(callee, caller)

    def hang_up(self, room: Room, *phones: Phone) -> None:
        """All leave and end."""
        self.leave(room, *phones)
        for phone in phones:
            self.destroyed(phone)

    # -- connection ----------------------------------------------------------------------------------------------

    def lost(self) -> list[Effect]:
        """The websocket is gone."""
        return self.give(ConnectionLost(received_at=self.now))

    def restored(
        self,
        phones: Iterable[Phone] = (),
        rooms: Iterable[Room] = (),
        endpoints: Mapping[str, str] | None = None,
        *,
        started: str = "",
        variables: Mapping[str, Mapping[str, str]] | None = None,
    ) -> list[Effect]:
        """The websocket is back and this lives; `variables` by channel id."""
        shown = [{"technology": "PJSIP", "resource": number, "state": state, "channel_ids": []}
                 for number, state in (endpoints or {}).items()]  # fmt: skip
        return self.give(
            ConnectionRestored(
                received_at=self.now,
                channels=json.dumps([phone.snapshot() for phone in phones]).encode(),
                bridges=json.dumps([room.snapshot() for room in rooms]).encode(),
                endpoints=json.dumps(shown).encode(),
                info=json.dumps({"status": {"startup_time": started, "last_reload_time": started}}).encode(),
                variables=json.dumps(variables or {}).encode(),
            )
        )

    # -- what was said -------------------------------------------------------------------------------------------

    @property
    def messages(self) -> list[PublishMessage]:
        """All messages so far."""
        return [effect for effect in self.effects if isinstance(effect, PublishMessage)]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What the messages say."""
        return [json.loads(message.body) for message in self.messages]

    @property
    def said(self) -> list[dict[str, Any]]:
        """The `data` of all messages."""
        return [body["data"] for body in self.bodies]

    @property
    def statuses(self) -> list[str]:
        """The channelstatus of received-call messages, the type of others."""
        return [body["data"].get("channelstatus", body["operation"]["type"]) for body in self.bodies]

    @property
    def reasons(self) -> list[str]:
        """Reasons of the diagnostics so far."""
        return [effect.reason for effect in self.effects if isinstance(effect, Diagnostic)]

    def count(self, reason: str) -> int:
        """How often something was counted under this reason."""
        return self.monitor.statistics.diagnostics.get(reason, 0)


def _shown(value: Any) -> Any:
    return value.snapshot() if isinstance(value, Phone | Room) else value


def data_of(effects: Iterable[Effect]) -> list[dict[str, Any]]:
    """The `data` of the messages among effects."""
    return [json.loads(effect.body)["data"] for effect in effects if isinstance(effect, PublishMessage)]
