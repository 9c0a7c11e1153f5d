"""The lock file that keeps a second daemon from starting."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from arimonitor_runner.disk import naming


class AlreadyRunning(Exception):  # noqa: N818  # named as a fact, like its text
    """Another process holds the lock; the text names the file and the process."""


@contextmanager
def pid_lock(path: str) -> Iterator[None]:
    """Hold the lock and show our process id in it; an empty path holds none. Raises AlreadyRunning, OSError.

    The lock is the kernel's and dies with the process: a file left behind by a crash is in nobody's way.
    """
    if not path:
        yield
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    file = _lock(path)
    with file:
        text = f"{os.getpid()}\n".encode()
        with naming(path):  # past the file's buffer, which would be written once more where it is closed
            os.pwrite(file.fileno(), text, 0)
            os.ftruncate(file.fileno(), len(text))
        try:
            yield
        finally:
            os.unlink(path)


def _lock(path: str) -> TextIO:
    while True:
        file = open(path, "a+", encoding="ascii")  # noqa: SIM115  # closed by the caller
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise AlreadyRunning(f"{path}: held by process {holder}") from None
        try:
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        # Its owner removed it between our open and our lock: the lock is on a file that nobody else will ever see.
        file.close()
