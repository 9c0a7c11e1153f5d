"""Calls that the made-up Asterisk plays, each with its truth.

The order of events and the snapshots in them are those of the capture named in each docstring.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from random import Random
from typing import Any

from attrs import Factory, define

from arimonitor_core.directory import Directory
from tests.simulation.asterisk import Asterisk, Channel, Script
from tests.simulation.truth import Truth, note

Part = Generator[float, Any, Any]

NEVER = ("hangs up", "busy", "no answer", "declined")


@define(eq=False)
class Stage:
    """What the scripts play on, and where they write down what is true."""

    pbx: Asterisk
    random: Random
    directory: Directory
    phones: list[str]
    sleepers: list[str]
    """Apps that are offline until they are pushed; each is used once."""
    truths: list[Truth] = Factory(list)

    def note(self, kind: str, channel: Channel, origin: str, dialed: str) -> Truth:
        """Write down that a call began."""
        truth = note(self.pbx, kind, channel, origin, dialed)
        if dialed in self.directory.ring_groups:
            truth.group = dialed
        self.truths.append(truth)
        return truth

    def pick(self, count: int, *without: str) -> list[str]:
        """Different phones."""
        return self.random.sample([one for one in self.phones if one not in without], count)

    def some(self, low_s: float, high_s: float) -> float:
        """A time between the two."""
        return self.random.uniform(low_s, high_s)

    def instant(self) -> float:
        """The moment between two events of one action."""
        return self.random.choice((0.0, 0.0, 0.001, 0.001, 0.003))


# -- what calls are made of --------------------------------------------------------------------------------------


def begin(stage: Stage, kind: str, origin: str, dialed: str, *, recorded: bool = True) -> Part:
    """A phone calls a number; the recording starts before anything rings."""
    pbx = stage.pbx
    caller = pbx.caller(origin, dialed)
    truth = stage.note(kind, caller, origin, dialed)
    yield stage.instant()
    if recorded:
        truth.recordings.append((pbx.record(caller), True))
    return caller, truth


def ring(stage: Stage, truth: Truth | None, caller: Channel, numbers: list[str], *, limit: int = 15) -> Part:
    """Dial() rings phones, all at once."""
    pbx = stage.pbx
    pbx.run_app(caller, "Dial", "&".join(f"PJSIP/{one}" for one in numbers) + f",{limit},tT")
    legs = [pbx.leg(number, caller) for number in numbers]
    yield stage.instant()
    for leg, number in zip(legs, numbers, strict=True):
        if truth is not None:
            truth.open(pbx.now_ms())
        pbx.dial(caller, leg, "", number)
    yield stage.some(0.002, 0.01)
    for leg in legs:
        pbx.turn(leg, "Ringing")
        caller.connected = leg.number if not caller.connected else caller.connected
        pbx.dial(caller, leg, "RINGING")
        yield stage.instant()
    return legs


def connect(stage: Stage, truth: Truth, caller: Channel, leg: Channel, party: str) -> Part:
    """A phone takes the call: Dial says so, then both enter a bridge."""
    pbx = stage.pbx
    pbx.turn(leg, "Up")
    leg.exten = ""
    yield stage.instant()
    answered_ms = pbx.now_ms()
    pbx.dial(caller, leg, "ANSWER")
    caller.connected = party
    if caller.state != "Up":
        pbx.turn(caller, "Up")
    yield stage.instant()
    pbx.bridge(leg, caller)
    truth.answer(answered_ms, party, leg.name)
    yield stage.instant()


def give_up(stage: Stage, caller: Channel, leg: Channel, status: str, cause: int) -> Part:
    """A leg is no longer rung."""
    stage.pbx.dial(caller, leg, status)
    yield stage.instant()
    stage.pbx.destroy(leg, cause)


def press(stage: Stage, truth: Truth, channel: Channel, digits: str) -> Part:
    """Keys are pressed, one after another."""
    for digit in digits:
        truth.digits.append((stage.pbx.now_ms(), digit, channel.name.partition("/")[2].partition("-")[0]))
        stage.pbx.press(channel, digit)
        yield stage.some(0.2, 0.4)


def talk(stage: Stage, truth: Truth, *sides: Channel) -> Part:
    """A conversation, with keys pressed and the other put on hold now and then."""
    yield stage.some(0.3, 4.0)
    who = stage.random.choice(sides)
    if stage.random.random() < 0.3:
        yield from press(stage, truth, who, "".join(stage.random.choices("0123456789*#", k=3)))
    if stage.random.random() < 0.2:
        stage.pbx.hold(who, on=True)
        yield stage.some(0.5, 2.0)
        stage.pbx.hold(who, on=False)
    yield stage.some(0.3, 6.0)


def hang_up(stage: Stage, truth: Truth, caller: Channel, other: Channel) -> Part:
    """One of two hangs up, and both channels end."""
    pbx = stage.pbx
    first, second = (caller, other) if stage.random.random() < 0.5 else (other, caller)
    pbx.ask_hangup(first)
    pbx.leave(first)
    yield stage.instant()
    pbx.ask_hangup(second)
    pbx.leave(second)
    for channel in stage.random.sample([first, second], 2):
        yield stage.instant()
        pbx.destroy(channel, 16)
    close(stage, truth, 16)


def converse(stage: Stage, truth: Truth, caller: Channel, other: Channel) -> Part:
    """Two parties talk until one of them hangs up."""
    yield from talk(stage, truth, caller, other)
    yield from hang_up(stage, truth, caller, other)


def close(stage: Stage, truth: Truth, cause: int, dial_status: str | None = "ANSWER") -> None:
    """The last channel of a call has just ended."""
    truth.end(stage.pbx.now_ms(), cause, dial_status)
    truth.over_ms = stage.pbx.now_ms()


def end_unanswered(stage: Stage, truth: Truth, caller: Channel, cause: int, dial_status: str | None) -> Part:
    """The caller's channel ends, and with it a call that nobody took."""
    yield stage.instant()
    stage.pbx.ask_hangup(caller, cause)
    stage.pbx.destroy(caller, cause)
    close(stage, truth, cause, dial_status)


