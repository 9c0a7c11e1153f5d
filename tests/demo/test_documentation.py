"""The documentation is true where a machine can tell: generated parts, examples, links."""

from __future__ import annotations

import gzip
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import pytest
import typed_settings as ts

from arimonitor_core import ari_events
from arimonitor_core.call_states import STATES
from arimonitor_runner.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
sys.path.insert(0, str(ROOT / "tools"))

import make_docs  # noqa: E402  # a script, not a package


@pytest.mark.parametrize("path", make_docs.generate(), ids=lambda path: path.name)
def test_generated_parts_are_what_the_code_says(path: Path) -> None:
    """Call states and settings stand in one place only: the code."""
    assert path.read_text() == make_docs.generate()[path], "run .venv/bin/python tools/make_docs.py"


def test_the_page_of_states_explains_every_state() -> None:
    """In words, beside the generated table."""
    prose = (ROOT / "docs" / "call-states.md").read_text().split("<!-- generated")[0]
    for state in STATES:
        assert re.search(rf"^\|.*\b{state}\b.*\|.*\|.*\|$", prose, re.MULTILINE), state


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """To a file of this repository, and to a heading where it names one."""
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        headings = {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in _headings(path)}
        assert not anchor or anchor in headings, target


def _headings(path: Path) -> list[str]:
    return re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE) if path.suffix == ".md" else []


def test_the_readme_s_library_example_runs(tmp_path: Path) -> None:
    """As it stands, on a capture."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    capture = ROOT / "fixtures" / "captures" / "asterisk-22-lean" / "answered_caller_hangs_up.ndjson.gz"
    (tmp_path / "capture.ndjson").write_bytes(gzip.decompress(capture.read_bytes()))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [line.split()[:2] for line in done.stdout.splitlines() if "received-call" in line]
    assert told == [["vila-madalena", f"received-call.{status}"] for status in ("open", "oncall", "closed")]


@pytest.mark.parametrize("page", ["README.md", "README.pt-BR.md", "docs/operating.md"])
def test_every_configuration_shown_is_accepted(page: str, tmp_path: Path) -> None:
    """By the daemon's own loader; a misspelt key would be refused."""
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        path = tmp_path / "arimonitor.toml"
        path.write_text(block)
        loaded = ts.load(Settings, "arimonitor", [path])
        shown = tomllib.loads(block)["arimonitor"]
        assert loaded.server == shown["server"]
        for section, values in shown.items():
            if isinstance(values, dict):
                told = {name: getattr(getattr(loaded, section), name) for name in values}
                assert {name: str(value) for name, value in told.items()} == {n: str(v) for n, v in values.items()}


def test_every_ari_event_that_is_read_or_skipped_is_documented() -> None:
    """docs/ari-events.md lists them all."""
    page = (ROOT / "docs" / "ari-events.md").read_text()
    read = [kind.__name__ for kind in ari_events._READ]
    for name in [*read, *ari_events.SKIPPED_TYPES, *attrs.fields(Settings).ari.default.factory().events]:
        assert re.search(rf"\b{name}\b", page), name


def test_the_page_of_the_architecture_names_every_module() -> None:
    """A module that it does not name is one whose place nobody explained."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    modules = [p for name in ("arimonitor_core", "arimonitor_runner") for p in (ROOT / name).iterdir()]
    names = {p.stem for p in modules if (p.suffix == ".py" or (p / "__init__.py").exists()) and p.name[0] != "_"}
    assert {name for name in names if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("page", ["README.pt-BR.md", "docs/operating.md"])
def test_every_alarm_that_is_explained_is_one_that_the_code_can_give(page: str) -> None:
    """Word for word, so that an operator finds it."""
    code = "".join(path.read_text() for name in ("runner", "core") for path in ROOT.glob(f"arimonitor_{name}/**/*.py"))
    table = (ROOT / page).read_text().split("| in the log |" if page.startswith("docs") else "| no log |")[1]
    alarms = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(alarms) > 8
    assert [alarm for alarm in alarms if alarm not in code] == []


def test_the_readme_begins_with_the_two_commands_and_they_exist() -> None:
    """A reader finds them before anything that needs knowledge."""
    for page in ("README.md", "README.pt-BR.md"):
        assert "\nmake demo\n" in (ROOT / page).read_text().split("## ")[1]
    assert "\nmake test\n" in (ROOT / "README.md").read_text()
    for command in ("make -n demo", "make -n test", "make -n bench", "make -n lint", "make -n unit"):
        subprocess.run(shlex.split(command), cwd=ROOT, check=True, capture_output=True)
