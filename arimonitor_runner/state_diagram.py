"""A state machine drawn as SVG, left to right, without Graphviz: a few states need a few lines, not a dependency.

States stand in layers (the longest way from the initial state), an arrow that spans several layers keeps a place free
in each, and each layer is ordered by where its predecessors stand. Equal machines give equal bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from html import escape
from itertools import pairwise
from typing import Final

from attrs import Factory, define, field, frozen

BOX_HEIGHT: Final = 44
ROW_HEIGHT: Final = 92
"""From one row's middle to the next."""
MARGIN: Final = 28
START_WIDTH: Final = 54
"""The initial dot and its arrow."""
CHARACTER_WIDTH: Final = 7.8
"""Of the state names; generous, because the reader's font is unknown."""
LABEL_CHARACTER_WIDTH: Final = 6.6
LABEL_LINE_HEIGHT: Final = 15
GAP_MIN: Final = 70

_STYLE = """\
text{font-family:system-ui,'Segoe UI','DejaVu Sans',sans-serif;fill:#1f2933}
.paper{fill:#fff}
.state{fill:#eef4fb;stroke:#3e6d9c;stroke-width:1.6}
.final{fill:#f3f4f6;stroke:#52606d}
.rim{fill:none;stroke:#52606d;stroke-width:1.2}
.name{font-size:14px;font-weight:600;text-anchor:middle}
.arrow{fill:none;stroke:#52606d;stroke-width:1.5}
.tip{fill:#52606d}
.label{font-size:12px;text-anchor:middle}"""


@frozen
class _Arrow:
    """All events that lead from one state to another."""

    source: str
    target: str
    events: tuple[str, ...]

    @property
    def label_width(self) -> float:
        return max(map(len, self.events)) * LABEL_CHARACTER_WIDTH


@define
class _Place:
    """A state, or the room that a long arrow needs in a layer between its ends."""

    name: str
    """The state's; of an arrow's room, one that no state can have."""
    layer: int
    width: float = 0
    x: float = 0
    """Left edge."""
    y: float = 0
    """Middle."""
    before: list[_Place] = Factory(list)
    after: list[_Place] = Factory(list)


@define
class _Layout:
    places: dict[str, _Place]
    layers: list[list[_Place]]
    routes: list[tuple[_Arrow, list[_Place]]]
    """Each forward arrow with the places it passes, its ends included."""
    returns: list[_Arrow]
    """Arrows that lead back to an earlier state, or to the same one."""
    width: float = field(default=0, init=False)
    height: float = field(default=0, init=False)


def draw_states(
    transitions: Mapping[tuple[str, str], str], *, initial: str, final: Collection[str], title: str = "States"
) -> str:
    """Draw a machine given as ``{(state, event): state}``; returns a whole SVG document.

    States that cannot be reached from `initial` are left out.
    """
    layout = _lay_out(_arrows(transitions), initial)
    marks = [_draw_start(layout.places[initial])]
    marks += [_draw_route(arrow, route) for arrow, route in layout.routes]
    marks += [_draw_return(arrow, layout, index) for index, arrow in enumerate(layout.returns)]
    marks += [_draw_state(place, is_final=place.name in final) for place in _states(layout)]
    marks += [_draw_label(arrow, *_label_point(route)) for arrow, route in layout.routes]
    width, height = _number(layout.width), _number(layout.height)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{_STYLE}\n</style>",
            '<marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
            'orient="auto-start-reverse"><path class="tip" d="M0 0L10 5L0 10z"/></marker>',
            f'<rect class="paper" width="{width}" height="{height}" rx="8"/>',
            *marks,
            "</svg>\n",
        ]
    )


def _arrows(transitions: Mapping[tuple[str, str], str]) -> list[_Arrow]:
    events: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for (source, event), target in transitions.items():
        events[source, target].append(event.replace("_", " "))
    return [_Arrow(source, target, tuple(names)) for (source, target), names in events.items()]


def _lay_out(arrows: list[_Arrow], initial: str) -> _Layout:
    forward, returns = _split_returns(arrows, initial)
    depths = _depths(forward, initial)
    places = {name: _Place(name, depth, _box_width(name)) for name, depth in depths.items()}
    layers: list[list[_Place]] = [[] for _ in range(max(depths.values()) + 1)]
    for place in places.values():
        layers[place.layer].append(place)
    routes = [(arrow, _route(arrow, places, layers)) for arrow in forward]
    layout = _Layout(places, layers, routes, returns)
    _order(layers)
    _set_columns(layout)
    _set_rows(layout)
    return layout


