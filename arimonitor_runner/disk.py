"""A disk that takes nothing for a while, because it is full or fails: which errors say so, and waiting for its end.

While the daemon runs, the threads of the journal and of the outbox wait by themselves, with these pauses. What has to
be written before that, to have the state at all, waits here.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import structlog

from arimonitor_runner.outbox_file import is_passing
from arimonitor_runner.systemd import notify_still_starting

RETRY_FIRST_S: Final = 0.5
"""Wait before what the disk refused is tried again; it doubles each time."""
RETRY_MAX_S: Final = 5.0

_TROUBLES: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})

_P = ParamSpec("_P")
_T = TypeVar("_T")

_log = structlog.get_logger()


def may_pass(error: BaseException) -> bool:
    """Is it the disk's trouble, which may be over at the next attempt? A path that is wrong or forbidden is not."""
    cause = error.__cause__ or error  # errors of the journal and of the outbox stand for another one
    return is_passing(cause) or (isinstance(cause, OSError) and cause.errno in _TROUBLES)


class Disk:
    """Whether the disk takes what a daemon writes; all that write tell it here, and it tells the operator."""

    def __init__(self) -> None:
        self.refuses = asyncio.Event()
        """Set while it takes nothing."""
        self._waiting: set[str] = set()

    def note(self, alarm: str, all_clear: str, trouble: str | None) -> None:
        """Say that something cannot be written, and why, or (None) that it can again; each where it is news."""
        if (trouble is not None) == (alarm in self._waiting):
            return
        if trouble is not None:
            self._waiting.add(alarm)
            _log.error(alarm, reason=trouble)
        else:
            self._waiting.remove(alarm)
            _log.info(all_clear)
        if self._waiting:
            self.refuses.set()
        else:
            self.refuses.clear()

    async def until_taken(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Do a part of the start, as often as it takes until the disk has room for it; raises every other error."""
        tell = partial(
            self.note,
            "the state on disk cannot be written: the start waits",
            "the state on disk can be written again",
        )
        pause_s = RETRY_FIRST_S
        while True:
            try:
                result = await attempt()
            except Exception as error:
                if not may_pass(error):
                    raise
                tell(str(error))
            else:
                tell(None)
                return result
            notify_still_starting()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_MAX_S)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Have an error of the system say which file it is about, where it was about a descriptor."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


async def at_once(work: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
    """Do what needs no waiting, as an attempt of `Disk.until_taken`."""
    return work(*arguments, **options)
