"""`arimonitor replay --expect`: is what comes out still what came out before?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

import click
import msgspec

from arimonitor_runner.log_files import LogFile

FIELDS_SHOWN_MAX = 20

_MISSING: Final = object()


class ExpectationSink:
    """Compares messages with the lines of an earlier output; the first difference is shown, the others are counted."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._file = LogFile.open(name, self._report)
        self._lines: Iterator[bytes] = (line.rstrip(b"\r\n") for line in self._file)
        self._differences = 0
        self._count = 0

    def take(self, body: bytes) -> None:
        """Compare one message."""
        self._count += 1
        expected = next(self._lines, None)
        if body == expected:
            return
        self._differences += 1
        if self._differences == 1:
            self._show(body, expected)

    def finish(self) -> bool:
        """Say how it went; False where anything differed."""
        for expected in self._lines:
            self._differences += 1
            if self._differences == 1:
                click.echo(f"{self._name}:{self._file.line_number}: expected, but not published:")
                click.echo(expected.decode("utf-8", "backslashreplace"))
        self._file.close()
        if self._differences:
            click.echo(f"{self._differences} of the messages differ from {self._name}.")
        else:
            click.echo(f"{self._count} messages, as in {self._name}.")
        return not self._differences

    def _show(self, body: bytes, expected: bytes | None) -> None:
        if expected is None:
            click.echo(f"{self._name}: ends after {self._count - 1} messages; published as well:")
            click.echo(body.decode("utf-8", "backslashreplace"))
            return
        click.echo(f"{self._name}:{self._file.line_number}: message {self._count} differs")
        for line in describe_difference(expected, body):
            click.echo(f"  {line}")

    def _report(self, name: str, line: int, text: str) -> None:
        self._differences += 1
        click.echo(f"{name}:{line}: {text}", file=sys.stderr)


def describe_difference(expected: bytes, actual: bytes) -> list[str]:
    """Say field by field how two messages differ; at most `FIELDS_SHOWN_MAX` fields."""
    try:
        one, other = msgspec.json.decode(expected), msgspec.json.decode(actual)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return [f"expected {expected.decode('utf-8', 'backslashreplace')}", f"got      {actual.decode()}"]
    lines = list(_differing_fields(one, other, ""))
    if not lines:
        return ["the same values, written differently (order of the keys, blanks, spelling of numbers)"]
    hidden = len(lines) - FIELDS_SHOWN_MAX
    return lines if hidden <= 0 else [*lines[:FIELDS_SHOWN_MAX], f"and {hidden} more fields"]


def _differing_fields(expected: Any, actual: Any, path: str) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in dict.fromkeys([*expected, *actual]):
            where = f"{path}.{key}" if path else str(key)
            yield from _differing_fields(expected.get(key, _MISSING), actual.get(key, _MISSING), where)
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from _differing_fields(one, other, f"{path}[{index}]")
    elif expected is _MISSING or actual is _MISSING or type(expected) is not type(actual) or expected != actual:
        yield f"{path or 'message'}: expected {_shown(expected)}, got {_shown(actual)}"


def _shown(value: Any) -> str:
    return "nothing" if value is _MISSING else msgspec.json.encode(value).decode()
