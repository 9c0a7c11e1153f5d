"""P1 and P2: what an event costs, beside reading the same bytes and doing nothing with them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import msgspec
import pytest

from benchmarks.conftest import Report
from benchmarks.pairs import Pair
from benchmarks.streams import (
    ANSWERED_CALL,
    FULL,
    LEAN,
    captures_of,
    count_events,
    cut,
    each,
    feed_events,
    load_ignored,
    replay_in_pairs,
)
from tests.replay.captures import new_monitor


@pytest.mark.parametrize(
    ("case", "folders"),
    [
        pytest.param("all captures", (*FULL, *LEAN), id="all"),
        pytest.param("all of full traffic", FULL, id="full"),
        pytest.param("all of filtered traffic", LEAN, id="lean"),
    ],
)
def test_captures_beside_orjson(report: Report, case: str, folders: tuple[str, ...]) -> None:
    """From the raw bytes of every captured event to the messages, against `orjson.loads` alone."""
    captures = captures_of(*folders)
    decides = folders == (*FULL, *LEAN)
    report.compare("P1", case, lambda: replay_in_pairs(captures), count=count_events(captures), decides=decides)


@pytest.mark.parametrize(
    ("case", "folders"),
    [
        pytest.param("one answered call", FULL, id="full"),
        pytest.param("one answered call, filtered", LEAN, id="lean"),
    ],
)
def test_one_call_beside_orjson(report: Report, case: str, folders: tuple[str, ...]) -> None:
    """A call that is answered, with every event of it, against `orjson.loads` alone."""
    captures = captures_of(*folders, name=ANSWERED_CALL)
    report.compare(
        "P1 one call",
        case,
        lambda: replay_in_pairs(captures),
        count=count_events(captures),
        repeats=300,
        decides=folders == FULL,
    )


class _Peek(msgspec.Struct, gc=False):
    """The least that tells whether an event matters."""

    type: str
    variable: str = ""


def test_ignored_events_beside_a_peek(report: Report) -> None:
    """Events that the core has no use for, against a look at their type and variable with msgspec."""
    events = load_ignored()
    monitor = new_monitor()
    peek = msgspec.json.Decoder(_Peek).decode

    def pairs() -> Iterator[Pair]:
        for piece in cut(events):
            yield Pair(floor=partial(each, peek, piece), subject=partial(feed_events, monitor, piece))

    report.compare("P2", "every ignored event of all captures", pairs, count=len(events))
