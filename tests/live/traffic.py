"""Calls without end on a real pair: so many at a time, of every kind, each with a script that says what becomes of it.

Each line has telephones of its own, so that its calls follow one another and can be told apart in Asterisk's records.
What truly happened is in CEL and CDR; here is only commanded.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from attrs import Factory, define, field, frozen

from tests.live.lab import load

LINES = 20
LOOK_EVERY_S = 0.2
SETTLED_S = 1.5
"""A call that was commanded so long ago has its channel, or will never have one."""
START_SPREAD_S = 4.0
IDLE_WAIT_S = 90.0
FOR_EVER = "W120-H"

Play = Callable[["Traffic", "Line", random.Random], None]


@frozen
class Line:
    """Telephones that only this line uses: who calls, who is called, and to whom a call is transferred."""

    caller: str
    callee: str
    target: str
    group: str = ""
    members: tuple[str, ...] = ()
    """Telephones that ring with the group, in which case `callee` is not used."""

    @property
    def phones(self) -> frozenset[str]:
        """All of them."""
        return frozenset((self.caller, self.callee, self.target, *self.members)) - {""}


def make_lines() -> list[Line]:
    """The lab's telephones, shared out: three lines call ring groups, the others one another across clients."""
    lines = [
        Line("1120101", "", "", "1120", ("1121", "1122", "1123")),
        Line("1130101", "", "", "1140", ("1141", "1142")),
        Line("1140101", "", "", "1130", ("1131", "1132")),
    ]
    for number in range(2, 2 + LINES - len(lines)):
        phones = [f"{client}01{number:02}" for client in (112, 113, 114)]
        # What is dialed at 1140111 to 1140116 is no plain call.
        turn = 2 if 11 <= number <= 16 else number % 3
        lines.append(Line(*phones[turn:], *phones[:turn]))
    return lines


@define
class _Busy:
    """What a line is doing."""

    since: float = 0.0
    ready_at: float = 0.0


@define
class Traffic:
    """Keeps all lines calling until it is told to stop."""

    lab: Any
    seed: int
    calls_max: int = 5000
    """A bound for a test that forgets to stop."""
    is_stopping: threading.Event = field(factory=threading.Event, init=False)
    _lines: dict[Line, _Busy] = Factory(dict)

    def run(self) -> None:
        """Place calls until `stop`, and then wait for the last one's end."""
        rng = random.Random(self.seed)
        begin = time.monotonic()
        self._lines = {line: _Busy(ready_at=begin + rng.random() * START_SPREAD_S) for line in make_lines()}
        while not self.is_stopping.wait(LOOK_EVERY_S) and len(self.lab.calls) < self.calls_max:
            living = self._find_living()
            for line, busy in self._lines.items():
                self._look_after(line, busy, living, rng)
        self.lab.wait_idle(IDLE_WAIT_S)

    def stop(self) -> None:
        """Place no more calls."""
        self.is_stopping.set()

    def _find_living(self) -> set[str]:
        """Telephones that have a channel now, by the PBX's own list."""
        endpoint = load("labctl").ep
        rows = self.lab.pbx.cmd("core show channels concise").splitlines()
        return {endpoint(row.split("!")[0]) for row in rows if "!" in row}

    def _look_after(self, line: Line, busy: _Busy, living: set[str], rng: random.Random) -> None:
        now = time.monotonic()
        if line.phones & living or now < busy.since + SETTLED_S:
            busy.ready_at = max(busy.ready_at, now + 0.3)
        elif now >= busy.ready_at:
            plays = GROUP_PLAYS if line.group else PLAYS
            play = rng.choices(list(plays), list(plays.values()))[0]
            play(self, line, rng)
            busy.since, busy.ready_at = now, now + rng.random()

    def place(self, line: Line, dialed: str, script: str = FOR_EVER, give_up: float = 90, **truth: Any) -> None:
        """Have the line's caller call. `truth` is what the script makes happen."""
        group = {"ring_group": line.group} if line.group else {}
        self.lab.call(line.caller, dialed, script, give_up, **group, **truth)


def _answered(by: str, hung_up_by: str, **more: Any) -> dict[str, Any]:
    return {"status": "closed", "answered_by": by, "hangup_by": hung_up_by, **more}


def _seconds(rng: random.Random, low: float, high: float) -> float:
    return round(rng.uniform(low, high), 1)


def _callee_hangs_up(traffic: Traffic, line: Line, rng: random.Random) -> None:
    traffic.lab.phone(line.callee, _seconds(rng, 0.3, 3), "answer", f"W{_seconds(rng, 0.5, 8)}-H")
    traffic.place(line, line.callee, **_answered(line.callee, line.callee))


