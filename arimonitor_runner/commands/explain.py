"""`arimonitor replay --explain GUID`: the story of one call, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import click

from arimonitor_core.explain import Explainer, Story
from arimonitor_core.inputs import Input
from arimonitor_core.monitor import Monitor

CALLS_NAMED_MAX = 20


def explain_call(monitor: Monitor, records: Iterable[Input], guid: str) -> bool:
    """Replay, and print the story of a call; False where there was no such call.

    One pass is enough, so that standard input will do.
    """
    explainer = Explainer(monitor, guid.strip().lower())
    for record in records:
        explainer.handle(record)
    story = explainer.story()
    if story is None:
        click.echo(f"No call {guid} in these logs.", err=True)
        for line in _known_calls(monitor):
            click.echo(line, err=True)
        return False
    for line in tell(story):
        click.echo(line)
    return True


def tell(story: Story) -> Iterator[str]:
    """A story in lines; times are seconds since the call's beginning."""
    began = datetime.fromtimestamp(story.created_ms / 1000, UTC)
    yield story.outcome
    yield f"It began at {began:%Y-%m-%d %H:%M:%S}.{story.created_ms % 1000:03d} UTC; times are seconds from there."
    yield f"guid {story.guid}"
    yield ""
    for step in story.steps:
        yield f"{(step.at_ms - story.created_ms) / 1000:+10.3f}  {step.text}"
        for consequence in step.consequences:
            yield f"{'':12}- {consequence}"


def _known_calls(monitor: Monitor) -> Iterator[str]:
    """The calls that there were, those that ended last first."""
    ended = [(one.guid, one.origin, one.dialed, one.state) for one in monitor.history]
    alive = [(one.guid, one.origin, one.dialed, one.state) for one in monitor.active_calls()]
    calls = [*reversed(alive), *reversed(ended)]
    for guid, origin, dialed, state in calls[:CALLS_NAMED_MAX]:
        yield f"  {guid}  {origin} dialed {dialed}, {state}"
    if len(calls) > CALLS_NAMED_MAX:
        yield f"  and {len(calls) - CALLS_NAMED_MAX} more"
