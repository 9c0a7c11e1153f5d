"""The declared machine and the flat table are one thing, and the table refuses what it could not honour."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statemachine import HistoryState, State, StateChart
from statemachine.exceptions import TransitionNotAllowed

from arimonitor_core.call import Call, CallKey
from arimonitor_core.call_states import EVENTS, FINAL_STATES, STATES, TRANSITIONS, CallStates, derive_table
from arimonitor_core.errors import StateDeclarationError


class Held:
    """What a StateChart keeps its state on."""

    def __init__(self, state: str) -> None:
        self.state = state


def declared_step(state: str, event: str) -> str | None:
    """What the declared machine makes of an event; None: it refuses."""
    model = Held(state)
    chart = CallStates(model)
    try:
        chart.send(event)
    except TransitionNotAllowed:
        assert model.state == state
        return None
    return model.state


def new_call(state: str) -> Call:
    return Call(
        key=CallKey("2026-11-22T10:58:24.000+0000", "pbx-1.0"),
        guid="g",
        created_ms=1,
        channel="PJSIP/1121-00000001",
        origin="1121",
        dialed="1122",
        vhost="",
        anchor="pbx-1.0",
        members=("pbx-1.0",),
        state=state,
    )


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_every_state_answers_every_event_as_declared(state: str, event: str) -> None:
    """The table and the declared machine agree on each pair, refusals included."""
    assert TRANSITIONS.get((state, event)) == declared_step(state, event)


@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_random_words_lead_to_the_same_state(word: list[str]) -> None:
    """Driven by the same words, one call and one declared machine are never apart."""
    call, model = new_call("announced"), Held("announced")
    chart = CallStates(model)
    for event in word:
        legal = call.apply(event)
        if legal:
            chart.send(event)
        else:
            with pytest.raises(TransitionNotAllowed):
                chart.send(event)
        assert call.state == model.state


@pytest.mark.parametrize(("state", "event"), [(s, e) for s in STATES for e in EVENTS if (s, e) not in TRANSITIONS])
def test_an_illegal_event_leaves_the_call_as_it_was(state: str, event: str) -> None:
    """Illegal means unchanged, in every field."""
    call = new_call(state)
    before = repr(call)
    assert not call.apply(event)
    assert repr(call) == before


def test_final_states_have_no_way_out() -> None:
    """What is over stays over."""
    assert {state for state, _ in TRANSITIONS} & FINAL_STATES == set()
    assert {"closed", "unanswered", "discarded", "recovered"} == FINAL_STATES


def plain() -> type[StateChart[Any]]:
    class Plain(StateChart[Any]):
        x = State(value="x", initial=True)
        y = State(value="y", final=True)
        go = x.to(y)

    return Plain


def with_method(name: str) -> type[StateChart[Any]]:
    return type("WithMethod", (StateChart,), {**_states(), name: lambda self: None})


def _states() -> dict[str, Any]:
    x, y = State(value="x", initial=True), State(value="y", final=True)
    return {"x": x, "y": y, "go": x.to(y)}


def guarded(**options: Any) -> type[StateChart[Any]]:
    x, y = State(value="x", initial=True), State(value="y", final=True)
    return type("Guarded", (StateChart,), {"x": x, "y": y, "go": x.to(y, **options), "ok": lambda self: True})


def nested() -> type[StateChart[Any]]:
    class Nested(StateChart[Any]):
        class inside(State.Compound):  # noqa: N801 - a state's name
            x = State(value="x", initial=True)
            y = State(value="y", final=True)
            go = x.to(y)

        z = State(value="z", final=True)
        out = inside.to(z)

    return Nested


def parallel() -> type[StateChart[Any]]:
    class Both(StateChart[Any]):
        class inside(State.Parallel):  # noqa: N801 - a state's name
            class left(State.Compound):  # noqa: N801 - a state's name
                x = State(value="x", initial=True, final=True)

            class right(State.Compound):  # noqa: N801 - a state's name
                y = State(value="y", initial=True, final=True)

        z = State(value="z", final=True)
        out = inside.to(z)

    return Both


def with_history() -> type[StateChart[Any]]:
    class Remembers(StateChart[Any]):
        class inside(State.Compound):  # noqa: N801 - a state's name
            x = State(value="x", initial=True)
            y = State(value="y")
            h = HistoryState()
            go = x.to(y)

        z = State(value="z", initial=False)
        out = inside.to(z)
        back = z.to(inside.h)

    return Remembers


def eventless() -> type[StateChart[Any]]:
    x, y = State(value="x", initial=True), State(value="y", final=True)
    x.to(y)
    return type("Eventless", (StateChart,), {"x": x, "y": y, "go": x.to(y)})


def ambiguous() -> type[StateChart[Any]]:
    x, y, z = State(value="x", initial=True), State(value="y", final=True), State(value="z", final=True)
    return type("Ambiguous", (StateChart,), {"x": x, "y": y, "z": z, "go": x.to(y) | x.to(z)})


def test_a_plain_declaration_becomes_its_table() -> None:
    """What the table can express, it expresses."""
    assert dict(derive_table(plain())) == {("x", "go"): "y"}


@pytest.mark.parametrize(
    "name",
    [
        "before_go", "on_go", "after_go", "before_transition", "on_transition", "after_transition", "on_enter_y",
        "on_exit_x", "on_enter_state", "on_exit_state", "prepare_event",
    ],
)  # fmt: skip
def test_a_callback_by_convention_is_refused(name: str) -> None:
    """Each name that python-statemachine would call makes the declaration more than a table."""
    with pytest.raises(StateDeclarationError):
        derive_table(with_method(name))


@pytest.mark.parametrize("option", ["cond", "unless", "validators", "before", "on", "after"])
def test_a_guard_validator_or_action_is_refused(option: str) -> None:
    """Each thing that a transition may carry beside its target is refused."""
    with pytest.raises(StateDeclarationError):
        derive_table(guarded(**{option: "ok"}))


@pytest.mark.parametrize("declare", [nested, parallel, with_history, eventless, ambiguous])
def test_a_shape_that_is_no_flat_table_is_refused(declare: Any) -> None:
    """Nesting, parallel regions, history, eventless transitions and two targets for one event."""
    with pytest.raises(StateDeclarationError):
        derive_table(declare())
