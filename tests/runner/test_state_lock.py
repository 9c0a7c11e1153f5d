"""The lock on a state folder: one owner, who is known, and whose death frees it."""

import asyncio
import os
import subprocess
import sys

from arimonitor_runner.state_lock import LOCK_NAME, Owner, StateLock

OWNER = Owner(pid=7, application="arimonitor", url="http://127.0.0.1:8088")


def test_one_daemon_owns_a_folder(tmp_path):
    """The second one is told who; after the release it is free."""
    first, second = StateLock(tmp_path / "new"), StateLock(tmp_path / "new")
    assert first.acquire(OWNER)
    assert not second.acquire(Owner(pid=8))
    assert second.read_owner() == OWNER
    first.release()
    assert second.acquire(Owner(pid=8))
    assert first.read_owner() == Owner(pid=8)
    second.release()
    second.release()


def test_a_killed_owner_owns_nothing(tmp_path, run):
    """Who waits has the lock when the owner's process is gone, whatever it left in the file."""
    script = (
        "import sys; from pathlib import Path; from arimonitor_runner.state_lock import *\n"
        "print(StateLock(Path(sys.argv[1])).acquire(Owner(pid=1, application='x' * 500)), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        lock = StateLock(tmp_path)

        async def scenario():
            waiting = asyncio.create_task(lock.wait(OWNER))
            await asyncio.sleep(0)
            assert not waiting.done()
            process.kill()
            await waiting

        run(scenario())
    assert lock.read_owner() == OWNER
    lock.release()


def test_an_owner_who_does_not_say_who_he_is(tmp_path):
    """An empty or foreign file: nobody by name."""
    assert StateLock(tmp_path).read_owner() == Owner()
    (tmp_path / LOCK_NAME).write_bytes(b"\xff[")
    assert StateLock(tmp_path).read_owner() == Owner()


def test_the_file_is_its_owners_alone(tmp_path):
    """Nobody else may hold a daemon off."""
    lock = StateLock(tmp_path / "new")
    lock.acquire(OWNER)
    assert (tmp_path / "new" / LOCK_NAME).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert os.get_inheritable(lock._file) is False
    lock.release()


def test_a_successor_learns_whether_it_was_known(tmp_path):
    """The owner says where it left off only when it leaves to somebody; who dies says nothing."""
    first, second, third = (StateLock(tmp_path) for _ in range(3))
    assert first.acquire(OWNER)
    assert first.predecessor == Owner()
    first.release(left_at=41, left_to="b")
    assert second.acquire(Owner(pid=8, name="b"))
    assert (second.predecessor.pid, second.predecessor.left_at, second.predecessor.left_to) == (7, 41, "b")
    second.release()
    assert third.acquire(Owner(pid=9))
    assert (third.predecessor.pid, third.predecessor.left_at, third.predecessor.left_to) == (8, 0, "")
    third.release()
