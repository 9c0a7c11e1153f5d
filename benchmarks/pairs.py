"""Measuring against a floor on a machine that others use as well.

A benchmark is cut into pairs: a short piece of the floor's work and the same piece of the subject's, done one right
after the other. All pairs are repeated; of each piece the fastest time counts, and the sums over all pieces are
compared. A neighbour who takes the processor for a moment spoils single pieces, not the ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from time import perf_counter
from typing import Any

from attrs import frozen


@frozen
class Pair:
    """One piece of work, done in two ways; each is a call that takes nothing and does all of it."""

    floor: Callable[[], object]
    subject: Callable[[], object]


@frozen
class Times:
    """Seconds that all pieces took, each at its fastest."""

    floor_s: float
    subject_s: float

    @property
    def ratio(self) -> float:
        """The subject's time in terms of the floor's."""
        return self.subject_s / self.floor_s


def measure(benchmark: Any, pairs: Callable[[], Iterator[Pair]], repeats: int) -> Times:
    """Time all pairs, `repeats` times over; the subject's pieces are the rounds of pytest-benchmark.

    What `pairs` does between one pair and the next is not timed: there it prepares the next piece. Floor and subject
    take turns in being first, for whoever is second finds the bytes in the processor's cache.
    """
    count = sum(1 for _ in pairs())
    floors: list[float] = []
    upcoming = ((pair, turn % 2 == 0) for turn, again in enumerate(repeat(pairs)) for pair in again())

    def time_floor(pair: Pair) -> None:
        begin = perf_counter()
        pair.floor()
        floors.append(perf_counter() - begin)

    def set_up() -> tuple[tuple[Pair, bool], dict[str, Any]]:
        pair, is_floor_first = next(upcoming)
        if is_floor_first:
            time_floor(pair)
        return (pair, is_floor_first), {}

    def tear_down(pair: Pair, is_floor_first: bool) -> None:
        if not is_floor_first:
            time_floor(pair)

    benchmark.pedantic(lambda pair, _: pair.subject(), setup=set_up, teardown=tear_down, rounds=count * repeats)
    subjects: list[float] = benchmark.stats.stats.data
    return Times(_sum_fastest(floors, count), _sum_fastest(subjects, count))


def _sum_fastest(times: list[float], count: int) -> float:
    return sum(min(times[index::count]) for index in range(count))
