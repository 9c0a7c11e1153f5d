"""`arimonitor recordings` on a real ledger: what it shows, what it changes, and that the daemon takes it up."""

import json

import pytest
from click.testing import CliRunner

from arimonitor_runner.cli import main
from tests.runner.orders_heard import run_with_and_without_daemon
from tests.runner.recording_desk import Clock
from tests.runner.test_recordings_ledger import due, ended, opened


@pytest.fixture
def filled(outbox_path, message, run):
    """One recording on its way, one lost, one stored."""
    clock = Clock()

    async def fill():
        async with opened(outbox_path, clock) as (outbox, ledger):
            await outbox.append([*ended(message), *ended(message, "b"), *ended(message, "c")])
            one, two, three = await due(ledger, clock)
            await ledger.update(one, step="converted", attempts=3, next_try_at=clock.now + 100, error="no answer")
            await ledger.settle("b:closed", entry=two, changes={"step": "given-up", "error": "empty"})
            await ledger.settle("c:closed", entry=three, changes={"step": "verified"})

    run(fill())
    return outbox_path


def recordings(*arguments, path):
    return CliRunner().invoke(main, ["recordings", arguments[0], "--path", str(path), *arguments[1:]])


def listed(*arguments, path):
    """What the list says, by guid."""
    result = recordings("list", "--format", "ndjson", *arguments, path=path)
    return {entry["guid"]: entry for entry in map(json.loads, result.stdout.splitlines())}


def test_the_list_says_what_is_not_stored_and_why(filled):
    """As a table and as JSON; all of them, or those of one step, on request."""
    result = recordings("list", path=filled)
    assert result.exit_code == 0
    assert "no answer" in next(line for line in result.stdout.splitlines() if "a.mp3" in line)
    assert {guid: entry["step"] for guid, entry in listed(path=filled).items()} == {"a": "converted", "b": "given-up"}
    assert list(listed("--all", path=filled)) == ["a", "b", "c"]
    assert list(listed("--step", "published", path=filled)) == ["c"]


@pytest.mark.parametrize("what", ["2", "b", "/spool/b.wav", "b.mp3"])
def test_one_is_shown_in_full(filled, what):
    """By its id, guid, path or name."""
    result = recordings("show", what, path=filled)
    assert "empty" in next(line for line in result.stdout.splitlines() if line.startswith("error"))
    assert result.stdout.count("guid ") == 1


def test_a_call_shows_all_its_recordings(filled):
    """By callnumber, which they all have here; what is not there is said."""
    assert recordings("show", "1", path=filled).stdout.count("step ") == 3
    assert recordings("show", "x", path=filled).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "concerned"), [([], ["a"]), (["--lost"], ["a", "b"]), (["--id", "2"], ["b"]), (["--id", "3"], [])]
)
def test_a_retry_makes_them_due_now(filled, arguments, concerned):
    """Lost ones from the beginning, if they are meant; stored ones never."""
    result = recordings("retry", *arguments, path=filled)
    assert (result.exit_code, result.stdout.split()[0]) == (0 if concerned else 1, str(len(concerned)))
    after = listed("--all", path=filled)
    steps = {"a": "converted", "b": "found" if "b" in concerned else "given-up", "c": "published"}
    assert {guid: entry["step"] for guid, entry in after.items()} == steps
    assert [guid for guid in "ab" if guid in concerned] == [
        guid for guid in "ab" if after[guid]["next_try_at"] == 0 and not after[guid]["is_told"]
    ]


def test_a_running_daemon_hears_of_it(filled, tmp_path, run):
    """Over its control socket; without a daemon it is done all the same."""
    results, heard = run(
        run_with_and_without_daemon(tmp_path, filled, "retry-recordings", "recordings", "retry"),
    )
    assert [result.exit_code for result in results] == [0, 0], results[0].output
    assert heard == [{"command": "retry-recordings"}]


def test_what_is_no_outbox_is_refused(tmp_path):
    """Nothing is made in its place."""
    result = recordings("list", path=tmp_path / "none.db")
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "none.db" in result.stderr
