"""`arimonitor`, the operators' toolbox: one lazily loaded module for each command.

A command's module is imported when the command runs, so that none pays for what the others need. The one-line helps
stand here for the same reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

import click

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "asterisk-config": (
        "arimonitor_runner.commands.asterisk_config:asterisk_config_command",
        "Print what belongs into Asterisk's configuration.",
    ),
    "journal": ("arimonitor_runner.commands.journal:journal_command", "Check, export or shorten the journal."),
    "outbox": ("arimonitor_runner.commands.outbox:outbox_command", "Look at messages that wait, and retry them."),
    "recordings": (
        "arimonitor_runner.commands.recordings:recordings_command",
        "Look at recordings on their way, and retry them.",
    ),
    "record": ("arimonitor_runner.recorder:record_command", "Record what ARI says into a capture log."),
    "replay": ("arimonitor_runner.commands.replay:replay_command", "Print the messages that captured events lead to."),
    "recover": ("arimonitor_runner.commands.orders:recover_command", "Have the daemon look for lost calls."),
    "snapshot": ("arimonitor_runner.commands.orders:snapshot_command", "Have the daemon write a snapshot now."),
    "states": ("arimonitor_runner.commands.states:states_command", "Draw the states of a call."),
}
"""By name: where the command is (`module:attribute`) and its help in one line."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and helps, and imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        """Import a command; None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module_name, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module_name), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module_name}:{attribute} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="arimonitor")
def main() -> None:
    """Follow the calls of an Asterisk: replay, record, look."""


if __name__ == "__main__":
    main(prog_name="arimonitor")
