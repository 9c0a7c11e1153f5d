#!/usr/bin/env python3
"""Write the generated parts of docs/: the call states, from their declaration, and the settings, from their classes.

    .venv/bin/python tools/make_docs.py

A generated part stands between two comments, `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import attrs
from click.testing import CliRunner

from arimonitor_runner.cli import main as toolbox
from arimonitor_runner.settings import Settings

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


def generate() -> dict[Path, str]:
    """Every file with a generated part, as it has to be."""
    call_states, operating = DOCS / "call-states.md", DOCS / "operating.md"
    return {
        DOCS / "call-states.svg": states("svg"),
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