# -- scenarios ---------------------------------------------------------------------------------------------------


def plain_call(stage: Stage) -> Script:
    """answered_caller_hangs_up, no_answer, busy, rejected, caller_cancels."""
    origin, dialed = stage.pick(2)
    caller, truth = yield from begin(stage, "plain call", origin, dialed)
    outcome = stage.random.choice(("answered",) * 4 + NEVER)
    yield stage.instant()
    (leg,) = yield from ring(stage, truth, caller, [dialed])
    yield stage.some(0.05, 3.0)
    if outcome == "answered":
        yield from connect(stage, truth, caller, leg, dialed)
        yield from converse(stage, truth, caller, leg)
        return
    status, leg_cause, cause = {
        "busy": ("BUSY", 17, 17), "no answer": ("NOANSWER", 0, 16), "declined": ("NOANSWER", 21, 21),
        "hangs up": ("CANCEL", 19, 19),
    }[outcome]  # fmt: skip
    if outcome == "hangs up":
        stage.pbx.ask_hangup(caller, 19)
    yield from give_up(stage, caller, leg, status, leg_cause)
    yield from end_unanswered(stage, truth, caller, cause, status)


def unreachable(stage: Stage) -> Script:
    """A phone without a contact: no leg, no Dial, only the caller's channel."""
    origin, dialed = stage.pick(2)
    caller, truth = yield from begin(stage, "unreachable", origin, dialed)
    stage.pbx.run_app(caller, "Dial", f"PJSIP/{dialed},15,tT")
    yield from end_unanswered(stage, truth, caller, 3, "CHANUNAVAIL")


