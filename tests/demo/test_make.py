"""The make targets' scripts: what they say, what they refuse, and that the lock files are whole."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "requirements" / "run.txt", ROOT / "requirements" / "dev.txt"]


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts alone, where they can write without harm."""
    for folder in ("tools", "requirements"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def fake(folder: Path, name: str, script: str) -> str:
    """Put a command of that name before all others; returns the PATH."""
    commands = folder / "fake"
    commands.mkdir(exist_ok=True)
    (commands / name).write_text(f"#!/bin/sh\n{script}\n")
    (commands / name).chmod(0o755)
    return f"{commands}:{os.environ['PATH']}"


def test_make_alone_lists_every_public_target(checkout: Path) -> None:
    """Each with a line of help."""
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (help .*)$", makefile, re.MULTILINE)
    assert targets is not None
    listed = run("make", cwd=checkout).stdout
    for target in targets[1].split():
        assert re.search(rf"^  make {target}\s+\S", listed, re.MULTILINE), target


def test_a_python_that_is_too_old_is_refused_with_what_to_do(checkout: Path) -> None:
    """The message names what was found and how to name another."""
    path = fake(checkout, "oldpython", '[ "$1" = --version ] && echo "Python 3.9.2"; exit 1')
    done = run("tools/venv.sh", "run", cwd=checkout, PATH=path, PYTHON="oldpython")
    assert done.returncode == 1
    assert "needs Python 3.11 or newer. Found: oldpython (Python 3.9.2)" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (checkout / ".venv").exists()


def test_an_installation_that_fails_shows_why_and_leaves_no_stamp(checkout: Path) -> None:
    """The next run tries again."""
    (checkout / "requirements" / "run.txt").write_text("this is not a requirement\n")
    done = run("tools/venv.sh", "run", cwd=checkout, PYTHON=sys.executable)
    assert done.returncode == 1
    assert "Invalid requirement" in done.stderr
    assert "install.log" in done.stderr
    assert not (checkout / ".venv" / ".installed-run").exists()


def test_without_root_the_one_command_to_run_is_said(checkout: Path) -> None:
    """Nothing is installed, and the way without root is named too."""
    (checkout / "tools" / "test-packages.txt").write_text("# comment\nsomething    no-such-command\n")
    done = run("tools/packages.sh", cwd=checkout, PATH=fake(checkout, "id", "echo 1000"))
    assert done.returncode == 1
    assert "something" in done.stderr
    assert "    sudo make test\n" in done.stderr
    assert "make unit" in done.stderr


def test_as_root_only_what_is_missing_is_installed_and_nothing_is_started(checkout: Path) -> None:
    """Debian's policy file forbids it to start services while it installs, and is gone afterwards."""
    (checkout / "tools" / "test-packages.txt").write_text("here    sh\nmissing    no-such-command\n")
    policy = checkout / "policy-rc.d"
    fake(checkout, "id", "echo 0")
    path = fake(checkout, "apt-get", f'echo "$@" >>{checkout}/apt; [ -x {policy} ] && echo guarded >>{checkout}/apt')
    done = run("tools/packages.sh", cwd=checkout, PATH=path, POLICY_RC_D=str(policy))
    assert done.returncode == 0, done.stderr
    assert (checkout / "apt").read_text().splitlines() == [
        "update",
        "guarded",
        "install -y --no-install-recommends missing",
        "guarded",
    ]
    assert not policy.exists()


def test_a_failing_installation_of_packages_is_shown(checkout: Path) -> None:
    """With apt-get's own words."""
    (checkout / "tools" / "test-packages.txt").write_text("missing    no-such-command\n")
    fake(checkout, "id", "echo 0")
    path = fake(checkout, "apt-get", 'echo "E: Unable to locate package missing"; exit 100')
    done = run("tools/packages.sh", cwd=checkout, PATH=path, POLICY_RC_D=str(checkout / "policy"))
    assert done.returncode == 1
    assert "Unable to locate package missing" in done.stderr


@pytest.mark.parametrize(("options", "expected"), [([], 0), (["-p", "tools.no_skips"], 1)])
def test_a_skipped_test_fails_the_run_where_the_plugin_is_loaded(
    checkout: Path, options: list[str], expected: int
) -> None:
    """And it is named."""
    body = "import pytest\ndef test_not_now():\n    pytest.importorskip('no_such_module')\ndef test_good():\n    pass\n"
    (checkout / "test_it.py").write_text(body)
    done = run(sys.executable, "-m", "pytest", "-q", *options, "test_it.py", cwd=checkout)
    assert done.returncode == expected, done.stdout
    assert ("does not allow: test_it.py::test_not_now" in done.stdout) == bool(expected)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_requirement_is_pinned_and_hashed_and_names_no_place(lock: Path) -> None:
    """Pip takes nothing that is not exactly this, wherever it gets it from."""
    text = lock.read_text()
    entries = re.split(r"\n(?=[a-z])", text.strip())
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==[^ ]+ (; [^\\]+)?\\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n?)+", entry), entry
    assert "://" not in text
    assert "file:" not in text


def test_the_locks_hold_all_that_the_project_asks_for() -> None:
    """A new dependency without `make lock` is noticed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    name = re.compile(r"[A-Za-z0-9-]+")
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["runner"]]
    wanted += project["build-system"]["requires"]
    for lock, needed in zip(LOCKS, (wanted, wanted + project["dependency-groups"]["dev"]), strict=True):
        locked = set(re.findall(r"^([a-z0-9-]+)==", lock.read_text(), re.MULTILINE))
        asked = {match[0].lower() for text in needed if (match := name.match(text))}
        assert asked <= locked, f"run `make lock`: {asked - locked}"


def test_both_locks_agree() -> None:
    """The tests run with what the daemon runs with."""
    run_lock, dev_lock = (dict(re.findall(r"^([a-z0-9-]+)==(\S+)", p.read_text(), re.MULTILINE)) for p in LOCKS)
    assert run_lock.items() <= dev_lock.items()


def test_continuous_integration_runs_everything_and_allows_no_skip() -> None:
    """`.ci/run` is executable and sets CI."""
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test" in script
    assert "CI=true" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
