"""`arimonitor states`: the states of a call, drawn from their declaration."""

from __future__ import annotations

import click

from arimonitor_core.call_states import FINAL_STATES, TRANSITIONS, CallStates
from arimonitor_runner.state_diagram import draw_states


@click.command("states")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["mermaid", "md", "svg"]),
    default="md",
    show_default=True,
    help="A Mermaid diagram, a Markdown table or a picture.",
)
def states_command(output_format: str) -> None:
    """Draw the states of a call and the events that lead from one to the next."""
    if output_format == "svg":
        initial = str(CallStates.initial_state.value)
        text = draw_states(TRANSITIONS, initial=initial, final=FINAL_STATES, title="The states of a call")
    else:
        text = format(CallStates, output_format)
    click.echo(text.rstrip("\n"))
