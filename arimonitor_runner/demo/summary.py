"""What is said when the demonstration is over: what came out, whether it is the truth, where to look next."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from rich.console import Console
from rich.text import Text

from arimonitor_runner.demo.screen import COLOURS
from arimonitor_runner.demo.story import Expected

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


def print_summary(console: Console, outcome: Outcome, expected: Expected, toolbox: str) -> None:
    """Print all of it; `toolbox` is how the reader would call `arimonitor`."""
    messages = [json.loads(body) for body in outcome.bodies]
    _print_counts(console, messages, outcome, expected)
    example = _find_example(messages)
    if example is not None:
        console.print("\nOne of them, the end of a transferred call, as a consumer of RabbitMQ would read it:\n")
        console.print(Text(_folded(example)), soft_wrap=True)
    _print_next(console, outcome, toolbox)


def _print_counts(console: Console, messages: Sequence[dict[str, Any]], outcome: Outcome, expected: Expected) -> None:
    words = Counter(m["data"].get("channelstatus") or m["operation"]["type"] for m in messages)
    line = Text(f"{len(messages)} messages in {outcome.took_s:.0f} s:  ", style="bold")
    for word in _ORDER:
        line.append(f"{words[word]} {word}  ", style=COLOURS[word])
    console.print()
    console.print(line)
    if outcome.wrong:
        console.print("They are NOT what Asterisk's own call records say happened:", style="bold red")
        for text in outcome.wrong:
            console.print(f"  {text}", markup=False)
    else:
        console.print(
            f"Held against Asterisk's own call records: all {len(expected.calls)} calls exactly as they happened, "
            f"and not a word of the {expected.silent} that nobody was to hear of.",
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
    """JSON in as few lines as the width allows, broken between the members of `operation` and `data` only."""
    parts = []
    for name, members in message.items():
        lines, line = [], ""
        texts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in members.items()]
        for number, text in enumerate(texts):
            piece = text + ("," if number < len(texts) - 1 else "")
            if line and len(line) + 1 + len(piece) > WIDTH - 4:
                lines.append(line)
                line = piece
            else:
                line = f"{line} {piece}".strip()
        body = "\n    ".join([*lines, line])
        parts.append(f'  "{name}": {{\n    {body}}}')
    return "{\n" + ",\n".join(parts) + "}"


def _print_next(console: Console, outcome: Outcome, toolbox: str) -> None:
    story = "arimonitor_runner/demo"
    lines = (
        ("all messages, one a line", f"less {outcome.folder / 'messages.ndjson'}"),
        (
            "the same log, replayed as a table",
            f"{toolbox} replay {story}/story.ndjson.gz --directory {story} --format table",
        ),
        (
            "what became of one call, and why",
            f"{toolbox} replay {story}/story.ndjson.gz --directory {story} --explain 22",
        ),
        ("your own Asterisk", "docs/operating.md"),
        ("how it is built", "docs/architecture.md"),
    )
    console.print("\nWhere to look next", style="bold")
    for what, how in lines:
        console.print(f"  {what}\n    [cyan]{how}[/cyan]", soft_wrap=True, highlight=False)
