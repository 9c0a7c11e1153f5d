"""What must be true of every world when it is over, and what cannot be known and therefore is not asked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
from attrs import Factory, define

from arimonitor_core.call import CallKey
from arimonitor_core.effects import PublishMessage
from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored, DirectoryChanged, Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.values import derive_guid, parse_time_ms
from arimonitor_runner.journal import read_journal
from tests.core.contract import check_message
from tests.simulation.asterisk import SLACK_S
from tests.simulation.plan import SLOW_FACTOR
from tests.simulation.rabbit import Delivery
from tests.simulation.truth import SERVER, Truth, check_told
from tests.simulation.world import DEFAULT_VHOST, World, lab

WHOLE_LIVES = (
    ["open", "oncall", "closed"],
    ["open", "unanswered"],
    ["open", "FORCECLOSE"],
    ["open", "oncall", "FORCECLOSE"],
)
NEVER_LOGGED = ("core failed", "crashed", "of another server", "set aside")
NOT_WITHOUT_A_POWER_CUT = ("decided twice", "begins too late")


@define(eq=False)
class Evidence:
    """What a world left behind, arranged for the questions."""

    world: World
    journal: list[tuple[int, Input]] = Factory(list)
    told: dict[str, list[dict[str, Any]]] = Factory(dict)
    """Data of the received-call messages by guid, each message_id once, in the order of their arrival."""
    pushed: dict[str, list[str]] = Factory(dict)
    bodies: dict[str, list[Delivery]] = Factory(dict)
    """The same with the pushes, as they arrived."""
    first: dict[str, Delivery] = Factory(dict)
    """The first delivery of each message_id."""
    touched: set[int] = Factory(set)
    """Scripts of which not everything was heard in peace."""
    scripts: dict[str, int] = Factory(dict)
    """By guid of the call that each channel would begin."""
    tail_lost: bool = False
    """A power cut took inputs whose effects may have been published already: the journal is never synced there."""


def check_evidence(seen: Evidence) -> list[str]:
    """Everything that is wrong."""
    return [fault for check in _CHECKS for fault in check(seen)]


def gather(world: World) -> Evidence:
    """Look at what a world left behind: the journal, and what arrived at the broker."""
    seen = Evidence(world)
    seen.tail_lost = bool(world.disk.torn) and world.plan.sync == "never"
    seen.journal = list(read_journal(world.settings.journal.folder, on_problem=lambda _: None))
    for one in world.rabbit.deliveries:
        if one.message_id in seen.first:
            continue
        seen.first[one.message_id] = one
        data = json.loads(one.body)["data"]
        if "guid" in data:
            seen.bodies.setdefault(data["guid"], []).append(one)
        if one.type == "received-call":
            seen.told.setdefault(data["guid"], []).append(data)
        elif one.type == "push":
            seen.pushed.setdefault(data["guid"], []).append(data["endpoint"])
    for script, channel_id, created, _ in world.pbx.ever:
        created_ms = parse_time_ms(created) or 0
        seen.scripts[derive_guid(SERVER, CallKey(created, channel_id), created_ms)] = script
    seen.touched = _find_touched(seen)
    return seen


def _find_touched(seen: Evidence) -> set[int]:
    """Scripts with an event that no journal holds, or in whose midst the connection was made anew."""
    places: dict[bytes, int] = {}
    pictures: list[tuple[int, bytes]] = []
    for position, item in seen.journal:
        if isinstance(item, AriEventReceived):
            places.setdefault(item.raw, position)
        elif isinstance(item, ConnectionRestored):
            pictures.append((position, item.channels))
    channels: dict[int, list[bytes]] = {}
    for script, channel_id, _, _ in seen.world.pbx.ever:
        channels.setdefault(script, []).append(b'"%b"' % channel_id.encode())
    touched = set()
    for script, said in seen.world.pbx.said.items():
        found = [places.get(raw, 0) for raw in said]
        first, last = min(found), max(found)
        ids = channels.get(script, [])
        if not first or any(
            first < position < last or any(one in shown for one in ids) for position, shown in pictures
        ):
            touched.add(script)
    return touched


def _check_daemons(seen: Evidence) -> Iterator[str]:
    """Nothing failed that must not, whatever the world does."""
    for alarm in seen.world.alarms:
        text = str(alarm.get("event"))
        if alarm["method"] == "exception" or any(word in text for word in NEVER_LOGGED):
            yield f"logged: {alarm}"
        if any(word in text for word in NOT_WITHOUT_A_POWER_CUT) and not seen.tail_lost:
            yield f"logged: {alarm}"
    for error in seen.world.loop.errors:
        yield f"in the event loop: {error}"


def _check_outbox(seen: Evidence) -> Iterator[str]:
    """Everything was delivered."""
    with closing(sqlite3.connect(seen.world.settings.outbox.path)) as outbox:
        for row in outbox.execute("SELECT seq, message_id, state, reason FROM messages"):
            yield f"left in the outbox: {row}"


def _check_bodies(seen: Evidence) -> Iterator[str]:
    """One message_id, one text.

    Where a power cut took inputs whose effects were published, the same may be decided again from less knowledge.
    """
    for message_id, bodies in seen.world.rabbit.bodies().items():
        if len(bodies) > 1 and not seen.tail_lost:
            yield f"{message_id} was published with different contents: {bodies}"


def _check_repeats(seen: Evidence) -> Iterator[str]:
    """Only what nobody could know to have arrived goes out twice: a process or a connection ended soon afterwards.

    Not asked where the disk was full or the broker blocked: until a confirm is written down, every end makes a repeat.
    """
    world = seen.world
    if seen.tail_lost or any(action.startswith(("fill_disk", "block_rabbit")) for _, action in world.plan.actions):
        return
    patience_s = 2 * world.plan.slowest_s + SLOW_FACTOR * world.plan.thread_s + 1.0
    arrived: dict[str, float] = {}
    for one in world.rabbit.deliveries:
        at = arrived.get(one.message_id)
        arrived[one.message_id] = one.at
        if at is not None and not any(at - world.plan.slowest_s <= end <= at + patience_s for end in world.ends):
            yield f"{one.message_id} arrived at {at:.3f} and {one.at:.3f}, and nothing had happened between"


def _check_journal(seen: Evidence) -> Iterator[str]:
    """No picture without the loss before it, no event without a picture or a predecessor before it."""
    is_listening = False
    for position, item in seen.journal:
        if isinstance(item, ConnectionRestored):
            if is_listening and not seen.tail_lost:
                yield f"position {position}: a connection is restored that was not lost"
            is_listening = True
        elif isinstance(item, ConnectionLost):
            is_listening = False
        elif isinstance(item, AriEventReceived) and not is_listening and not seen.tail_lost:
            yield f"position {position}: an event while nobody listens"


def _check_heard_ends(seen: Evidence) -> Iterator[str]:
    """A call that the last picture showed, and of which all was heard from then on, did not end unseen."""
    pictures = [(position, item.channels) for position, item in seen.journal if isinstance(item, ConnectionRestored)]
    places = {item.raw: position for position, item in seen.journal if isinstance(item, AriEventReceived)}
    for truth in seen.world.stage.truths:
        told = seen.told.get(truth.guid)
        if not told or not truth.over_ms or told[-1]["channelstatus"] != "FORCECLOSE":
            continue
        found = [places.get(raw, 0) for raw in seen.world.pbx.said[truth.script]]
        position, shown = max((one for one in pictures if one[0] < max(found)), default=(0, b""))
        later = found[next((n for n, place in enumerate(found) if place > position), len(found)) :]
        if b'"id":"%b"' % truth.channel_id.encode() in shown and later and all(later):
            yield f"{truth.kind} {truth.guid}: its end was heard, and FORCECLOSE was told"


def _check_lives(seen: Evidence) -> Iterator[str]:
    """Each call is told of once and in order, to its end."""
    for guid, told in seen.told.items():
        said = [data["channelstatus"] for data in told]
        # An end that was told of, and that the journal no longer knows of, is told of once more.
        if said not in WHOLE_LIVES and not seen.tail_lost:
            yield f"{guid} was told of as {said}"


def _check_contract(seen: Evidence) -> Iterator[str]:
    for one in seen.first.values():
        body = json.loads(one.body)
        message = PublishMessage(
            vhost=body["operation"]["vhost"], type=one.type, message_id=one.message_id, ordering_key=one.ordering_key,
            routing_key=one.routing_key, timestamp=one.timestamp, callnumber=one.callnumber, body=one.body,
        )  # fmt: skip
        try:
            check_message(message)
        except AssertionError as error:
            yield f"{one.message_id} breaks the contract: {error}"


def _check_numbers(seen: Evidence) -> Iterator[str]:
    """A callnumber belongs to one call for ever, and a call has one.

    A call whose beginning a power cut took from the journal may be found again at the reconnect, with a new number.
    A journal that is never synced may lose its middle: what comes after is then numbered as if that had not been.
    """
    calls: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for one in seen.world.rabbit.deliveries:
        if not one.callnumber:
            continue
        guid = one.ordering_key
        if calls.setdefault(one.callnumber, guid) != guid and not seen.tail_lost:
            yield f"callnumber {one.callnumber} belongs to {calls[one.callnumber]} and to {guid}"
        if numbers.setdefault(guid, one.callnumber) != one.callnumber and not seen.tail_lost:
            yield f"{guid} has callnumbers {numbers[guid]} and {one.callnumber}"


def _check_replay(seen: Evidence) -> Iterator[str]:
    """The journal explains everything that was published: no more, no less, byte for byte.

    Not where a power cut took a part of it: what was decided from that part stands nowhere else.
    """
    if seen.tail_lost:
        return
    wanted: dict[str, PublishMessage] = {}
    order: dict[tuple[str, str], list[str]] = {}
    for message in _replay(seen):
        if message.message_id not in wanted:
            wanted[message.message_id] = message
            vhost = message.vhost or DEFAULT_VHOST
            order.setdefault((vhost, message.ordering_key), []).append(message.message_id)
    for message_id in wanted.keys() - seen.first.keys():
        yield f"decided and never delivered: {message_id}"
    for message_id in seen.first.keys() - wanted.keys():
        yield f"delivered, but the journal does not say why: {message_id}"
    for message_id in wanted.keys() & seen.first.keys():
        if wanted[message_id].body != seen.first[message_id].body:
            yield f"{message_id}: replayed {wanted[message_id].body!r}, delivered {seen.first[message_id].body!r}"
    yield from _compare_order(seen, order)


def _compare_order(seen: Evidence, order: dict[tuple[str, str], list[str]]) -> Iterator[str]:
    """What is said of one call on one vhost arrives in the order in which it was decided."""
    delivered: dict[tuple[str, str], list[str]] = {}
    for one in seen.first.values():
        delivered.setdefault((one.vhost, one.ordering_key), []).append(one.message_id)
    for key in order.keys() & delivered.keys():
        if order[key] != delivered[key]:
            yield f"delivered in the order {delivered[key]}, decided in the order {order[key]}"


def _replay(seen: Evidence) -> Iterator[PublishMessage]:
    first = next((item.directory for _, item in seen.journal if isinstance(item, DirectoryChanged)), lab())
    monitor = Monitor(server=SERVER, directory=first)
    for _, item in seen.journal:
        for effect in monitor.handle(item):
            if isinstance(effect, PublishMessage):
                yield effect


def _check_truth(seen: Evidence) -> Iterator[str]:
    """Of a call that was heard in peace exactly the truth was told."""
    slack_ms = round(SLACK_S * 1000) if seen.world.plan.jitter_s else 0
    for truth in seen.world.stage.truths:
        if truth.over_ms and truth.script not in seen.touched:
            yield from check_told(truth, seen.told.get(truth.guid, []), lab(), slack_ms)
            if seen.pushed.get(truth.guid, []) != truth.pushed:
                yield f"{truth.kind} {truth.guid}: pushed {seen.pushed.get(truth.guid)}, true is {truth.pushed}"


def _check_recordings(seen: Evidence) -> Iterator[str]:
    """Of a recorded call that was heard in peace the words are those of a monitor that heard nothing else.

    Where events of different channels swap places, times and what depends on them may differ.
    """
    for recording in seen.world.recordings:
        if not recording.is_over or recording.script in seen.touched:
            continue
        shorten = _in_short if seen.world.plan.jitter_s else list
        for guid, true in recording.tell(seen.world.first_endpoints).items():
            told = [_without_number(one) for one in seen.bodies.get(guid, ())]
            # A push goes to the vhost of who is called, so it may be overtaken by what is said of its call.
            if sorted(shorten(told), key=_is_push) != sorted(shorten(true), key=_is_push):
                yield f"{recording.capture} {guid}: told {told}, alone it is {true}"


def _is_push(body: dict[str, Any]) -> bool:
    return "channelstatus" not in body["data"]


def _without_number(one: Delivery) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(one.body)
    body["data"].pop("callnumber", None)
    return body


def _in_short(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = ("channelstatus", "origin", "destiny", "endpoint", "extra_channel", "ringgroup")
    return [{"data": {name: body["data"][name] for name in names if name in body["data"]}} for body in bodies]


def _check_ghosts(seen: Evidence) -> Iterator[str]:
    """Nothing is told of a call that was none.

    Whom an unseen transfer or an unseen beginning left alone is taken for a caller, if his call was touched.
    """
    true = {truth.guid for truth in seen.world.stage.truths}
    recorded = {recording.script for recording in seen.world.recordings}  # `_check_recordings` asks about theirs
    for guid in seen.told.keys() - true:
        if guid not in seen.scripts:
            yield f"told of a call that begins at no channel: {seen.told[guid]}"
        elif seen.scripts[guid] not in seen.touched | recorded and not _was_cut(seen, seen.scripts[guid]):
            yield f"told of a call that was none: {seen.told[guid]}"


def _was_cut(seen: Evidence, script: int) -> bool:
    """Did Asterisk restart in its midst?"""
    return any(truth.script == script and not truth.over_ms for truth in seen.world.stage.truths)


def _check_missed(seen: Evidence) -> Iterator[str]:
    """A call that was told of and ended, ended for the web system as well; see `_check_lives`. And nothing is invented:

    a touched call that really ended without an answer was never told to be answered.
    """
    for truth in seen.world.stage.truths:
        told = seen.told.get(truth.guid, [])
        if truth.over_ms and not truth.answered_ms and any(data["channelstatus"] == "oncall" for data in told):
            yield f"{truth.kind} {truth.guid}: nobody answered, and oncall was told"
        if truth.over_ms and not truth.opened_ms and not truth.pushed and told and truth.script not in seen.touched:
            yield f"{truth.kind} {truth.guid}: nobody was rung, and it was told of"


def _check_endpoints(seen: Evidence) -> Iterator[str]:
    """What was last told of an endpoint is how it is.

    Not where a power cut took the inputs that a state was told from: it is compared with the one before.
    """
    if seen.tail_lost:
        return
    last: dict[str, str] = {}
    for one in seen.first.values():
        if one.type == "endpoint-status":
            data: dict[str, str] = msgspec.json.decode(one.body)["data"]
            last[data["endpoint"]] = data["status"]
    words = {"online": "Reachable", "offline": "Unreachable"}
    for number, state in seen.world.pbx.endpoints.items():
        if last.get(number) != words[state]:
            yield f"endpoint {number} is {state}, told was {last.get(number)}"


_CHECKS = (
    _check_daemons, _check_outbox, _check_bodies, _check_repeats, _check_lives, _check_contract, _check_numbers,
    _check_replay, _check_journal, _check_heard_ends, _check_truth, _check_recordings, _check_ghosts,
    _check_missed, _check_endpoints,
)  # fmt: skip


def untouched(seen: Evidence) -> list[Truth]:
    """The calls whose truth was compared."""
    return [one for one in seen.world.stage.truths if one.over_ms and one.script not in seen.touched]