def parallel_group(stage: Stage) -> Script:
    """ring_group_second_answers, ring_group_nobody."""
    pbx = stage.pbx
    members = list(stage.directory.ring_groups["1120"].members)
    (origin,) = stage.pick(1, *members)
    caller, truth = yield from begin(stage, "parallel group", origin, "1120")
    legs = yield from ring(stage, truth, caller, members)
    yield stage.some(0.05, 3.0)
    if stage.random.random() < 0.3:
        yield from give_up(stage, caller, legs.pop(0), "BUSY", 17)
        yield stage.some(0.05, 2.0)
    if stage.random.random() < 0.25:
        for leg in legs:
            yield from give_up(stage, caller, leg, "NOANSWER", 0)
        yield from end_unanswered(stage, truth, caller, 16, "NOANSWER")
        return
    winner = stage.random.choice(legs)
    pbx.turn(winner, "Up")
    yield stage.instant()
    losers = [leg for leg in legs if leg is not winner]
    for leg in losers:
        pbx.dial(caller, leg, "CANCEL")
    yield from connect(stage, truth, caller, winner, winner.number)
    for leg in losers:
        pbx.destroy(leg, 26)
    yield from converse(stage, truth, caller, winner)


def hunt(stage: Stage) -> Script:
    """sequential_hunt: one Dial() after another."""
    members = list(stage.directory.ring_groups["1125"].members)
    (origin,) = stage.pick(1, *members)
    caller, truth = yield from begin(stage, "hunt", origin, "1125")
    answers_at = stage.random.randrange(len(members) + 1)
    for place, member in enumerate(members):
        (leg,) = yield from ring(stage, truth, caller, [member], limit=4)
        yield stage.some(0.05, 4.0)
        if place == answers_at:
            yield from connect(stage, truth, caller, leg, member)
            yield from converse(stage, truth, caller, leg)
            return
        yield from give_up(stage, caller, leg, "NOANSWER", 0)
        caller.connected = ""
        yield stage.instant()
    yield from end_unanswered(stage, truth, caller, 16, "NOANSWER")


def local_group(stage: Stage) -> Script:
    """ring_group_local_channels: each member through a Local pair, which is optimized away after the answer."""
    pbx = stage.pbx
    members = list(stage.directory.ring_groups["1130"].members)
    (origin,) = stage.pick(1, *members)
    caller, truth = yield from begin(stage, "local group", origin, "1130")
    pbx.run_app(caller, "Dial", "&".join(f"Local/{one}@membro" for one in members) + ",15,t")
    pairs = []
    for member in members:
        first, second = pbx.local_pair(member, "membro")
        first.number, first.connected, first.exten = "1130", origin, "1130"
        first.app, first.app_data = "AppDial", "(Outgoing Line)"
        first.linkedid = second.linkedid = caller.linkedid
        second.number, second.connected = origin, "1130"
        pairs.append((first, second))
    for (first, _), member in zip(pairs, members, strict=True):
        truth.open(pbx.now_ms())
        pbx.dial(caller, first, "", f"{member}@membro")
    legs = []
    for (first, second), member in zip(pairs, members, strict=True):
        (leg,) = yield from ring(stage, None, second, [member])
        pbx.turn(first, "Ringing")
        pbx.dial(caller, first, "RINGING")
        legs.append(leg)
    yield stage.some(0.05, 4.0)
    ways = list(zip(pairs, legs, strict=True))
    if stage.random.random() < 0.25:
        for (first, second), leg in ways:
            yield from give_up(stage, caller, first, "NOANSWER", 0)
            yield from give_up(stage, second, leg, "CANCEL", 16)
            pbx.destroy(second, 0)
        yield from end_unanswered(stage, truth, caller, 16, None)
        return
    won = stage.random.randrange(len(ways))
    (first, second), leg = ways.pop(won)
    yield from _answer_through_pair(stage, truth, caller, first, second, leg)
    for (other, its_second), its_leg in ways:
        pbx.destroy(other, 26)
        yield from give_up(stage, its_second, its_leg, "CANCEL", 26)
        pbx.destroy(its_second, 26)
    if stage.random.random() < 0.7:
        yield stage.some(0.005, 0.05)
        yield from _optimize(stage, caller, first, second)
        yield from converse(stage, truth, caller, leg)
        return
    yield from talk(stage, truth, caller, leg)
    yield from _end_chain(stage, truth, leg, second, first, caller)


