"""Counters of everything that passes: what came, what went out, and why something was refused."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from attrs import Factory, define

UNHANDLED_LIMIT: Final = 200
"""How many unknown event types are counted by name."""


@define(eq=False)
class Statistics:
    """Each table counts by a stable word."""

    events: defaultdict[type, int] = Factory(lambda: defaultdict(int))
    """By event class: one dict operation an event, named only when somebody asks."""
    unhandled: defaultdict[str, int] = Factory(lambda: defaultdict(int))
    """ARI types that the core has no use for and does not list."""
    filtered: defaultdict[str, int] = Factory(lambda: defaultdict(int))
    """Dropped by the event filter, by type or by ChannelVarset/variable."""
    diagnostics: defaultdict[str, int] = Factory(lambda: defaultdict(int))
    """By reason; also the refusals of ChannelCreated."""
    messages: defaultdict[str, int] = Factory(lambda: defaultdict(int))
    """Published, by routing key."""
    calls: defaultdict[str, int] = Factory(lambda: defaultdict(int))
    """Ended, by final state."""

    def count_unhandled(self, event_type: str) -> None:
        """Count an ARI type that the core does not list; a hostile source cannot make the table grow."""
        known = event_type in self.unhandled or len(self.unhandled) < UNHANDLED_LIMIT
        self.unhandled[event_type if known else "(others)"] += 1

    def as_dict(self) -> dict[str, dict[str, int]]:
        """All counters, sorted by name."""
        events = {kind.__name__: count for kind, count in self.events.items()}
        return {
            "events": dict(sorted(events.items())),
            "unhandled": dict(sorted(self.unhandled.items())),
            "filtered": dict(sorted(self.filtered.items())),
            "diagnostics": dict(sorted(self.diagnostics.items())),
            "messages": dict(sorted(self.messages.items())),
            "calls": dict(sorted(self.calls.items())),
        }
