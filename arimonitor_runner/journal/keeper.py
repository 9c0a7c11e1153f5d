"""Keeping snapshots, and of the journal what they need and the operator wants."""

from __future__ import annotations

import asyncio
import time

from arimonitor_runner.journal.segments import prune
from arimonitor_runner.journal.snapshots import SnapshotStore
from arimonitor_runner.settings import JournalSettings


class SnapshotKeeper:
    """Writes snapshots of one folder, and removes what nobody needs any more."""

    def __init__(self, settings: JournalSettings) -> None:
        self._settings = settings
        self._store = SnapshotStore(settings.folder, kept=settings.snapshots_kept)

    async def keep(self, position: int, document: bytes) -> None:
        """Write the state that belongs to a position, in a thread. Raises OSError."""
        await asyncio.to_thread(self._keep, position, document)

    def _keep(self, position: int, document: bytes) -> None:
        self._store.write(position, document)
        prune(
            self._settings.folder,
            keep_after=self._store.oldest_position(),
            keep_s=self._settings.keep_s,
            keep_bytes=self._settings.keep_bytes,
            now=time.time(),
        )
