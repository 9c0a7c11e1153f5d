"""Starting one's own successor: the same command with the program and the settings as they are on disk now.

It takes over from us as any second daemon on the same state folder does (`takeover`); all that is done here is to start
it, and to hear of it if it fails.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence

import structlog

_log = structlog.get_logger()


class Successor:
    """At most one at a time."""

    def __init__(self, command: Sequence[str] | None = None) -> None:
        """Take the command that this process was started with, where none is given."""
        self._command = tuple(command or (sys.executable, *sys.orig_argv[1:]))
        self._process: subprocess.Popen[bytes] | None = None
        self._watched = -1

    def pid(self) -> int:
        """Process id of the one that was started and lives, as far as is known; 0: there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it; it inherits the environment and the standard streams."""
        if self._process is not None:
            _log.warning("a successor is starting already", pid=self._process.pid)
            return
        try:
            # Not asyncio's subprocess: that one kills its process when this event loop ends.
            self._process = subprocess.Popen(self._command)  # noqa: S603  # our own command line
        except OSError as error:
            _log.error("the successor could not be started; going on", reason=str(error))
            return
        _log.info("handing over to a successor", successor=self._process.pid)
        self._watched = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._watched, self._on_end)

    def close(self) -> None:
        """Watch it no more; it lives on."""
        if self._process is None:
            return
        asyncio.get_running_loop().remove_reader(self._watched)
        os.close(self._watched)
        # It is not ours to wait for any more: who adopts it will.
        self._process.returncode = self._process.returncode or 0
        self._process = None

    def _on_end(self) -> None:
        assert self._process is not None  # noqa: S101  # it is being watched
        status = self._process.wait()
        _log.error("the successor ended before it took over; going on", status=status)
        self.close()