def _answer_through_pair(
    stage: Stage, truth: Truth, caller: Channel, first: Channel, second: Channel, leg: Channel
) -> Part:
    pbx = stage.pbx
    pbx.turn(leg, "Up")
    leg.exten = ""
    yield stage.instant()
    answered_ms = pbx.now_ms()
    pbx.dial(second, leg, "ANSWER")
    pbx.turn(first, "Up")
    first.exten = ""
    pbx.dial(caller, first, "ANSWER")
    caller.connected = leg.number
    pbx.turn(caller, "Up")
    pbx.turn(second, "Up")
    yield stage.instant()
    pbx.bridge(leg, second)
    yield stage.instant()
    pbx.bridge(first, caller)
    truth.answer(answered_ms, leg.number, leg.name)


def _optimize(stage: Stage, caller: Channel, first: Channel, second: Channel) -> Part:
    """The caller takes the place of the Local pair."""
    pbx = stage.pbx
    bridge = second.bridge
    assert bridge is not None
    pbx.leave(caller)
    pbx.leave(second)
    pbx.enter(caller, bridge)
    pbx.leave(first)
    yield stage.instant()
    pbx.destroy(first, 16)
    pbx.destroy(second, 16)


def _end_chain(stage: Stage, truth: Truth, *channels: Channel) -> Part:
    """A conversation through a Local pair ends from one end to the other."""
    for channel in channels:
        stage.pbx.ask_hangup(channel)
        stage.pbx.leave(channel)
        yield stage.instant()
        stage.pbx.destroy(channel, 16)
    close(stage, truth, 16)


def queue(stage: Stage) -> Script:
    """queue_second_answers: the caller is up while the members ring."""
    pbx = stage.pbx
    members = list(stage.directory.ring_groups["1149"].members)
    (origin,) = stage.pick(1, *members)
    caller, truth = yield from begin(stage, "queue", origin, "1149", recorded=False)
    pbx.run_app(caller, "Answer")
    pbx.turn(caller, "Up")
    yield stage.some(0.01, 0.03)
    truth.recordings.append((pbx.record(caller), True))
    pbx.run_app(caller, "Queue", "portaria,tT,,,15")
    legs = []
    for member in members:
        leg = pbx.born(f"PJSIP/{member}", "Down", number=member, exten="s")
        truth.open(pbx.now_ms())
        pbx.dial(caller, leg, "", f"PJSIP/{member}")
        leg.exten, leg.connected, leg.app, leg.app_data = "1149", origin, "AppQueue", "(Outgoing Line)"
        legs.append(leg)
    for leg in legs:
        yield stage.instant()
        pbx.turn(leg, "Ringing")
        pbx.dial(caller, leg, "RINGING", f"PJSIP/{leg.number}")
    yield stage.some(0.05, 4.0)
    winner = stage.random.choice(legs)
    pbx.turn(winner, "Up")
    answered_ms = pbx.now_ms()
    pbx.dial(caller, winner, "ANSWER", f"PJSIP/{winner.number}")
    for leg in legs:
        if leg is not winner:
            pbx.dial(caller, leg, "CANCEL")
            pbx.dial(caller, leg, "CANCEL", f"PJSIP/{leg.number}")
            pbx.destroy(leg, 26)
    caller.connected = winner.number
    yield stage.instant()
    pbx.bridge(winner, caller)
    truth.answer(answered_ms, winner.number, winner.name)
    yield from converse(stage, truth, caller, winner)


