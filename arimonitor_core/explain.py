"""Why did a call become what it became? Its story, input by input, told by watching a monitor at work.

The monitor is not asked to remember anything for this: the explainer stands in front of it, passes every input on, and
compares the call before and after. A call is known from its first event on, but the legs that it dials exist before a
Dial event says whose they are: what was said of a living channel is kept aside until that shows, or until it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from arimonitor_core import ari_events as ari
from arimonitor_core.call import Call
from arimonitor_core.call_states import ANNOUNCED
from arimonitor_core.effects import Diagnostic, Effect
from arimonitor_core.explain_wording import (
    describe_birth,
    describe_changes,
    describe_effects,
    describe_event,
    describe_outcome,
    mentioned,
)
from arimonitor_core.inputs import (
    AriEventReceived,
    CallsNumbered,
    ConnectionLost,
    ConnectionReplaced,
    ConnectionRestored,
    DeadlineReached,
    DirectoryChanged,
    FilterChanged,
    Input,
)
from arimonitor_core.monitor import RECORDING_VARIABLE, RESTARTED, Monitor
from arimonitor_core.values import parse_time_ms

_INPUT_WORDS: Final[Mapping[type, str]] = {
    ConnectionLost: "The connection to Asterisk is lost; what happens now is unseen.",
    ConnectionRestored: "The connection to Asterisk is up, and shows what goes on there.",
    ConnectionReplaced: "A successor of this monitor listens from here on; nothing was missed.",
    CallsNumbered: "Another monitor of this Asterisk told which callnumbers it gave.",
    FilterChanged: "An operator changed the event filter.",
    DeadlineReached: "Time went by.",
    DirectoryChanged: "The directory changed.",
}

ASIDE_MAX: Final = 50
"""Steps kept aside of one channel; a leg is dialed within a few events of its creation."""


@frozen(kw_only=True)
class Step:
    """One input that had to do with the call."""

    at_ms: int
    """When, by Asterisk's clock; milliseconds since the Unix epoch."""
    text: str
    """What was said or happened."""
    consequences: tuple[str, ...] = ()
    """What the call became by it; empty: nothing changed."""


@frozen(kw_only=True)
class Story:
    """A call, told."""

    guid: str
    created_ms: int
    outcome: str
    """One sentence."""
    steps: tuple[Step, ...]
    """In the order of the inputs, which need not be that of their times."""


