"""What is shown while the demonstration runs: a live table in a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from attrs import define, field, frozen
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from arimonitor_core.call import Call
from arimonitor_runner.demo.wording import describe

COLOURS = {
    "open": "yellow",
    "oncall": "green",
    "closed": "blue",
    "unanswered": "red",
    "FORCECLOSE": "magenta",
    "push": "cyan",
    "connection": "bold red",
    "endpoint-status": "bright_black",
    "announced": "bright_black",
    "ringing": "yellow",
    "answered": "green",
    "lost": "magenta",
}
REFRESH_PER_S = 8
TICKER_LINES = 6
FRAME_LINES = 10
"""What stands around the table: two lines of header, its head and frame, the ticker's title, one spare."""


@frozen(kw_only=True)
class Moment:
    """What the screen shows besides messages."""

    at_s: float
    """Seconds since the story began."""
    length_s: float
    """How long the story is."""
    now_ms: float
    """Now, on the log's clock, in milliseconds since the Unix epoch."""
    away: bool
    """The connection to Asterisk is down."""
    calls: Sequence[Call]
    events: int
    waiting: int
    """Messages in the outbox that are not confirmed."""


class Screen(Protocol):
    """A way to watch."""

    def __enter__(self) -> Screen:
        """Begin to show."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stop showing; what was shown stays where it makes sense."""
        ...

    def show_message(self, kind: str, data: dict[str, Any], at_s: float) -> None:
        """A message was delivered, so many seconds into the log."""
        ...


@define(eq=False)
class PlainScreen:
    """One line a message, for pipes, logs and continuous integration."""

    console: Console
    _first_states: Counter[str] | None = field(factory=Counter)

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show_message(self, kind: str, data: dict[str, Any], at_s: float) -> None:
        """Print the message; the endpoint states of the start are counted, not listed."""
        if self._first_states is not None:
            if kind == "endpoint-status":
                self._first_states[data["status"]] += 1
                return
            states = ", ".join(f"{count} {status.lower()}" for status, count in sorted(self._first_states.items()))
            self._line(0.0, "endpoint-status", f"at the start: {states}")
            self._first_states = None
        self._line(at_s, *describe(kind, data))

    def _line(self, at_s: float, word: str, sentence: str) -> None:
        self.console.print(f"{at_s:6.1f} s  {word:<15}  {sentence}", markup=False, highlight=False, soft_wrap=True)


class LiveScreen:
    """A table of the calls that is redrawn in place."""

    def __init__(self, console: Console, look: Callable[[], Moment]) -> None:
        self._console = console
        self._look = look
        self._ticker: deque[tuple[float, str, str]] = deque(maxlen=TICKER_LINES)
        self._messages = 0
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=REFRESH_PER_S, transient=True)

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show_message(self, kind: str, data: dict[str, Any], at_s: float) -> None:
        """Count the message and let it run through the ticker."""
        word, sentence = describe(kind, data)
        self._messages += kind != "connection"
        if kind != "endpoint-status" or at_s > 0.5:
            self._ticker.append((at_s, word, sentence))

    def render(self) -> RenderableType:
        """The screen as it is at this moment."""
        moment = self._look()
        return Group(self._header(moment), self._table(moment), Text("messages", style="bold"), *self._ticker_lines())

    def _header(self, moment: Moment) -> Text:
        done = min(moment.at_s, moment.length_s)
        line = Text.assemble(
            ("ARIMONITOR demo", "bold"),
            f"  {done:4.0f} of {moment.length_s:.0f} s   {moment.events} events   ",
            f"{self._messages} messages, {moment.waiting} not confirmed\n",
        )
        if moment.away:
            line.append("connection to Asterisk LOST: its calls go on unseen", style="bold white on red")
        else:
            line.append("connected to Asterisk", style="green")
        announced = sum(call.state == "announced" for call in moment.calls)
        if announced:
            line.append(f"   {announced} more began and rang nobody yet", style="bright_black")
        return line

    def _table(self, moment: Moment) -> Table:
        table = Table(expand=True, pad_edge=False, box=box.SIMPLE_HEAD)
        for name, options in _COLUMNS:
            table.add_column(name, **options)
        rows = [call for call in moment.calls if call.is_published]
        room = max(3, self._console.height - FRAME_LINES - TICKER_LINES)
        for call in rows[:room]:
            table.add_row(*_cells(call, moment.now_ms), style=COLOURS.get(call.state, ""))
        if len(rows) > room:
            table.add_row("", f"and {len(rows) - room} more", style="bright_black")
        for _ in range(room - len(rows)):
            table.add_row()
        return table

    def _ticker_lines(self) -> list[Text]:
        lines = []
        for at_s, word, sentence in self._ticker:
            line = Text(no_wrap=True, overflow="ellipsis")
            line.append(f"{at_s:6.1f} s  ", style="bright_black")
            line.append(f"{word:<15}  ", style=COLOURS.get(word, ""))
            line.append(sentence)
            lines.append(line)
        return lines


_COLUMNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("#", {"justify": "right", "width": 3}),
    ("origin > dialed", {"ratio": 3, "no_wrap": True}),
    ("state", {"width": 9}),
    ("ring", {"justify": "right", "width": 5}),
    ("talk", {"justify": "right", "width": 5}),
    ("with", {"width": 8, "no_wrap": True}),
    ("keys", {"ratio": 1, "no_wrap": True}),
)


def _cells(call: Call, now_ms: float) -> list[str]:
    ring_ms = (call.answered_ms or now_ms) - call.opened_ms
    talk = f"{max(0, now_ms - call.answered_ms) / 1000:.0f} s" if call.answered_ms else ""
    group = " (group)" if call.ring_group == call.dialed else ""
    return [
        str(call.callnumber),
        escape(f"{call.origin} > {call.dialed}{group}"),
        call.state,
        f"{max(0, ring_ms) / 1000:.0f} s",
        talk,
        escape(call.destiny) if call.answered_ms else "",
        escape("".join(key.digit for key in call.keys)),
    ]