def pickup(stage: Stage) -> Script:
    """pickup_directed: who picks up begins as a caller and becomes the leg that answers."""
    pbx = stage.pbx
    origin, dialed, picker = stage.pick(3)
    caller, truth = yield from begin(stage, "pickup", origin, dialed)
    (leg,) = yield from ring(stage, truth, caller, [dialed])
    yield stage.some(0.5, 3.0)
    helper = pbx.caller(picker, f"*9{dialed}")
    pbx.run_app(helper, "PickupChan", f"PJSIP/{dialed}")
    helper.connected = origin
    pbx.turn(helper, "Up")
    yield stage.some(0.01, 0.03)
    pbx.ask_hangup(leg)
    helper.exten, helper.app, helper.app_data = "", "AppDial", "(Outgoing Line)"
    caller.connected = picker
    answered_ms = pbx.now_ms()
    pbx.dial(caller, helper, "ANSWER")
    pbx.turn(caller, "Up")
    leg.exten = f"*9{dialed}"
    pbx.destroy(leg, 26)
    yield stage.instant()
    pbx.bridge(helper, caller)
    truth.answer(answered_ms, picker, helper.name)
    yield from converse(stage, truth, caller, helper)


def forward(stage: Stage) -> Script:
    """redirected_302: a phone sends the call on to another one, through a Local pair."""
    pbx = stage.pbx
    origin, dialed, target = stage.pick(3)
    caller, truth = yield from begin(stage, "forward", origin, dialed)
    (leg,) = yield from ring(stage, truth, caller, [dialed])
    yield stage.some(0.05, 2.0)
    first, second = pbx.local_pair(target, "condominio")
    first.number, first.connected, first.app, first.app_data = dialed, origin, "AppDial", "(Outgoing Line)"
    first.linkedid = second.linkedid = caller.linkedid
    second.number, second.connected = origin, dialed
    pbx.dial(caller, leg, "CANCEL", forward=target, forwarded=pbx.shown(first))
    pbx.dial(caller, first, "", f"{target}@condominio")
    pbx.destroy(leg, 0)
    yield stage.instant()
    second_path = pbx.record(second)
    (final,) = yield from ring(stage, None, second, [target])
    pbx.turn(first, "Ringing")
    pbx.dial(caller, first, "RINGING")
    yield stage.some(0.05, 3.0)
    truth.recordings.append((second_path, False))
    yield from _answer_through_pair(stage, truth, caller, first, second, final)
    yield from talk(stage, truth, caller, final)
    yield from _end_chain(stage, truth, final, second, first, caller)


def _begin_transfer(stage: Stage, kind: str) -> Part:
    """Two talk: the call, who is about to transfer it, whom he leaves, and to which phone."""
    origin, dialed, target = stage.pick(3)
    caller, truth = yield from begin(stage, kind, origin, dialed)
    (leg,) = yield from ring(stage, truth, caller, [dialed])
    yield stage.some(0.05, 2.0)
    yield from connect(stage, truth, caller, leg, dialed)
    yield stage.some(0.5, 2.0)
    by, stays = (leg, caller) if stage.random.random() < 0.5 else (caller, leg)
    return truth, by, stays, target


def blind_transfer(stage: Stage) -> Script:
    """blind_transfer: by the called or by the caller, who leaves his party to call for himself."""
    pbx = stage.pbx
    truth, by, stays, target = yield from _begin_transfer(stage, "blind transfer")
    yield from press(stage, truth, by, "##")
    pbx.hold(by, on=True)
    yield from press(stage, truth, by, target)
    pbx.hold(by, on=False)
    assert by.bridge is not None
    truth.transfer("blind", by.number, target, pbx.now_ms())
    pbx.say(
        "BridgeBlindTransfer", (by.id, stays.id, by.bridge.id), channel=pbx.shown(by), transferee=pbx.shown(stays),
        exten=target, context="condominio", result="Success", is_external=False, bridge=by.bridge.snapshot(),
    )  # fmt: skip
    stays.exten = target
    pbx.leave(by)
    yield stage.instant()
    pbx.leave(stays)
    truth.recordings.append((pbx.record(stays), True))
    pbx.destroy(by, 16)
    yield stage.instant()
    (third,) = yield from ring(stage, None, stays, [target])
    yield stage.some(0.05, 2.0)
    if stage.random.random() < 0.3:
        yield from give_up(stage, stays, third, "NOANSWER", 0)
        pbx.ask_hangup(stays)
        pbx.destroy(stays, 16)
        close(stage, truth, 16)
        return
    yield from connect(stage, truth, stays, third, target)
    yield from converse(stage, truth, stays, third)


