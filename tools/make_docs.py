#!/usr/bin/env python3
"""Write the generated parts of docs/: the call states, the settings, and a picture of the demonstration.

    .venv/bin/python tools/make_docs.py

A generated part stands between two comments, `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import attrs
from click.testing import CliRunner
from rich.console import Console

from arimonitor_core.effects import PublishMessage
from arimonitor_core.monitor import Monitor
from arimonitor_runner.cli import main as toolbox
from arimonitor_runner.demo.screen import LiveScreen, Moment
from arimonitor_runner.demo.story import FOLDER, load_story
from arimonitor_runner.directory_sources.text import load_directory
from arimonitor_runner.settings import Settings

PICTURE_AT_S = 16.3
"""Seconds into the story, at its own speed."""
DOCS = Path(__file__).resolve().parent.parent / "docs"


def states(output_format: str) -> str:
    """What `arimonitor states` prints."""
    return CliRunner().invoke(toolbox, ["states", "--format", output_format], catch_exceptions=False).stdout


def settings_table() -> str:
    """One row for each setting: path, default, help, in the order of the classes."""
    rows = ["| setting | default | |", "|---|---|---|"]
    rows += [f"| `{path}` | {default} | {text} |" for path, default, text in _settings(Settings, "")]
    return "\n".join(rows) + "\n"


def _settings(section: type[attrs.AttrsInstance], prefix: str) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for one in attrs.fields(attrs.resolve_types(section)):
        if attrs.has(one.type):
            found += _settings(one.type, f"{prefix}{one.name}.")
        else:
            text = one.metadata.get("typed-settings", {}).get("help") or ""
            found.append((prefix + one.name, _shown(one.default), _escaped(text)))
    return found


def _escaped(text: str) -> str:
    """Plain text as Markdown shows it in a table."""
    return re.sub(r"([|_*])", r"\\\1", text)


def _shown(default: Any) -> str:
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class at run time
        return "host name"
    if isinstance(default, tuple):
        return f"{len(default)} names" if len(default) > 3 else f"`{list(default)}`".replace("'", '"')
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{text}`" if text else "empty"


def filled(page: str, name: str, text: str) -> str:
    """The page with its part of that name replaced.

    Raises ValueError where the page has no such part.
    """
    pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    page, count = pattern.subn(lambda found: f"{found[1]}\n{text}\n{found[2]}", page)
    if count != 1:
        raise ValueError(f"{count} parts named {name}")
    return page


def demo_picture() -> str:
    """The demonstration's live table at a moment when much is going on, as SVG."""
    records, _ = load_story()
    begins_at = records[0].received_at
    monitor = Monitor(server="voip1", directory=load_directory(FOLDER, {}).directory)
    console = Console(record=True, file=io.StringIO(), width=80, height=30, force_terminal=True)
    events = [record for record in records if record.received_at < begins_at + PICTURE_AT_S]
    last_at = events[-1].received_at
    screen = LiveScreen(
        console,
        lambda: Moment(
            at_s=last_at - begins_at,
            length_s=records[-1].received_at - begins_at,
            now_ms=last_at * 1000,
            away=False,
            calls=monitor.active_calls(),
            events=len(events),
            waiting=0,
        ),
    )
    for record in events:
        for effect in monitor.handle(record):
            if isinstance(effect, PublishMessage):
                data = json.loads(effect.body)["data"]
                screen.show_message(effect.type, data, record.received_at - begins_at)
    console.print(screen.render())
    fonts = re.compile(r"@font-face \{.*?\}", re.DOTALL)
    return fonts.sub("", console.export_svg(title="make demo", unique_id="demo"))


def generate() -> dict[Path, str]:
    """Every file with a generated part, as it has to be."""
    call_states, operating = DOCS / "call-states.md", DOCS / "operating.md"
    return {
        DOCS / "call-states.svg": states("svg"),
        DOCS / "demo.svg": demo_picture(),
        call_states: filled(call_states.read_text(), "call-states", states("md")),
        operating: filled(operating.read_text(), "settings", settings_table()),
    }


def main() -> int:
    """Write what differs."""
    for path, text in generate().items():
        path.write_text(text)
        sys.stdout.write(f"{path.relative_to(DOCS.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
