"""Who owns a state folder: one daemon at a time, by a lock of the kernel's that dies with its process."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from arimonitor_runner.disk import naming

LOCK_NAME = "lock"
SUCCESSOR_LOCK_NAME = "successor.lock"
"""Held by who waits for the owner to leave: one at a time, else the second might go on where the first was to."""

_POLL_S = 0.02
"""The kernel tells nobody when a lock becomes free; asking costs a microsecond."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon that holds a lock, as it says itself."""

    pid: int = 0
    application: str = ""
    """Its ARI application."""
    url: str = ""
    """Its Asterisk."""
    name: str = ""
    """Tells it from all that were before it and will be after it."""
    left_at: int = 0
    """Journal position at which it left the folder to a successor that heard all after it; 0: it did not."""
    left_to: str = ""
    """Name of that successor."""


class StateLock:
    """The lock on one folder, or another one in it."""

    def __init__(self, folder: Path, name: str = LOCK_NAME) -> None:
        self._path = folder / name
        self._file: int | None = None
        self._owner = Owner()
        self.predecessor = Owner()
        """Who held it last before we did."""

    def acquire(self, owner: Owner) -> bool:
        """Take it and say who has it now; False where another process holds it. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        predecessor = self.read_owner()
        try:
            with naming(self._path):
                self._write(file, owner)
        except OSError:  # who cannot be seen to own it does not
            os.close(file)
            raise
        self.predecessor, self._owner, self._file = predecessor, owner, file
        return True

    async def wait(self, owner: Owner) -> None:
        """Take it as soon as it is free."""
        while not self.acquire(owner):  # noqa: ASYNC110  # another process frees it
            await asyncio.sleep(_POLL_S)

    def read_owner(self) -> Owner:
        """Who holds it; an owner without a process id where the file does not say."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Owner)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return Owner()

    def release(self, *, left_at: int = 0, left_to: str = "") -> None:
        """Let it go; without effect where it is not held. The file stays: its name may be locked by the next one."""
        if self._file is None:
            return
        if left_at:
            # Where a full disk does not take it, the successor takes the pause for a gap, which is harmless.
            with suppress(OSError):
                self._write(self._file, msgspec.structs.replace(self._owner, left_at=left_at, left_to=left_to))
        os.close(self._file)
        self._file = None

    def _write(self, file: int, owner: Owner) -> None:
        text = msgspec.json.encode(owner)
        os.pwrite(file, text, 0)
        os.ftruncate(file, len(text))