def attended_transfer(stage: Stage) -> Script:
    """attended_transfer: a consultation through a Local pair, which then stays in the conversation."""
    pbx = stage.pbx
    truth, by, stays, target = yield from _begin_transfer(stage, "attended transfer")
    yield from press(stage, truth, by, "*2" + target)
    first, second, third = yield from _consult(stage, truth, by, target)
    pbx.ask_hangup(by)
    main, aside = stays.bridge, first.bridge
    assert main is not None
    assert aside is not None
    pbx.leave(by)
    pbx.leave(first)
    pbx.enter(first, main)
    truth.transfer("attended", by.number, target, pbx.now_ms())
    truth.destiny = target
    leg_shown = pbx.shown(by)
    pbx.say(
        "BridgeAttendedTransfer", (by.id, stays.id, first.id, main.id, aside.id), transferer_first_leg=leg_shown,
        transferer_second_leg=leg_shown, transferee=pbx.shown(stays), transfer_target=pbx.shown(first),
        transferer_first_leg_bridge=main.snapshot(), transferer_second_leg_bridge=aside.snapshot(), result="Success",
        is_external=False, destination_type="bridge", destination_bridge=main.id,
    )  # fmt: skip
    pbx.destroy(by, 16)
    yield from talk(stage, truth, stays, third)
    yield from _end_chain(stage, truth, third, second, first, stays)


def _consult(stage: Stage, truth: Truth, by: Channel, target: str) -> Part:
    """Somebody of a conversation calls another phone aside."""
    pbx = stage.pbx
    yield stage.some(0.1, 1.0)
    first, second = pbx.local_pair(target, "condominio")
    first.connected = second.number = by.number
    path = pbx.record(second)
    aside = pbx.bridge(first)
    pbx.leave(by)
    pbx.enter(by, aside)
    (third,) = yield from ring(stage, None, second, [target])
    first.number = target
    pbx.turn(first, "Ringing")
    pbx.dial(None, first, "RINGING")
    yield stage.some(0.05, 2.0)
    pbx.turn(third, "Up")
    third.exten = ""
    pbx.dial(second, third, "ANSWER")
    pbx.turn(second, "Up")
    yield stage.instant()
    pbx.bridge(third, second)
    truth.recordings.append((path, False))
    pbx.turn(first, "Up")
    pbx.dial(None, first, "ANSWER")
    yield stage.some(0.5, 2.0)
    return first, second, third


def ai_entry(stage: Stage) -> Script:
    """ia_94: the dialplan itself is the party."""
    pbx = stage.pbx
    (origin,) = stage.pick(1)
    caller = pbx.caller(origin, "94")
    truth = stage.note("ai entry", caller, origin, "94")
    truth.open(pbx.now_ms())
    yield stage.some(0.001, 0.6)
    pbx.run_app(caller, "Answer")
    pbx.turn(caller, "Up")
    truth.answer(pbx.now_ms(), "94", "")
    yield stage.some(0.01, 0.03)
    truth.recordings.append((pbx.record(caller), True))
    pbx.run_app(caller, "Read", "OPCAO,beep,3,,1,6")
    yield from talk(stage, truth, caller)
    pbx.ask_hangup(caller)
    pbx.destroy(caller, 16)
    close(stage, truth, 16)


def invalid_number(stage: Stage) -> Script:
    """invalid_number: an announcement answers, nobody is rung, nobody is told."""
    pbx = stage.pbx
    (origin,) = stage.pick(1)
    caller, truth = yield from begin(stage, "invalid number", origin, "999", recorded=False)
    pbx.run_app(caller, "Playback", "invalid")
    pbx.turn(caller, "Up")
    yield stage.some(1.0, 4.0)
    pbx.ask_hangup(caller)
    pbx.destroy(caller, 16)
    close(stage, truth, 16)


