"""`${NAME}` in the files of a directory: what comes from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")


def find_missing(template: str, environ: Mapping[str, str]) -> str:
    """The placeholders that the environment has no value for, as text; empty: none."""
    return ", ".join(f"${{{name}}}" for name in sorted(set(_PLACEHOLDER.findall(template)) - environ.keys()))


def fill_in(template: str, environ: Mapping[str, str]) -> str:
    """Put the environment's values in; users and passwords of a URL so that no character of theirs ends them early."""
    userinfo_end = template.rfind("@")

    def value(placeholder: re.Match[str]) -> str:
        text = environ[placeholder[1]]
        return quote(text, safe="") if placeholder.start() < userinfo_end else text

    return _PLACEHOLDER.sub(value, template)
