"""What really happened in a call, written down by the script that made it happen, and what must be told of it."""

from __future__ import annotations

from typing import Any

from attrs import Factory, define

from arimonitor_core.call import CallKey
from arimonitor_core.directory import Directory
from arimonitor_core.values import derive_guid, recording_url
from tests.simulation.asterisk import Asterisk, Channel
from tests.simulation.clock import ari_time

SERVER = "voip1"
AUDIO = "http://audio.example/voip1/"


@define(eq=False)
class Truth:
    """One call. Times are milliseconds since the Unix epoch; 0: never."""

    kind: str
    script: int
    channel_id: str
    channel: str
    created_ms: int
    origin: str
    dialed: str
    begun_ms: int
    """When its first event was published."""
    opened_ms: int = 0
    answered_ms: int = 0
    ended_ms: int = 0
    over_ms: int = 0
    """When the script was through with it: nothing more is said of its channels."""
    answerer: str = ""
    """Name of the channel that answered first."""
    told: list[dict[str, Any]] = Factory(list)
    """What the messages must say, apart from what is computed from the times."""
    destiny: str = ""
    transfers: list[dict[str, Any]] = Factory(list)
    digits: list[tuple[int, str, str]] = Factory(list)
    """When, which, by whom."""
    recordings: list[tuple[str, bool]] = Factory(list)
    """Path, and whether it is the call's own."""
    pushed: list[str] = Factory(list)
    group: str = ""
    """The ring group that was rung."""

    @property
    def guid(self) -> str:
        """As the monitor derives it."""
        return derive_guid(SERVER, CallKey(ari_time(self.created_ms), self.channel_id), self.created_ms)

    def open(self, at_ms: int) -> None:
        """Somebody is rung."""
        if self.opened_ms:
            return
        self.opened_ms = at_ms
        self.destiny = self.dialed
        self._tell("open", 1)

    def answer(self, at_ms: int, party: str, channel: str) -> None:
        """A called phone answered and is connected with the caller."""
        self.destiny = party
        if self.answered_ms:
            return
        self.answered_ms, self.answerer = at_ms, channel
        self._tell("oncall", 2)

    def end(self, at_ms: int, cause: int, dial_status: str | None = "ANSWER") -> None:
        """The last channel that talked in it ended. No status: it depends on which event comes last."""
        self.ended_ms = at_ms
        if not self.opened_ms:
            return
        said: dict[str, Any] = {"hangupcause": cause}
        if dial_status is not None:
            said["dialstatus"] = dial_status
        if not self.answered_ms:
            self._tell("unanswered", 1, **said)
            return
        pressed = sorted(self.digits, key=lambda one: one[0])
        own = [recording_url(AUDIO, path) for path, is_own in self.recordings if is_own]
        self._tell(
            "closed", 2, **said, urlfilename=own[0] if own else "", dtmf="".join(digit for _, digit, _ in pressed),
            keys=[{"digit": digit, "by": by, "at": at / 1000} for at, digit, by in pressed],
            recordings=[recording_url(AUDIO, path) for path, _ in self.recordings],
        )  # fmt: skip

    def transfer(self, kind: str, by: str, to: str, at_ms: int) -> None:
        """Somebody sent the call on."""
        self.transfers.append({"kind": kind, "by": by, "to": to, "at": at_ms / 1000})

    def _tell(self, status: str, callstatus: int, **fields: Any) -> None:
        body = {
            "accuracy": "exact",
            "channelstatus": status,
            "callstatus": callstatus,
            "origin": self.origin,
            "destiny": self.destiny,
        }
        if self.group:
            body["ringgroup"] = self.group
        if self.transfers:
            body["transfer"] = list(self.transfers)
        if self.answered_ms:
            body["extra_channel"] = self.answerer
        self.told.append({**body, **fields})


def note(pbx: Asterisk, kind: str, channel: Channel, origin: str, dialed: str) -> Truth:
    """Begin to write down a call."""
    return Truth(kind, pbx.script, channel.id, channel.name, channel.created_ms, origin, dialed, begun_ms=pbx.now_ms())


def check_told(truth: Truth, told: list[dict[str, Any]], directory: Directory, slack_ms: int) -> list[str]:
    """What a call's messages say that is not true; `told` are the data of its received-call messages, in order.

    Times may be off by `slack_ms`, where events of different channels swapped places: which of them opens or ends a
    call is then the one that came first or last.
    """
    said = [body["channelstatus"] for body in told]
    wanted = [body["channelstatus"] for body in truth.told]
    if said != wanted:
        return [f"{truth.kind} {truth.guid}: told {said}, true is {wanted}"]
    faults = []
    for body, true in zip(told, truth.told, strict=True):
        expected = {**true, "channel": truth.channel, "creationtime": ari_time(truth.created_ms), "server": SERVER,
                    "origin_type": directory.type_of(true["origin"]),
                    "destiny_type": directory.type_of(true["destiny"])}  # fmt: skip
        differing = {name: (body.get(name), value) for name, value in expected.items() if body.get(name) != value}
        faults += [f"{truth.kind} {truth.guid} {body['channelstatus']}: {name} is {has!r}, true is {value!r}"
                   for name, (has, value) in differing.items()]  # fmt: skip
        faults += _check_durations(truth, body, slack_ms)
    return faults


def _check_durations(truth: Truth, body: dict[str, Any], slack_ms: int) -> list[str]:
    status = body["channelstatus"]
    spans = {}
    if status in {"oncall", "closed"}:
        spans["ringduration"] = truth.answered_ms - truth.opened_ms
    if status == "unanswered":
        spans["ringduration"] = truth.ended_ms - truth.opened_ms
    if status == "closed":
        spans["callduration"] = truth.ended_ms - truth.answered_ms
    return [
        f"{truth.kind} {truth.guid} {status}: {name} is {body.get(name)}, true are {span} ms"
        for name, span in spans.items()
        if not max(0, span - slack_ms) // 1000 <= body.get(name, -1) <= (span + slack_ms) // 1000
    ]
