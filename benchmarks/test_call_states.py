"""P3: a step through the flat table, beside `send()` of the machine that it was derived from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from arimonitor_core.call import Call, CallKey
from arimonitor_core.call_states import CallStates
from benchmarks.conftest import Report
from benchmarks.pairs import Pair

WORDS = (("ring", "answer", "hang_up"), ("ring", "hang_up"), ("ring", "answer", "lose", "recover"), ("absorb",))
"""From the first state to a final one: answered, unanswered, lost while the connection was down, picked up."""
PIECES, CALLS_PER_PIECE = 20, 5


def test_table_beside_machine(report: Report) -> None:
    """The same events through both, with the same states after each of them."""
    for word in WORDS:
        machine, call = CallStates(), _new_call()
        for event in word:
            machine.send(event)
            assert call.apply(event)
            assert [call.state] == list(machine.configuration_values)

    steps = sum(map(len, WORDS))
    report.compare("P3", "every way through a call's life", _pairs, count=steps * PIECES * CALLS_PER_PIECE)


def _pairs() -> Iterator[Pair]:
    for _ in range(PIECES):
        words = WORDS * CALLS_PER_PIECE
        sends = [CallStates().send for _ in words]
        applies = [_new_call().apply for _ in words]
        yield Pair(
            floor=partial(_walk, list(zip(sends, words, strict=True))),
            subject=partial(_walk, list(zip(applies, words, strict=True))),
        )


def _walk(ways: list[tuple[Callable[[str], object], Sequence[str]]]) -> None:
    for step, word in ways:
        for event in word:
            step(event)


def _new_call() -> Call:
    return Call(
        key=CallKey("", ""), guid="", created_ms=0, channel="", origin="", dialed="", vhost="", anchor="", members=()
    )
