"""Events of different channels and bridges come in any order within a tenth of a second."""

from __future__ import annotations

import re
from functools import cache
from random import Random
from typing import Any, NamedTuple

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_core.values import parse_time_ms
from tests.replay.captures import by_call, feed, list_captures, load_read, new_monitor, replay_capture, statuses

SLACK_MS = 105
"""How far apart events of different channels were seen to swap places."""

_OBJECT = re.compile(
    rb'"(?:channel|peer|caller|forwarded|transferee|replace_channel|transferer_first_leg|transferer_second_leg'
    rb'|transfer_target|bridge|transferer_first_leg_bridge|transferer_second_leg_bridge)":\{"id":"([^"]*)"'
    rb'|"endpoint":\{"technology":"[^"]*","resource":"([^"]*)"'
)
_TIME = re.compile(rb'"timestamp":"([^"]*)"')


class Placed(NamedTuple):
    """An input with what decides whether it may change places with its neighbour."""

    item: Input
    objects: frozenset[bytes]
    """Ids of the channels, bridges and endpoints that it speaks of."""
    at_ms: int


@cache
def place_capture(capture: str) -> tuple[Placed, ...]:
    """The events of a capture that are read."""
    return tuple(map(_place, load_read(capture)))


def _place(item: Input) -> Placed:
    if not isinstance(item, AriEventReceived):
        return Placed(item, frozenset(), 0)
    objects = frozenset(match[1] or match[2] for match in _OBJECT.finditer(item.raw))
    time = _TIME.search(item.raw)
    at_ms = parse_time_ms(time[1].decode()) if time is not None else None
    return Placed(item, objects, at_ms or 0)


def _may_swap(first: Placed, second: Placed) -> bool:
    is_event = isinstance(first.item, AriEventReceived) and isinstance(second.item, AriEventReceived)
    return is_event and not first.objects & second.objects and abs(second.at_ms - first.at_ms) <= SLACK_MS


def shuffle(capture: str, random: Random) -> list[Input]:
    """The inputs with neighbours swapped again and again; each pair at most once, so the slack holds for every pair."""
    order = list(enumerate(place_capture(capture)))
    for _ in range(3):
        index = 0
        while index < len(order) - 1:
            (place, first), (next_place, second) = order[index : index + 2]
            if place < next_place and _may_swap(first, second) and random.random() < 0.5:
                order[index : index + 2] = order[index + 1], order[index]
            index += 1
    times = [item.received_at for item in load_read(capture)]
    return [_at(time, placed.item) for (_, placed), time in zip(order, times, strict=True)]


def _at(time: float, item: Input) -> Input:
    return AriEventReceived(time, item.raw) if isinstance(item, AriEventReceived) else evolve(item, received_at=time)


LAST_WORDS = ("dialstatus", "hangupcause", "hangupcause_txt")
"""They come from the leg that ended last: legs that end together have each their own, and the order decides."""


def _check_same(told: dict[str, list[dict[str, Any]]], expected: dict[str, list[dict[str, Any]]]) -> None:
    """The same messages of every call.

    A call ends with the channel that is destroyed last: when two swap, its end moves by their distance, which may cross
    a second.
    """
    assert told.keys() == expected.keys()
    for guid, wanted in expected.items():
        assert statuses(told[guid]) == statuses(wanted)
        for body, other in zip(told[guid], wanted, strict=True):
            assert abs(body["operation"].pop("timestamp") - other["operation"].pop("timestamp")) <= 1
            if "callduration" in other["data"]:
                assert abs(body["data"].pop("callduration") - other["data"].pop("callduration")) <= 1
            for word in LAST_WORDS:
                body["data"].pop(word, None)
                other["data"].pop(word, None)
            assert body == other


@given(st.sampled_from(list_captures()), st.randoms(use_true_random=False))
def test_events_of_different_channels_may_swap_places(capture: str, random: Random) -> None:
    """What is said of each call stays what it was, in the same order."""
    told = feed(new_monitor(), shuffle(capture, random))
    _check_same(by_call(told), by_call(replay_capture(capture)))