def _caller_hangs_up(traffic: Traffic, line: Line, rng: random.Random) -> None:
    traffic.lab.phone(line.callee, _seconds(rng, 0.3, 3), "answer", FOR_EVER)
    traffic.place(line, line.callee, f"W{_seconds(rng, 0.5, 8)}-H", **_answered(line.callee, line.caller))


def _long_talk(traffic: Traffic, line: Line, rng: random.Random) -> None:
    traffic.lab.phone(line.callee, _seconds(rng, 0.3, 2), "answer", f"W{_seconds(rng, 12, 20)}-H")
    traffic.place(line, line.callee, **_answered(line.callee, line.callee))


def _caller_cancels(traffic: Traffic, line: Line, rng: random.Random) -> None:
    traffic.lab.phone(line.callee, 60)
    traffic.place(line, line.callee, give_up=_seconds(rng, 1, 6), hangup_by=line.caller)


def _nobody_answers(traffic: Traffic, line: Line, rng: random.Random) -> None:
    traffic.lab.phone(line.callee, 60)
    traffic.place(line, line.callee, hangup_by="pbx")


def _busy(traffic: Traffic, line: Line, rng: random.Random) -> None:
    traffic.lab.phone(line.callee, 0, "busy")
    traffic.place(line, line.callee, hangup_by="pbx")


def _rejected(traffic: Traffic, line: Line, rng: random.Random) -> None:
    traffic.lab.phone(line.callee, _seconds(rng, 0.3, 4), "reject")
    traffic.place(line, line.callee, hangup_by="pbx")


def _digits(traffic: Traffic, line: Line, rng: random.Random) -> None:
    traffic.lab.phone(line.callee, _seconds(rng, 0.3, 2), "answer", "P-W1-D5#-W1.5-H")
    pressed = [{"from": line.callee, "digits": "5#"}]
    traffic.place(line, line.callee, "P-" + FOR_EVER, **_answered(line.callee, line.callee, dtmf=pressed))


def _blind_transfer(traffic: Traffic, line: Line, rng: random.Random) -> None:
    traffic.lab.phone(line.callee, _seconds(rng, 0.3, 2), "answer", f"W{_seconds(rng, 1, 4)}-R{line.target}-H")
    traffic.lab.phone(line.target, _seconds(rng, 0.3, 3), "answer", f"W{_seconds(rng, 2, 6)}-H")
    transfer = {"kind": "blind", "how": "refer", "by": line.callee, "to": line.target, "answered_by": line.target}
    traffic.place(line, line.callee, **_answered(line.callee, line.target, transfers=[transfer]))


def _attended_transfer(traffic: Traffic, line: Line, rng: random.Random) -> None:
    traffic.lab.phone(line.callee, _seconds(rng, 0.3, 2), "answer", f"P-W2-D*2-W2-D{line.target}-W7-H")
    traffic.lab.phone(line.target, 1, "answer", f"P-W{_seconds(rng, 9, 12)}-H")
    transfer = {"kind": "attended", "how": "dtmf", "by": line.callee, "to": line.target, "answered_by": line.target}
    pressed = [{"from": line.callee, "digits": f"*2{line.target}", "feature": True}]
    traffic.place(line, line.callee, **_answered(line.callee, line.target, transfers=[transfer], dtmf=pressed))


def _ai_entry(traffic: Traffic, line: Line, rng: random.Random) -> None:
    script = f"W{_seconds(rng, 1, 4)}-H"
    traffic.place(line, "94", script, status="closed", self_answered=True, hangup_by=line.caller)


def _group_answered(traffic: Traffic, line: Line, rng: random.Random) -> None:
    who = rng.choice(line.members)
    for member in line.members:
        traffic.lab.phone(member, 60 if member != who else _seconds(rng, 0.5, 4), "answer", f"W{_seconds(rng, 1, 8)}-H")
    traffic.place(line, line.group, **_answered(who, who))


def _group_cancelled(traffic: Traffic, line: Line, rng: random.Random) -> None:
    for member in line.members:
        traffic.lab.phone(member, 60)
    traffic.place(line, line.group, give_up=_seconds(rng, 1, 6), hangup_by=line.caller)


PLAYS: dict[Play, int] = {
    _callee_hangs_up: 10,
    _caller_hangs_up: 8,
    _long_talk: 4,
    _caller_cancels: 4,
    _nobody_answers: 1,
    _busy: 2,
    _rejected: 2,
    _digits: 2,
    _blind_transfer: 4,
    _attended_transfer: 2,
    _ai_entry: 2,
}
GROUP_PLAYS: dict[Play, int] = {_group_answered: 4, _group_cancelled: 1}
