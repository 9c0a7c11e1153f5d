"""The states of a call, declared once with python-statemachine, and the flat table derived from the declaration.

Theory of operation. The class `CallStates` is the specification: people read it, diagrams are drawn from it, and a
property test drives it with random words. A StateChart instance costs about 0.15 ms and 10 kB, an event on it about
0.09 ms; a call monitor sees thousands of events a second. So nothing instantiates it at run time: `derive_table`
reads the class once, at import, into ``{(state, event): state}``, and refuses anything that such a table cannot
express (guards, validators, callbacks, nesting, history, eventless transitions). The table is the hot path.

Consequences of a transition (messages, durations) belong to `calls`; here are states and events only.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from statemachine import State, StateChart

from arimonitor_core.errors import StateDeclarationError


class CallStates(StateChart[Any]):
    """The life of one call, from the caller channel's creation to its last word."""

    catch_errors_as_events = False
    allow_event_without_transition = False

    announced = State("announced", value="announced", initial=True)
    ringing = State("ringing", value="ringing")
    answered = State("answered", value="answered")
    lost = State("lost", value="lost")
    closed = State("closed", value="closed", final=True)
    unanswered = State("unanswered", value="unanswered", final=True)
    discarded = State("discarded", value="discarded", final=True)
    recovered = State("recovered", value="recovered", final=True)

    ring = announced.to(ringing)
    """A leg of it is dialed, or an AI entry was called."""
    answer = ringing.to(answered)
    """A called phone answered and is connected to the caller; the AI entry went up."""
    hang_up = announced.to(discarded) | ringing.to(unanswered) | answered.to(closed)
    """The last channel that talked in it ended, or a transfer joined it to another call."""
    absorb = announced.to(discarded)
    """Its channel turned out to be a leg of another call (pickup)."""
    lose = announced.to(discarded) | ringing.to(lost) | answered.to(lost)
    """After a reconnect Asterisk no longer knows any channel of it."""
    recover = lost.to(recovered)
    """The web system is told so."""


def derive_table(declared: type[StateChart[Any]]) -> Mapping[tuple[str, str], str]:
    """Read a declaration into ``{(state value, event): state value}``.

    Raises:
        StateDeclarationError: the declaration says something that the table could not honour.
    """
    _refuse(bool(_callbacks(declared, declared)), "callbacks or guards on the machine")
    table: dict[tuple[str, str], str] = {}
    for state in declared.states:
        _refuse(bool(state.is_compound or state.parallel or state.history), f"nesting or history at {state.id}")
        _refuse(bool(_callbacks(declared, state)), f"callbacks at {state.id}")
        for transition in state.transitions:
            _refuse(bool(transition.is_eventless), f"an eventless transition from {state.id}")
            _refuse(bool(_callbacks(declared, transition)), f"callbacks or guards on {transition.event}")
            _refuse(len(transition.targets) != 1, f"not exactly one target of {transition.event} from {state.id}")
            for event in transition.events:
                key = (str(state.value), str(event))
                _refuse(key in table, f"two transitions for {key}")
                table[key] = str(transition.targets[0].value)
    return MappingProxyType(table)


def _callbacks(declared: type[StateChart[Any]], owner: Any) -> list[str]:
    """Callbacks, guards and validators of a state, a transition or the machine, that would really run.

    python-statemachine lists the names that it would call by convention whether or not the class defines them.
    """
    return [
        str(spec.func)
        for spec in owner._specs
        if not spec.is_convention or (hasattr(declared, str(spec.func)) and not hasattr(StateChart, str(spec.func)))
    ]


def _refuse(refused: bool, what: str) -> None:
    if refused:
        raise StateDeclarationError(f"the flat table cannot express {what}")


TRANSITIONS: Final = derive_table(CallStates)

ANNOUNCED: Final = "announced"
RINGING: Final = "ringing"
ANSWERED: Final = "answered"
LOST: Final = "lost"
CLOSED: Final = "closed"
UNANSWERED: Final = "unanswered"
DISCARDED: Final = "discarded"
RECOVERED: Final = "recovered"

FINAL_STATES: Final = frozenset(str(state.value) for state in CallStates.states if state.final)
EVENTS: Final = tuple(sorted({event for _, event in TRANSITIONS}))
STATES: Final = tuple(str(state.value) for state in CallStates.states)
