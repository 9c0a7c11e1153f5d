"""The goals, and the rows that a run measured beside them (docs/performance.md says what each one means)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import asdict, frozen


@frozen
class Goal:
    """One row of the table of goals."""

    limit: float
    unit: str
    """`x`: a ratio to the floor; else what the figure itself is in."""
    at_least: bool = False
    """The figure must reach the limit; otherwise it must not exceed it."""

    def is_met(self, figure: float) -> bool:
        """Does a figure keep to it?"""
        return figure >= self.limit if self.at_least else figure <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g} {self.unit}"


GOALS: Final = {
    "P1": Goal(1.0, "x"),
    "P1 one call": Goal(1.2, "x"),
    "P2": Goal(1.3, "x"),
    "P3": Goal(300, "x", at_least=True),
    "P4": Goal(1.2, "x"),
    "P5 call": Goal(2.0, "kB"),
    "P5 record": Goal(0.6, "kB"),
    "P6": Goal(50, "ms"),
    "P8": Goal(10, "x", at_least=True),
    "P8 vhosts": Goal(10, "x"),
    "P8 open": Goal(60, "s"),
    "P7": Goal(45, "%", at_least=True),
    "P9 p50": Goal(10, "ms"),
    "P9 p99": Goal(25, "ms"),
    "endurance": Goal(2.0, "%"),
    "P10 time": Goal(1.0, "us"),
    "P10 size": Goal(40, "B"),
    "P12": Goal(5.0, "s"),
    "P13 take": Goal(100, "ms"),
    "P13 restore": Goal(1000, "ms"),
    "recordings": Goal(0.85, "x", at_least=True),
    "recordings loop": Goal(20, "ms"),
}
"""By name; a kB is 1000 bytes."""


@frozen(kw_only=True)
class Row:
    """One line of the table printed at the end."""

    name: str
    """A goal's name, or the name of a goal that this case informs without deciding it."""
    case: str
    floor: str
    """What it was measured against, as text; empty where the figure stands alone."""
    subject: str
    figure: float
    decides: bool
    """False: shown for information; the goal is about another case."""

    @property
    def verdict(self) -> str:
        """Met, MISSED, or nothing."""
        if not self.decides:
            return ""
        return "met" if GOALS[self.name].is_met(self.figure) else "MISSED"

    def as_dict(self) -> dict[str, object]:
        """For the stored JSON."""
        goal = GOALS[self.name]
        return {**asdict(self), "unit": goal.unit, "goal": str(goal), "verdict": self.verdict}


def format_table(rows: Iterable[Row]) -> list[str]:
    """The lines of the table, a row per case, sorted by goal."""
    cells = [("goal", "case", "floor", "measured", "figure", "limit", "")]
    for row in sorted(rows, key=lambda row: row.name.split()[0]):
        goal = GOALS[row.name]
        figure = f"{row.figure:.{0 if row.figure >= 100 else 2}f} {goal.unit}"
        limit = str(goal) if row.decides else ""
        cells.append((row.name.split()[0], row.case, row.floor, row.subject, figure, limit, row.verdict))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
