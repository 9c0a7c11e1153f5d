"""`arimonitor-run --demo` from end to end: what people see, what is left for them to read, and how it ends."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest
import structlog

from arimonitor_runner.demo import command
from arimonitor_runner.demo.story import FOLDER, compare, load_story

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "arimonitor_runner.daemon", "--demo", "--demo-speed")
FAST = "20"


def environment(folder: Path) -> dict[str, str]:
    """The surroundings of a user whose temporary files go to that folder, in a terminal of 80 columns."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COLUMNS", "LINES", "CI"))}
    return {**kept, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One whole run without a terminal, and the folder that it leaves."""
    temporary = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [*DEMO, FAST], cwd=ROOT, env=environment(temporary), capture_output=True, text=True, check=False, timeout=120
    )
    (folder,) = temporary.glob("arimonitor-demo-*")
    return done, folder


def test_the_demonstration_ends_well_and_says_so(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """All that truly happened came out, and nothing else."""
    done, _ = finished
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "parties, endings and keys of all 31 \ncalls are right" in done.stdout
    assert "Every message was confirmed; the outbox is empty." in done.stdout


def test_without_a_terminal_there_is_one_plain_line_a_message(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """No control characters; the states of the start are one line; the gap is told."""
    done, _ = finished
    assert "\x1b" not in done.stdout
    words = Counter(re.findall(r"^ +\d+\.\d s  (\S+)", done.stdout, re.MULTILINE))
    _, expected = load_story()
    statuses = Counter(status for call in expected.calls for status in call.statuses)
    assert {word: words[word] for word in statuses} == statuses
    assert (words["push"], words["connection"], words["endpoint-status"]) == (1, 2, 3)
    assert "at the start: 68 reachable, 1 unreachable" in done.stdout


def test_what_is_left_behind_can_be_read_and_replayed(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """The messages, the daemon's log, and Asterisk's events, from which a replay makes the same calls."""
    done, folder = finished
    bodies = (folder / "messages.ndjson").read_bytes().splitlines()
    _, expected = load_story()
    assert compare(bodies, expected) == []
    assert "ARI connection up" in (folder / "daemon.log").read_text()
    toolbox = (sys.executable, "-c", "from arimonitor_runner.cli import main; main()")
    replayed = subprocess.run(
        [*toolbox, "replay", str(folder / "asterisk.ndjson"), "--directory", str(FOLDER)],
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        check=True,
    ).stdout.splitlines()
    assert compare(replayed, expected) == []
    live, again = (Counter(guids(lines)) for lines in (bodies, replayed))
    assert live == again
    for path in re.findall(r"^ +less (\S+)$", done.stdout, re.MULTILINE):
        assert Path(path).exists()


def guids(bodies: Sequence[bytes]) -> list[str]:
    return [guid for body in bodies if (guid := json.loads(body)["data"].get("guid"))]


def test_every_line_fits_into_80_columns_but_for_what_is_to_be_copied(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """Commands, addresses of recordings and sentences that a terminal may wrap are the exceptions."""
    done, folder = finished
    copied = re.compile(r"http://|--directory|arimonitor-demo-|^ +\d+\.\d s  ")
    assert str(folder) in done.stdout
    assert [line for line in done.stdout.splitlines() if len(line) > 80 and not copied.search(line)] == []


def test_in_a_terminal_a_table_of_the_calls_lives(tmp_path: Path) -> None:
    """It shows states, timers, who answered and keys; after it comes what was special, and the cursor is back."""
    status, shown = run_in_terminal(tmp_path, "6")
    assert status == 0, shown
    table = re.findall(r"^ +\d+ +(\d+) > (\d+)(?: \(group\))? +(ringing|answered) +\d+ s", plain(shown), re.MULTILINE)
    assert {"ringing", "answered"} == {state for _, _, state in table}
    assert ("1121", "1122", "answered") in table
    assert "connection to Asterisk LOST" in plain(shown)
    assert "What was special\n" in plain(shown)
    assert re.search(r"closed .* at the end with 1123, blind transfer by 1122, keys ##1123", plain(shown))
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_an_interrupt_stops_it_cleanly(tmp_path: Path) -> None:
    """No traceback, the status that shells expect, and the cursor is back."""
    status, shown = run_in_terminal(tmp_path, "1", interrupt_at="answered")
    assert status == command.INTERRUPTED, shown
    assert "Traceback" not in shown
    assert plain(shown).endswith("Stopped before the end.\n")
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def run_in_terminal(folder: Path, speed: str, interrupt_at: str = "") -> tuple[int, str]:
    """Exit status and everything shown; interrupts it, as Ctrl-C does, when that text appears."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*DEMO, speed], cwd=ROOT, env=environment(folder), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        shown += read
        if interrupt_at and interrupt_at.encode() in shown:
            interrupt_at = ""
            process.send_signal(signal.SIGINT)
    os.close(ours)
    return process.wait(timeout=30), shown.decode()


def plain(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r", "")


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Its files go to the test's folder, and the logs are afterwards set up as they were."""
    monkeypatch.setattr(command.tempfile, "tempdir", str(tmp_path))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.mark.usefixtures("_in_this_process")
def test_a_story_that_does_not_come_out_as_expected_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing is named."""
    records, expected = load_story()
    first, *others = expected.calls
    other = type(expected)((type(first)("1121", "94", ("open", "unanswered"), "94", None), *others), 0, 2)
    monkeypatch.setattr(command, "load_story", lambda: (records, other))
    assert command.run_demo(speed=100) == 1
    shown = capsys.readouterr().out
    assert "NOT what Asterisk's own call records say" in shown
    assert "missing: 1121 > 94: open, unanswered; at the end 94" in shown
    assert "not expected: 1121 > 94: open, oncall, closed; at the end 94, keys '42#'" in shown
    assert "1 push messages, expected 2" in shown


@pytest.mark.usefixtures("_in_this_process")
def test_a_daemon_that_ends_by_itself_fails_the_demonstration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And its log is named."""
    make_settings = command._settings
    nowhere = command.DirectorySettings(folder=tmp_path / "nowhere")
    monkeypatch.setattr(command, "_settings", lambda *args: attrs.evolve(make_settings(*args), directory=nowhere))
    assert command.run_demo(speed=100) == 1
    shown = capsys.readouterr().out
    assert "The daemon ended too soon (misconfigured)" in shown
    assert "daemon.log" in shown
