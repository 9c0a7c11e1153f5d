"""What is said when the demonstration is over: what came out, whether it is the truth, where to look next."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from arimonitor_runner.demo.screen import COLOURS
from arimonitor_runner.demo.story import FOLDER, Expected
from arimonitor_runner.demo.wording import describe

WIDTH = 76
"""Of a shown message, so that it fits into 80 columns with its indentation."""
_ORDER = ("open", "oncall", "closed", "unanswered", "FORCECLOSE", "push", "endpoint-status")


@frozen(kw_only=True)
class Outcome:
    """How a run of the demonstration went."""

    bodies: Sequence[bytes]
    """Every message that the sink delivered, in order."""
    wrong: Sequence[str]
    """Differences from what truly happened."""
    left_in_outbox: int
    folder: Path
    """Where the outbox and the messages are."""
    took_s: float

    @property
    def is_good(self) -> bool:
        """Did everything come out, and nothing else?"""
        return not self.wrong and not self.left_in_outbox


def print_summary(console: Console, outcome: Outcome, expected: Expected, *, toolbox: str, tell_calls: bool) -> None:
    """Print all of it.

    Args:
        console: where to.
        outcome: how it went.
        expected: what should have come out.
        toolbox: how the reader would call `arimonitor`.
        tell_calls: tell of the calls that were special; no need where every message was printed.
    """
    messages = [json.loads(body) for body in outcome.bodies]
    if tell_calls:
        _print_special(console, messages)
    _print_counts(console, messages, outcome, expected)
    example = _find_example(messages)
    if example is not None:
        console.print("\nThe end of the transferred call, as a consumer of RabbitMQ would read it:\n")
        console.print(Text(_folded(example)), soft_wrap=True)
    _print_next(console, outcome, example, toolbox)


def _print_special(console: Console, messages: Sequence[dict[str, Any]]) -> None:
    """What happened besides plain calls, a line each."""
    console.print("What was special", style="bold")
    for message in messages:
        kind, data = message["operation"]["type"], message["data"]
        ended = data.get("channelstatus") == "closed"
        if (
            kind == "push"
            or data.get("channelstatus") == "FORCECLOSE"
            or (ended and (data["dtmf"] or "ringgroup" in data or data["destiny_type"] == "ia"))
        ):
            word, sentence = describe(kind, data)
            console.print(Text.assemble((f"  {word:<12}", COLOURS[word]), sentence), soft_wrap=True)


def _print_counts(console: Console, messages: Sequence[dict[str, Any]], outcome: Outcome, expected: Expected) -> None:
    words = Counter(m["data"].get("channelstatus") or m["operation"]["type"] for m in messages)
    line = Text(f"{len(messages)} messages in {outcome.took_s:.0f} s:  ", style="bold")
    for word in _ORDER:
        line.append(f"{words[word]}\N{NO-BREAK SPACE}{word}  ", style=COLOURS[word])
    console.print()
    console.print(line)
    if outcome.wrong:
        console.print("They are NOT what Asterisk's own call records say happened:", style="bold red")
        for text in outcome.wrong:
            console.print(f"  {text}", markup=False)
    else:
        console.print(
            f"Held against Asterisk's own call records: parties, endings and keys of all "
            f"{len(expected.calls)} calls are right, and not a word was said of the {expected.silent} others.",
            style="green",
        )
    if outcome.left_in_outbox:
        console.print(f"{outcome.left_in_outbox} messages were not confirmed.", style="bold red")
    else:
        console.print("Every message was confirmed; the outbox is empty.", style="green")


def _find_example(messages: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    ended = (m for m in messages if m["data"].get("channelstatus") == "closed")
    return next((m for m in ended if m["data"].get("transfer")), None)


def _folded(message: dict[str, Any]) -> str:
    """JSON in few lines: as many members of `operation` and `data` in one as the width allows."""
    parts = []
    for name, members in message.items():
        lines = [""]
        for key, value in members.items():
            piece = f"{json.dumps(key)}: {json.dumps(value)},"
            if len(lines[-1]) + 1 + len(piece) > WIDTH - 4:
                lines.append("")
            lines[-1] = f"{lines[-1]} {piece}".lstrip()
            if len(piece) > WIDTH and isinstance(value, list):
                items = ",\n      ".join(map(json.dumps, value))
                lines[-1] = f"{json.dumps(key)}: [\n      {items}],"
        body = "\n    ".join(line for line in lines if line).removesuffix(",")
        parts.append(f'  "{name}": {{\n    {body}}}')
    return "{\n" + ",\n".join(parts) + "}"


def _print_next(console: Console, outcome: Outcome, example: dict[str, Any] | None, toolbox: str) -> None:
    folder, directory = outcome.folder, os.path.relpath(FOLDER)
    replay = f"{toolbox} replay {folder / 'asterisk.ndjson'} --directory {directory}"
    lines = [
        ("all messages, one a line", f"less {folder / 'messages.ndjson'}"),
        ("what Asterisk said, replayed", f"{replay} --format table"),
        ("the daemon's own log", f"less {folder / 'daemon.log'}"),
        ("for your own Asterisk", "docs/operating.md"),
    ]
    if example is not None:
        lines.insert(2, ("that call, event by event", f"{replay} --explain {example['data']['guid']}"))
    console.print("\nWhere to look next", style="bold")
    for what, how in lines:
        console.print(f"  {what}:\n    [cyan]{escape(how)}[/cyan]", soft_wrap=True)