def click_to_call(stage: Stage) -> Script:
    """click_to_call_originate, click_to_call_fails, outgoing_spool_failed."""
    pbx = stage.pbx
    origin, dialed = stage.pick(2)
    own = pbx.born(f"PJSIP/{origin}", "Down", number=origin, exten="s")
    truth = stage.note("click to call", own, origin, dialed)
    own.connected, own.app, own.app_data = origin, "AppDial2", "(Outgoing Line)"
    yield stage.instant()
    pbx.dial(None, own, "", origin)
    yield stage.instant()
    pbx.turn(own, "Ringing")
    pbx.dial(None, own, "RINGING", origin)
    yield stage.some(0.05, 3.0)
    if stage.random.random() < 0.25:
        failed = pbx.born("OutgoingSpoolFailed", "Down", number=origin, exten="failed", context="clicktocall")
        pbx.destroy(failed, 16)
        pbx.destroy(own, 19)
        close(stage, truth, 19)
        return
    pbx.turn(own, "Up")
    pbx.dial(None, own, "ANSWER", origin)
    truth.recordings.append((pbx.record(own), True))
    own.exten, own.context = dialed, "clicktocall"
    (leg,) = yield from ring(stage, truth, own, [dialed])
    yield stage.some(0.05, 3.0)
    yield from connect(stage, truth, own, leg, dialed)
    yield from converse(stage, truth, own, leg)


def push(stage: Stage) -> Script:
    """push_registers_then_answers, push_never_registers: an app is asleep, and wakes up in time or does not."""
    if not stage.sleepers:
        return
    pbx, dialed = stage.pbx, stage.sleepers.pop()
    (origin,) = stage.pick(1, dialed)
    caller, truth = yield from begin(stage, "push", origin, dialed)
    truth.pushed.append(dialed)
    yield stage.some(0.5, 4.0)
    if stage.random.random() < 0.4:
        yield from end_unanswered(stage, truth, caller, 3, "CHANUNAVAIL")
        return
    pbx.register(dialed, online=True)
    yield stage.some(0.005, 0.5)
    (leg,) = yield from ring(stage, truth, caller, [dialed], limit=20)
    yield stage.some(0.05, 3.0)
    yield from connect(stage, truth, caller, leg, dialed)
    yield from converse(stage, truth, caller, leg)


def scanner(stage: Stage) -> Script:
    """anonymous_attack: a stranger tries numbers; nobody is rung, nobody is told."""
    pbx = stage.pbx
    for _ in range(stage.random.randrange(1, 5)):
        number = stage.random.choice(("", "1000", "+15551234", "anonymous"))
        exten = stage.random.choice(("900441234567", "000", "1122000", "s"))
        channel = pbx.born("PJSIP/anonymous", "Ring", number=number, exten=exten)
        if stage.random.random() < 0.5:
            pbx.turn(channel, "Up")
        yield stage.some(0.01, 0.5)
        pbx.destroy(channel, 16)


def endpoint_flaps(stage: Stage) -> Script:
    """peers_register_and_drop; no app, for a call to one that is offline just then would be pushed."""
    apps = [one for one in stage.phones if stage.directory.type_of(one) == "unidade"]
    (number,) = stage.pick(1, *apps)
    for _ in range(stage.random.randrange(1, 3)):
        stage.pbx.register(number, online=False)
        yield stage.some(0.5, 5.0)
        stage.pbx.register(number, online=True)
        yield stage.some(0.5, 5.0)


SCENARIOS: dict[Callable[[Stage], Script], int] = {
    plain_call: 8, parallel_group: 3, hunt: 2, local_group: 3, queue: 2, pickup: 2, forward: 2, blind_transfer: 3,
    attended_transfer: 3, ai_entry: 2, click_to_call: 3, push: 2, invalid_number: 1, unreachable: 1, scanner: 1,
    endpoint_flaps: 1,
}  # fmt: skip
"""How often each is played."""
