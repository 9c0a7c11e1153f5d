"""The core reads no clock, no random source, no environment, no file and no socket: by its own source."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import arimonitor_core

SOURCES = sorted(Path(arimonitor_core.__file__).parent.glob("*.py"))
ALLOWED = frozenset({
    "__future__", "arimonitor_core", "attrs", "base64", "binascii", "collections", "datetime",
    "functools", "hashlib", "msgspec", "re", "statemachine", "types", "typing",
})  # fmt: skip
FORBIDDEN_CALLS = frozenset({"open", "print", "input", "exec", "eval", "__import__", "breakpoint", "id", "hash"})
FORBIDDEN_ATTRIBUTES = frozenset({"now", "utcnow", "today", "urandom", "getenv", "environ"})


def imported(tree: ast.Module) -> set[str]:
    """Top-level packages that a module imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_module_imports_only_what_is_pure(source: Path) -> None:
    """python-statemachine itself imports asyncio: the core's own source is what counts."""
    assert imported(ast.parse(source.read_text())) <= ALLOWED


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_module_asks_nobody_for_time_or_chance(source: Path) -> None:
    """No call reaches out of the inputs, and nothing depends on addresses or hash seeds."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"{source.name}:{node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in FORBIDDEN_ATTRIBUTES, f"{source.name}:{node.lineno}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_modules_and_functions_stay_small(source: Path) -> None:
    """At most 400 lines a module, 40 a function."""
    text = source.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or sys.maxsize) - node.lineno < 40, f"{source.name}: {node.name}"