def _split_returns(arrows: list[_Arrow], initial: str) -> tuple[list[_Arrow], list[_Arrow]]:
    """Set aside the arrows that close a circle: those that lead to a state on the way that was walked to get here."""
    leaving: defaultdict[str, list[_Arrow]] = defaultdict(list)
    for arrow in arrows:
        leaving[arrow.source].append(arrow)
    returns: list[_Arrow] = []
    done: set[str] = set()

    def walk(state: str, way: tuple[str, ...]) -> None:
        for arrow in leaving[state]:
            if arrow.target in way:
                returns.append(arrow)
            elif arrow.target not in done:
                walk(arrow.target, (*way, arrow.target))
        done.add(state)

    walk(initial, (initial,))
    return [arrow for arrow in arrows if arrow not in returns and arrow.source in done], returns


def _depths(forward: list[_Arrow], initial: str) -> dict[str, int]:
    """Length of the longest way to each state that can be reached."""
    depths = {initial: 0}
    changed = True
    while changed:
        changed = False
        for arrow in forward:
            depth = depths.get(arrow.source, -1) + 1
            if depth > depths.get(arrow.target, 0):
                depths[arrow.target] = depth
                changed = True
    return depths


def _route(arrow: _Arrow, places: dict[str, _Place], layers: list[list[_Place]]) -> list[_Place]:
    """The places that an arrow passes; keeps room for it in the layers between its ends."""
    source, target = places[arrow.source], places[arrow.target]
    rooms = [_Place(f"{arrow.source}>{arrow.target}", layer) for layer in range(source.layer + 1, target.layer)]
    for room in rooms:
        layers[room.layer].append(room)
    route = [source, *rooms, target]
    for one, other in pairwise(route):
        one.after.append(other)
        other.before.append(one)
    return route


def _order(layers: list[list[_Place]]) -> None:
    """Put each place of a layer at the mean row of those before it; where that is equal, ways that end go below."""
    for before, layer in pairwise(layers):
        rows = {id(place): row for row, place in enumerate(before)}
        layer.sort(key=lambda place: (_mean([rows[id(other)] for other in place.before]), not place.after))


def _mean(numbers: list[int]) -> float:
    return sum(numbers) / len(numbers)


def _set_columns(layout: _Layout) -> None:
    """Give each layer its place from left to right, as far apart as the labels between need."""
    x = float(MARGIN + START_WIDTH)
    for index, layer in enumerate(layout.layers):
        width = max(place.width for place in layer)
        for place in layer:
            place.x = x + (width - place.width) / 2
        labels = [arrow.label_width for arrow, route in layout.routes if _label_layer(route) == index]
        x += width + max([GAP_MIN, *(label + 36 for label in labels)])
    layout.width = max(place.x + place.width for layer in layout.layers for place in layer) + MARGIN


def _set_rows(layout: _Layout) -> None:
    """Put each place at the height of those before it, pushed down as far as its layer's others need."""
    for layer in layout.layers:
        free = float("-inf")
        for place in layer:
            wanted = min((other.y for other in place.before), default=0.0)
            place.y = max(wanted, free)
            free = place.y + ROW_HEIGHT
    top = min(place.y for layer in layout.layers for place in layer)
    for layer in layout.layers:
        for place in layer:
            place.y += MARGIN + BOX_HEIGHT / 2 - top
    bottom = max(place.y for layer in layout.layers for place in layer) + BOX_HEIGHT / 2
    layout.height = bottom + MARGIN + (ROW_HEIGHT / 2) * len(layout.returns)


def _label_layer(route: list[_Place]) -> int:
    """The layer in front of whose gap an arrow's label stands: the last one that it crosses, where it is alone."""
    return route[-2].layer


def _label_point(route: list[_Place]) -> tuple[float, float]:
    one, other = route[-2], route[-1]
    return (one.x + one.width + other.x - 10) / 2, (_exit_y(one, other) + _entry_y(one, other)) / 2


def _states(layout: _Layout) -> list[_Place]:
    return list(layout.places.values())


def _exit_y(one: _Place, other: _Place) -> float:
    """Several arrows leave a box at several heights, in the order of where they go."""
    return one.y + _spread(one, one.after, other)


def _entry_y(one: _Place, other: _Place) -> float:
    return other.y + _spread(other, other.before, one)


