"""The compiled core, for those who want it: with ARIMONITOR_COMPILE=1 mypyc makes C of the modules below.

The same sources, the same results, half of the time. Without it, and wherever there is no C compiler, the core is the
Python that it is written in.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from setuptools import setup

# What every event passes through. No module with structs or attrs classes: mypyc replaces the annotations that msgspec
# reads to decode them.
COMPILED = ("calls", "channels", "correlation", "endpoints", "messages", "monitor", "push", "transfers", "values")
MYPYC = "mypy>=2.0,<3"


def _compilation() -> dict[str, Any]:
    if os.environ.get("ARIMONITOR_COMPILE") != "1":
        return {}
    try:
        from mypyc.build import mypycify  # noqa: PLC0415  # needed for this alone
    except ModuleNotFoundError:
        # pip asks what a build needs, installs it, and comes again; mypyc reads the types of all that the core imports.
        project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
        return {"setup_requires": [MYPYC, *project["dependencies"]]}
    modules = [f"arimonitor_core/{name}.py" for name in COMPILED]
    return {"ext_modules": mypycify(modules, opt_level="3", group_name="arimonitor_core")}


setup(**_compilation())
