"""What the benchmarks share: the comparison with a floor, and the table at the end."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define

from arimonitor_core import monitor
from benchmarks.goals import GOALS, Row, format_table
from benchmarks.pairs import Pair, measure
from benchmarks.pump import Pump, running_pump
from tests.runner.rabbit import RabbitNode, shared_node

ROWS = pytest.StashKey[list[Row]]()


def pytest_configure(config: pytest.Config) -> None:
    """Store every run under `.benchmarks`, and print ratios in place of pytest-benchmark's table of times."""
    rows: list[Row] = []
    config.stash[ROWS] = rows
    config.option.benchmark_autosave = True
    config.option.benchmark_quiet = True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured beside its goals."""
    rows = config.stash[ROWS]
    if rows:
        terminalreporter.section("measured against the goals")
        is_compiled = not str(monitor.__file__).endswith(".py")
        terminalreporter.write_line(f"with the {'compiled' if is_compiled else 'interpreted'} core")
        for line in format_table(rows):
            terminalreporter.write_line(line)


@define(eq=False)
class Report:
    """Takes the rows of one benchmark, for the table and for the stored JSON."""

    benchmark: Any
    """pytest-benchmark's fixture."""
    rows: list[Row]

    def add(  # one parameter per column
        self, name: str, case: str, figure: float, *, floor: str = "", subject: str = "", decides: bool = True
    ) -> None:
        """Note a figure, in the unit of its goal."""
        row = Row(name=name, case=case, floor=floor, subject=subject, figure=figure, decides=decides)
        self.rows.append(row)
        self.benchmark.extra_info[f"{name}: {case}"] = row.as_dict()

    def compare(
        self,
        name: str,
        case: str,
        pairs: Callable[[], Iterator[Pair]],
        *,
        count: int,
        repeats: int = 15,
        decides: bool = True,
    ) -> None:
        """Measure pairs, and note the ratio that the goal is about.

        `count` is how many events or steps all pairs together do; the table shows the time of one.
        """
        gc.collect()
        gc.freeze()  # as the daemon does once it has started: the captures in memory are nobody's garbage
        try:
            times = measure(self.benchmark, pairs, repeats)
        finally:
            gc.unfreeze()
        ratio = 1 / times.ratio if GOALS[name].at_least else times.ratio
        floor, subject = (f"{seconds / count * 1e6:.3f} us" for seconds in (times.floor_s, times.subject_s))
        self.add(name, case, ratio, floor=floor, subject=subject, decides=decides)


@pytest.fixture
def report(benchmark: Any, request: pytest.FixtureRequest) -> Report:
    """Where a benchmark's figures go."""
    return Report(benchmark, request.config.stash[ROWS])


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A node of the module's own."""
    with shared_node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


@pytest.fixture(scope="module")
def pump() -> Iterator[Pump]:
    """The Asterisk of a module."""
    with running_pump() as pump:
        yield pump
