"""Whatever else comes over the wire in the middle of real calls, the calls are told as if it had not come."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from arimonitor_core.ari_events import MalformedEvent
from arimonitor_core.effects import Diagnostic, PublishMessage
from arimonitor_core.inputs import AriEventReceived, ConnectionLost, Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.snapshot import restore_snapshot, take_snapshot
from tests.replay.captures import by_call, feed, load_capture, new_monitor, statuses
from tests.replay.pbx import ShadowPbx
from tests.replay.renaming import list_whole_captures, merge_by_time, move
from tests.replay.test_gaps import BEGUN_LIVES, FULL_CAPTURES, WHOLE_LIVES

START = 1_795_345_000.0
DEEP = b'{"type":"Dial","peer":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001
STRANGE_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 2**64, 10**30, -(10**400), 1.5, "", " ", "\x00", "s", "94", "1" * 70_000,
    "\N{PILE OF POO}", "2026-02-30T00:00:00.000+0000", "9999-12-31T23:59:59.999-1400", "Local/;1", "/", [], {},
    [None], {"id": ""}, {"id": "x", "name": "y", "state": 7}, {"type": "Dial"},
)  # fmt: skip
RAW_STRANGERS = (
    b"", b" ", b"null", b"[]", b"{}", b'"text"', b"1", b"nan", b'{"type":null}', b'{"type":"Dial"}', b'{"type":"New"}',
    b'{"type":"ChannelVarset"}', b'{"type":"ChannelVarset","variable":"MIXMONITOR_FILENAME","channel":7}',
    b'{"variable":"MIXMONITOR_FILENAME","type":"ChannelVarset","value":"/a.wav"}', b'{"type":"\xff"}', DEEP,
    b"<html>502 Bad Gateway</html>", b'{"type":"ChannelCreated","channel":{"id":"\\ud800","name":"PJSIP/1121-1"}}',
    b'{"type":"ChannelDestroyed","channel":{"id":"q","name":"q"},"cause":NaN}', b'{"type":"Dial",' * 3,
)  # fmt: skip


def mutate(raw: bytes, random: Random) -> bytes:
    """An event damaged in one of many ways; about a call that nobody else speaks of."""
    return random.choice(MUTATIONS)(raw, random)


def _cut(raw: bytes, random: Random) -> bytes:
    return raw[: random.randrange(len(raw))]


def _flip(raw: bytes, random: Random) -> bytes:
    position = random.randrange(len(raw))
    return raw[:position] + bytes([random.randrange(256)]) + raw[position + 1 :]


def _splice(raw: bytes, random: Random) -> bytes:
    first, second = sorted(random.randrange(len(raw)) for _ in range(2))
    return raw[:first] + raw[second:]


def _replace_value(raw: bytes, random: Random) -> bytes:
    return _rebuilt(raw, random, lambda holder, key: holder.__setitem__(key, random.choice(STRANGE_VALUES)))


def _drop_key(raw: bytes, random: Random) -> bytes:
    return _rebuilt(raw, random, lambda holder, key: holder.__delitem__(key))


def _write_raw(raw: bytes, random: Random) -> bytes:
    mark = "\x01here\x01"
    damaged = _rebuilt(raw, random, lambda holder, key: holder.__setitem__(key, mark))
    strange = random.choice((b"NaN", b"-Infinity", b"1e999", b'"\\ud83d"', b'"\xc3"', b"9" * 5_000, b"[" * 3_000))
    return damaged.replace(b'"\\u0001here\\u0001"', strange)


def _stranger(raw: bytes, random: Random) -> bytes:
    return random.choice(RAW_STRANGERS)


MUTATIONS = (_cut, _flip, _splice, _replace_value, _replace_value, _drop_key, _write_raw, _stranger)


def _rebuilt(raw: bytes, random: Random, change: Callable[[dict[str, Any], str], None]) -> bytes:
    """The event with one of its values changed, at any depth."""
    event = msgspec.json.decode(raw)
    holders = [event]
    for holder in holders:  # grows while it is read
        holders += [value for value in holder.values() if isinstance(value, dict) and value]
    holder = random.choice(holders)
    change(holder, random.choice(list(holder)))
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _noise(random: Random) -> list[AriEventReceived]:
    """The events of a capture, half of them damaged; some of its calls begin and never end, or end and never began."""
    events = move(random.choice(list_whole_captures()), tag="f", start=START)
    return [
        AriEventReceived(event.received_at, mutate(event.raw, random)) if random.random() < 0.5 else event
        for event in events
    ]


def _feed_and_account(monitor: Monitor, inputs: list[Input]) -> list[PublishMessage]:
    """Feed inputs one by one: each is counted, and each that could not be read is reported with its reason."""
    told: list[PublishMessage] = []
    events = monitor.statistics.events
    for item in inputs:
        before, malformed = sum(events.values()), events[MalformedEvent]
        effects = monitor.handle(item)
        assert sum(events.values()) == before + 1
        reported = [effect for effect in effects if isinstance(effect, Diagnostic)]
        if events[MalformedEvent] > malformed:
            assert [one.reason.partition("-")[0] for one in reported] == ["malformed"]
        told += [effect for effect in effects if isinstance(effect, PublishMessage)]
    return told


def test_ten_thousand_damaged_events_harm_no_call() -> None:
    """Nothing is raised, every event is accounted for, and the whole calls are told as if they were alone."""
    random = Random(20261122)
    damaged = 0
    while damaged < 10_000:
        whole = move(random.choice(list_whole_captures()), tag="0", start=START)
        noise = _noise(random)
        damaged += len(noise) // 2
        alone = by_call(feed(new_monitor(), whole))
        monitor = new_monitor()
        together = by_call(_feed_and_account(monitor, merge_by_time(whole, noise)))
        assert {guid: together.get(guid) for guid in alone} == alone
        document = take_snapshot(monitor)
        assert take_snapshot(restore_snapshot(document)) == document


@given(st.sampled_from(FULL_CAPTURES), st.randoms(use_true_random=False))
def test_damaged_answers_at_a_reconnect_do_no_harm(capture: str, random: Random) -> None:
    """Nothing is raised, and no call is told of twice or out of order."""
    inputs = load_capture(capture)
    position = random.randrange(1, len(inputs))
    pbx = ShadowPbx()
    pbx.follow(inputs[:position])
    shown = pbx.list_at(inputs[position - 1].received_at)
    damaged = evolve(
        shown,
        **{
            name: _damage_list(getattr(shown, name), random)
            for name in ("channels", "bridges", "endpoints")
            if random.random() < 0.7
        },
    )
    lost = ConnectionLost(received_at=shown.received_at)
    told = by_call(feed(new_monitor(), [*inputs[:position], lost, damaged, *inputs[position:]]), "received-call")
    for bodies in told.values():
        said = statuses(bodies)
        assert said in (*WHOLE_LIVES, *BEGUN_LIVES)


def _damage_list(answer: bytes, random: Random) -> bytes:
    """One of the listed objects damaged, or the whole text."""
    items = [bytes(item) for item in msgspec.json.decode(answer, type=list[msgspec.Raw])]
    if not items or random.random() < 0.3:
        return random.choice((_cut, _flip, _splice))(answer, random)
    position = random.randrange(len(items))
    items[position] = mutate(items[position], random)
    return b"[" + b",".join(items) + b"]"