def _spread(box: _Place, neighbours: list[_Place], chosen: _Place) -> float:
    if not box.width or len(neighbours) == 1:
        return 0
    ranked = sorted(neighbours, key=lambda place: place.y)
    index = next(index for index, place in enumerate(ranked) if place is chosen)
    return (index - (len(ranked) - 1) / 2) * min(14, (BOX_HEIGHT - 12) / (len(ranked) - 1))


def _draw_start(place: _Place) -> str:
    x, y = place.x - START_WIDTH, _number(place.y)
    return (
        f'<circle class="tip" cx="{_number(x + 7)}" cy="{y}" r="7"/>'
        f'<path class="arrow" d="M{_number(x + 14)} {y}H{_number(place.x - 1)}" marker-end="url(#tip)"/>'
    )


def _draw_route(arrow: _Arrow, route: list[_Place]) -> str:
    """A curve through all places of a route, level at each of them."""
    first = route[0]
    steps = [f"M{_number(first.x + first.width)} {_number(_exit_y(first, route[1]))}"]
    for one, other in pairwise(route):
        left, right = one.x + one.width, other.x - (1 if other.width else 0)
        middle = _number((left + right) / 2)
        start, end = _number(_exit_y(one, other)), _number(_entry_y(one, other))
        steps.append(f"C{middle} {start} {middle} {end} {_number(right)} {end}")
    return f'<path class="arrow" d="{"".join(steps)}" marker-end="url(#tip)"><title>{_described(arrow)}</title></path>'


def _draw_return(arrow: _Arrow, layout: _Layout, index: int) -> str:
    """A curve below everything, back to an earlier state, with its label."""
    source, target = layout.places[arrow.source], layout.places[arrow.target]
    low = layout.height - MARGIN - (ROW_HEIGHT / 2) * index
    shift = 12 if source is target else 0
    start, end = source.x + source.width / 2 + shift, target.x + target.width / 2 - shift
    path = (
        f"M{_number(start)} {_number(source.y + BOX_HEIGHT / 2)}C{_number(start)} {_number(low)} "
        f"{_number(end)} {_number(low)} {_number(end)} {_number(target.y + BOX_HEIGHT / 2 + 1)}"
    )
    line = f'<path class="arrow" d="{path}" marker-end="url(#tip)"><title>{_described(arrow)}</title></path>'
    bottom = (source.y + target.y) / 2 + BOX_HEIGHT / 2
    return line + _draw_label(arrow, (start + end) / 2, bottom + 0.75 * (low - bottom))


def _draw_label(arrow: _Arrow, x: float, y: float) -> str:
    """The events, one a line, on a piece of paper that covers the arrow."""
    width, height = arrow.label_width + 8, len(arrow.events) * LABEL_LINE_HEIGHT + 2
    paper = (
        f'<rect class="paper" x="{_number(x - width / 2)}" y="{_number(y - height / 2)}" '
        f'width="{_number(width)}" height="{height}"/>'
    )
    first = y - (len(arrow.events) - 1) * LABEL_LINE_HEIGHT / 2 + 4
    lines = (
        f'<text class="label" x="{_number(x)}" y="{_number(first + line * LABEL_LINE_HEIGHT)}">{escape(event)}</text>'
        for line, event in enumerate(arrow.events)
    )
    return paper + "".join(lines)


def _draw_state(place: _Place, *, is_final: bool) -> str:
    x, y = place.x, place.y - BOX_HEIGHT / 2
    kind = "state final" if is_final else "state"
    box = (
        f'<rect class="{kind}" x="{_number(x)}" y="{_number(y)}" width="{_number(place.width)}" '
        f'height="{BOX_HEIGHT}" rx="10"/>'
    )
    if is_final:
        box += (
            f'<rect class="rim" x="{_number(x + 4)}" y="{_number(y + 4)}" width="{_number(place.width - 8)}" '
            f'height="{BOX_HEIGHT - 8}" rx="7"/>'
        )
    middle = _number(x + place.width / 2)
    return f'{box}<text class="name" x="{middle}" y="{_number(place.y + 5)}">{escape(place.name)}</text>'


def _described(arrow: _Arrow) -> str:
    return escape(f"{arrow.source} to {arrow.target}: {', '.join(arrow.events)}")


def _box_width(name: str) -> float:
    return max(len(name) * CHARACTER_WIDTH + 44, 96)


def _number(value: float) -> str:
    """One decimal at most, so that a document is short and never depends on how a float is printed."""
    return f"{value:.1f}".rstrip("0").rstrip(".")
