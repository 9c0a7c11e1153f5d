"""When the files of a stored recording go: after some days, or sooner where the disk fills up. Never before."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import structlog

from arimonitor_runner.recordings import RecordingError
from arimonitor_runner.recordings.ledger import Entry, Ledger
from arimonitor_runner.recordings.names import Spool
from arimonitor_runner.settings import RecordingsSettings

PAGE = 500
DAY_S = 86400.0

_log = structlog.get_logger()


def mp3_of(settings: RecordingsSettings, entry: Entry) -> Path:
    """Where the MP3 of a recording is made here."""
    return settings.work_folder / f"{entry.id}.mp3"


class Retention:
    """Removes WAVs and MP3s whose upload was verified, and what is known of them in the end."""

    def __init__(self, ledger: Ledger, settings: RecordingsSettings, spool: Spool, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._settings = settings
        self._spool = spool
        self._clock = clock

    async def tidy(self) -> None:
        """Remove what may go; forget what is long settled."""
        now = self._clock()
        keep_s = self._settings.keep_days * DAY_S
        removed = 0
        if keep_s >= 0:
            for entry in await self._ledger.kept(PAGE):
                is_old = now - entry.updated >= keep_s
                if not is_old and not await asyncio.to_thread(self._is_short_of_room, entry):
                    break
                if not await self._remove(entry):
                    break
                removed += 1
        if removed:
            _log.info("files of stored recordings removed", recordings=removed)
        await self._ledger.prune(now - self._settings.ledger_keep_days * DAY_S)

    def _is_short_of_room(self, entry: Entry) -> bool:
        try:
            folders = {self._spool.locate(entry.path).parent, self._settings.work_folder}
            return any(shutil.disk_usage(folder).free < self._settings.keep_free_bytes for folder in folders)
        except (OSError, RecordingError):
            return False

    async def _remove(self, entry: Entry) -> bool:
        """Remove the files of one; False: it did not work, and will not with the others."""
        try:
            await asyncio.to_thread(mp3_of(self._settings, entry).unlink, missing_ok=True)
            # The WAV may be another call's, too.
            if not await self._ledger.is_needed(entry):
                await asyncio.to_thread(self._remove_wav, entry)
        except OSError as error:
            _log.error("files of stored recordings cannot be removed", path=entry.path, reason=str(error))
            return False
        await self._ledger.removed(entry)
        return True

    def _remove_wav(self, entry: Entry) -> None:
        """Remove the WAV, unless there is another one in its place by now."""
        try:
            path = self._spool.locate(entry.path)
            if path.stat().st_size == entry.wav_bytes:
                path.unlink()
        except (FileNotFoundError, RecordingError):
            pass
