"""A daemon on a full disk says so and waits; asked to stop it does, and with room it goes on."""

import errno
import os

import pytest

from tests.runner.daemons import expected, of_calls, shown
from tests.runner.full_disk import run_in_full_disk
from tests.runner.full_disk_daemons import CAPTURE, GOES_ON, WAITS


@pytest.mark.parametrize("kind", ["tmpfs", "rlimit"])
def test_a_start_waits_for_room(tmp_path, directory, rabbit, vhost, kind):
    """One alarm with the reason, a clean end at SIGTERM; with room it comes up by itself and delivers all of a call."""
    folder = tmp_path / "state"
    folder.mkdir()
    kind, told = run_in_full_disk("tests.runner.full_disk_daemons", kind, str(folder), str(directory), "start")
    reason = os.strerror(errno.ENOSPC) if kind == "tmpfs" else "disk I/O error"
    for story in told["stories"].values():
        assert story["status"] == 0, story
        (alarm,) = [line for line in story["log"] if line.get("level") not in ("info", "warning")]
        assert (alarm["level"], alarm["event"]) == ("error", WAITS)
        assert reason in alarm["reason"]
        assert str(folder) in alarm["reason"]
        assert story["log"][-1]["event"] == "stopped"
    says = {name: [line["event"] for line in story["log"]] for name, story in told["stories"].items()}
    assert says["nothing there"] == says["an earlier state"] == ["starting", WAITS, "stopped"]
    assert says["room"].index(GOES_ON) < says["room"].index("state recovered") < says["room"].index("ARI connection up")
    # Nobody listens while the state is not there: what would be heard then could not be written down.
    assert told["handshakes"] == [0, 1]
    wanted = expected(CAPTURE, vhost)
    assert of_calls(shown(rabbit.consume(vhost, len(wanted)))) == of_calls(wanted)
    assert rabbit.depth(vhost) == 0


@pytest.mark.parametrize("kind", ["tmpfs", "rlimit"])
def test_a_run_whose_disk_stays_full_ends_when_it_is_asked_to(tmp_path, directory, rabbit, vhost, kind):
    """Also where only the outbox has no room: it is said what is given up, and that is no crash."""
    folder = tmp_path / "state"
    folder.mkdir()
    kind, told = run_in_full_disk("tests.runner.full_disk_daemons", kind, str(folder), str(directory), "run")
    alarms = [line["event"].partition(":")[0] for line in told["log"] if line.get("level") not in ("info", "warning")]
    assert (told["status"], alarms[-1]) == (0, "the disk takes nothing")
    assert set(alarms) <= {"the outbox cannot be written", "the journal cannot be written", "the disk takes nothing"}
    assert told["log"][-1]["event"] == "stopped"
    assert rabbit.depth(vhost) == 0
