"""`arimonitor states`: the declared machine as text and as a picture."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from arimonitor_core.call_states import FINAL_STATES, STATES, TRANSITIONS, CallStates
from arimonitor_runner.cli import main
from arimonitor_runner.state_diagram import draw_states

SVG = "{http://www.w3.org/2000/svg}"


def states(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["states", *arguments])
    assert result.exit_code == 0
    return result.stdout


def texts(svg: str, kind: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(svg).iter(f"{SVG}text") if text.get("class") == kind]


@pytest.mark.parametrize("output_format", ["mermaid", "md"])
def test_text_comes_from_the_declaration_itself(output_format: str) -> None:
    """The library's own words, so that they cannot differ from what runs."""
    assert states("--format", output_format) == format(CallStates, output_format).rstrip("\n") + "\n"


def test_a_table_is_what_is_printed_without_a_format() -> None:
    """It reads well in a terminal."""
    assert states() == states("--format", "md")


def test_the_picture_shows_every_state_and_every_transition() -> None:
    """Final ones with a second rim, events of one arrow on one label."""
    svg = states("--format", "svg")
    assert sorted(texts(svg, "name")) == sorted(STATES)
    assert len(texts(svg, "label")) == len(TRANSITIONS)
    arrows = {(source, target) for (source, _), target in TRANSITIONS.items()}
    described = [title.text for path in ET.fromstring(svg).iter(f"{SVG}path") for title in path.iter(f"{SVG}title")]
    assert len(described) == len(arrows)
    assert "announced to discarded: hang up, absorb, lose" in described
    rims = [one for one in ET.fromstring(svg).iter(f"{SVG}rect") if one.get("class") == "rim"]
    assert len(rims) == len(FINAL_STATES)


def test_names_are_nobodys_markup() -> None:
    """Whatever a state is called, the document stays well-formed."""
    svg = draw_states({("<a>&", 'x"y'): "b"}, initial="<a>&", final={"b"}, title="<t>")
    assert texts(svg, "name") == ["<a>&", "b"]
    assert texts(svg, "label") == ['x"y']


def test_a_machine_of_one_state_is_drawn() -> None:
    """With an event that leads back to itself, or with none."""
    assert texts(draw_states({("a", "again"): "a"}, initial="a", final=()), "label") == ["again"]
    assert texts(draw_states({}, initial="a", final={"a"}), "name") == ["a"]


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    found = [one for one in ET.fromstring(svg).iter(f"{SVG}rect") if str(one.get("class")).startswith("state")]
    return [tuple(float(one.get(key, "")) for key in ("x", "y", "width", "height")) for one in found]


NAMES = st.sampled_from([f"state_{number}" for number in range(8)])


@given(
    transitions=st.dictionaries(
        st.tuples(NAMES, st.sampled_from(["go", "stop_it_at_once", "x"])), NAMES, min_size=1, max_size=20
    )
)
def test_any_machine_is_drawn_without_boxes_over_each_other(transitions: dict[tuple[str, str], str]) -> None:
    """Circles, arrows over several layers, states that nothing leads to: reachable states stand apart, on the page."""
    svg = draw_states(transitions, initial="state_0", final={"state_7"})
    assert svg == draw_states(dict(transitions), initial="state_0", final={"state_7"})
    reachable = {"state_0"}
    for _ in range(8):
        reachable |= {target for (source, _), target in transitions.items() if source in reachable}
    assert set(texts(svg, "name")) == reachable
    assert len(texts(svg, "label")) == sum(source in reachable for source, _ in transitions)
    root = ET.fromstring(svg)
    places = boxes(svg)
    for index, (x, y, width, height) in enumerate(places):
        assert 0 <= x <= float(root.get("width", "")) - width
        assert 0 <= y <= float(root.get("height", "")) - height
        for other_x, other_y, other_width, other_height in places[index + 1 :]:
            assert (
                x + width <= other_x
                or other_x + other_width <= x
                or y + height <= other_y
                or other_y + other_height <= y
            )
