"""The toolbox: what it lists, what it loads, and what it does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from arimonitor_runner import cli

ROOT = Path(__file__).parents[2]


def test_every_command_is_listed_with_its_help() -> None:
    """In the order of the table."""
    result = CliRunner().invoke(cli.main, ["-h"])
    assert result.exit_code == 0
    positions = [result.stdout.index(f"  {name} ") for name in cli.COMMANDS]
    assert positions == sorted(positions)
    for _, text in cli.COMMANDS.values():
        assert text.split()[-1] in result.stdout


def test_every_command_can_be_loaded_and_explains_itself() -> None:
    """The table points at click commands that exist."""
    for name in cli.COMMANDS:
        result = CliRunner().invoke(cli.main, [name, "--help"])
        assert result.exit_code == 0, name
        assert "Usage" in result.stdout


def test_an_unknown_command_is_a_usage_error() -> None:
    """With status 2."""
    result = CliRunner().invoke(cli.main, ["frobnicate"])
    assert result.exit_code == 2
    assert "No such command" in result.stderr


def test_an_entry_that_is_no_command_is_our_own_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """And said as such."""
    monkeypatch.setattr(cli, "COMMANDS", {"odd": ("arimonitor_runner.cli:LazyGroup", "Odd.")})
    result = CliRunner().invoke(cli.main, ["odd"])
    assert isinstance(result.exception, TypeError)
    assert not isinstance(cli.LazyGroup, click.Command)


@pytest.mark.parametrize("arguments", [["--help"], ["replay", "--help"], ["states"]])
def test_no_command_pays_for_what_others_need(arguments: list[str]) -> None:
    """Quick starts: sockets, brokers, database clients and tables stay unimported."""
    program = (
        "import sys\n"
        "from arimonitor_runner.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'pika', 'aiohttp', 'websockets', 'zstandard', 'structlog', 'cattrs', 'typed_settings'}\n"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=True, cwd=ROOT)
    assert done.stderr == b"[]\n"
