"""The core may be compiled (setup.py): the same tests run with both, so a run must know which one it has."""

from __future__ import annotations

import ast
import importlib
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
(COMPILED,) = (
    ast.literal_eval(node.value)
    for node in ast.parse((ROOT / "setup.py").read_text()).body
    if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["COMPILED"]
)


@pytest.mark.parametrize("name", COMPILED)
def test_this_run_has_the_core_that_it_was_asked_to_test(name: str) -> None:
    """What tools/compiled.sh asks for must not be shadowed by the sources in the working directory."""
    path = Path(importlib.import_module(f"arimonitor_core.{name}").__file__ or "")
    assert (path.suffix != ".py") == (os.environ.get("ARIMONITOR_CORE") == "compiled")


@pytest.mark.parametrize("name", COMPILED)
def test_no_compiled_module_declares_what_is_decoded(name: str) -> None:
    """Structs, attrs classes and named tuples are read by their annotations, of which mypyc leaves little."""
    tree = ast.parse((ROOT / "arimonitor_core" / f"{name}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            assert not node.bases
            assert not node.decorator_list
