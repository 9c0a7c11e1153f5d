"""What is wrong with a directory's source: collected and reported, never raised, so that one fault hides no other."""

from __future__ import annotations

from typing import Literal

from attrs import Factory, define, frozen

PROBLEMS_MAX = 1000
"""A file of another kind entirely has a problem in every line; more than this helps nobody."""

Severity = Literal["note", "warning", "error"]
"""error: something in the source is not used; warning: used, but perhaps not as meant; note: good to know."""


@frozen
class Problem:
    """One fault and where it is."""

    path: str
    """The file as it was named; another source's own name for where its data lives."""
    line: int
    """From 1; 0 where the fault is not in one line."""
    text: str
    """Never holds the value of a key that may be a password."""
    severity: Severity = "error"

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.severity}: {self.text}"


@define
class ProblemCollector:
    """Collects problems in the order found, a bounded number of them."""

    _problems: list[Problem] = Factory(list)
    _left_out: int = 0

    def add(self, path: str, line: int, text: str, severity: Severity = "error") -> None:
        """Note one problem; beyond the bound it is only counted."""
        if len(self._problems) < PROBLEMS_MAX:
            self._problems.append(Problem(path, line, text, severity))
        else:
            self._left_out += 1

    def collected(self) -> tuple[Problem, ...]:
        """All problems; a last one says how many were left out, if any."""
        if not self._left_out:
            return tuple(self._problems)
        last = self._problems[-1]
        return (*self._problems, Problem(last.path, 0, f"{self._left_out} more problems are not listed"))