class Explainer:
    """Passes inputs on to a monitor and gathers the story of one call.

    Args:
        monitor: nothing else may feed it meanwhile.
        guid: of the call; it may not exist yet.
    """

    def __init__(self, monitor: Monitor, guid: str) -> None:
        self._monitor = monitor
        self._guid = guid
        self._call = monitor.find_call(guid)
        self._newest: Call | None = None
        self._steps: dict[int, Step] = {}
        """By number of the input."""
        self._count = 0
        self._own: dict[str, str] = {}
        """Names of the channels that belong or belonged to the call, by id."""
        self._aside: dict[str, dict[int, Step]] = {}
        """Steps of channels that belong to no call yet, by channel id."""

    def handle(self, item: Input) -> Sequence[Effect]:
        """Pass an input on; returns its effects."""
        effects: list[Effect] = []
        # A deadline is a step of its own, not a consequence of whatever happened next.
        while (due := self._monitor.next_deadline()) is not None and due <= item.received_at:
            effects += self._take(DeadlineReached(received_at=due))
        effects += self._take(item)
        return effects

    def story(self) -> Story | None:
        """What is known so far; None where the call never was."""
        if self._call is None:
            return None
        steps = tuple(self._steps[number] for number in sorted(self._steps))
        facts = _facts(self._call)
        return Story(guid=self._guid, created_ms=self._call.created_ms, outcome=describe_outcome(facts), steps=steps)

    def _take(self, item: Input) -> Sequence[Effect]:
        event = _decode(item)
        before = _facts(self._call) if self._call is not None else None
        # A call that goes on is concerned by a gap or a handover, whether or not that changed it.
        is_ours = isinstance(item, ConnectionLost | ConnectionRestored | ConnectionReplaced) and self._is_alive()
        is_ours = self._claim(self._channels_of(item, event)) or is_ours
        text = describe_event(event, self._name_of) or _INPUT_WORDS.get(type(item), "")
        effects = self._monitor.handle(item)
        if self._call is None:
            self._find_call()
        is_ours = self._claim(self._channels_of(item, event)) or is_ours
        if any(isinstance(effect, Diagnostic) and effect.reason == RESTARTED for effect in effects):
            text += " Asterisk was restarted meanwhile: what went on before is over."
        consequences = tuple(self._consequences(before, event, effects))
        step = Step(at_ms=_time_of(item, event), text=text, consequences=consequences)
        self._keep(step, event, is_ours=bool(text and is_ours))
        return effects

    def _keep(self, step: Step, event: object, *, is_ours: bool) -> None:
        """Put a step into the story, or aside where it may turn out to belong there."""
        self._count += 1
        if step.consequences or is_ours:
            self._steps[self._count] = step
        elif isinstance(event, ari.ChannelDestroyed):
            self._aside.pop(event.channel.id, None)
        else:
            for channel in mentioned(event):
                kept = self._aside.setdefault(channel.id, {})
                if len(kept) < ASIDE_MAX:
                    kept[self._count] = step

    def _is_alive(self) -> bool:
        return self._call is not None and not self._call.is_over

    def _consequences(self, before: dict[str, Any] | None, event: object, effects: Sequence[Effect]) -> Iterator[str]:
        if self._call is None:
            return
        after = _facts(self._call)
        if before is None:
            yield describe_birth(after)
            # What it is born with was said; how it went on within the same input was not.
            before = after | {"state": ANNOUNCED, "callnumber": 0, "ring_group": "", "pushed": (), "has_gap": False}
        yield from describe_changes(before, after, event, self._name_of)
        yield from describe_effects(effects, self._guid)

    def _find_call(self) -> None:
        """Look for the call; only where a new one began, because there may be many."""
        newest = next(reversed(self._monitor.book.calls.values()), None)
        if newest is not self._newest:
            self._newest = newest
            self._call = self._monitor.find_call(self._guid)

    def _channels_of(self, item: Input, event: object) -> Iterable[str]:
        """Ids of the channels that an input speaks of; a reconnect speaks of all."""
        if isinstance(item, ConnectionRestored):
            return list(self._monitor.book.table.channels)
        return [channel.id for channel in mentioned(event)]

    def _claim(self, channel_ids: Iterable[str]) -> bool:
        """Does one of these channels belong to the call? What was kept aside of such a one is told from now on."""
        is_ours = False
        for channel_id in channel_ids:
            if self._belongs(channel_id):
                is_ours = True
                self._steps |= self._aside.pop(channel_id, {})
        return is_ours

    def _belongs(self, channel_id: str) -> bool:
        table = self._monitor.book.table
        channel = table.channels.get(channel_id)
        if channel is None:
            return channel_id in self._own
        if self._call is None or (channel.call is not self._call and table.find_calling(channel)[1] is not self._call):
            return False
        self._own[channel_id] = channel.name
        return True

    def _name_of(self, channel_id: str) -> str:
        channel = self._monitor.book.table.channels.get(channel_id)
        return channel.name if channel is not None else self._own.get(channel_id, channel_id)


def _facts(call: Call) -> dict[str, Any]:
    """The call's fields; all of them are immutable values."""
    return {name: getattr(call, name) for name in Call.__struct_fields__}


def _decode(item: Input) -> object:
    """The typed event of an input; None for one that is no event."""
    if not isinstance(item, AriEventReceived):
        return None
    event = ari.decode_event(item.raw)
    if isinstance(event, ari.ChannelVarset) and event.variable == RECORDING_VARIABLE:
        return ari.decode_recording(item.raw)
    return event


def _time_of(item: Input, event: object) -> int:
    at_ms = parse_time_ms(getattr(event, "timestamp", ""))
    return round(item.received_at * 1000) if at_ms is None else at_ms
