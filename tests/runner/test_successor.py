"""A daemon's successor: started once, outliving its starter, heard of when it fails."""

import asyncio
import os
import signal
import sys
from contextlib import closing

import structlog

from arimonitor_runner.successor import Successor
from tests.runner.waiting import until

PATIENT = (sys.executable, "-c", "import signal; signal.pause()")


def test_one_successor_at_a_time_and_it_lives_on(run):
    """A second order starts none while the first lives; closing leaves it alone."""

    async def scenario():
        with closing(Successor(PATIENT)) as successor:
            successor.start()
            process = successor._process
            successor.start()
            assert successor._process is process
        return process.pid

    with structlog.testing.capture_logs() as logs:
        pid = run(scenario())
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)
    assert [line["event"] for line in logs] == ["handing over to a successor", "a successor is starting already"]


def test_a_successor_that_fails_is_told_of(run):
    """With its exit status; another one can be started then."""

    async def scenario():
        with closing(Successor((sys.executable, "-c", "raise SystemExit(2)"))) as successor:
            for count in (1, 2):
                successor.start()
                await until(lambda wanted=count: sum("ended before" in line["event"] for line in logs) == wanted)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert [line["status"] for line in logs if "ended before" in line["event"]] == [2, 2]


def test_a_program_that_is_gone_is_told_of(run):
    """An upgrade removed it: the old process goes on."""

    async def scenario():
        with closing(Successor(("/nowhere/python",))) as successor:
            successor.start()
            await asyncio.sleep(0)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert "could not be started" in logs[0]["event"]


def test_the_command_is_our_own(run):
    """The interpreter and what it was given."""
    assert Successor()._command == (sys.executable, *sys.orig_argv[1:])
