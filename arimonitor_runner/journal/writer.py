"""Records into segments, synchronously."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import zstandard
from attrs import define

from arimonitor_core.inputs import Input
from arimonitor_runner.journal import format as fmt
from arimonitor_runner.journal.files import FILE_OPERATIONS, FileOperations, set_aside
from arimonitor_runner.journal.segments import list_segments, segment_path
from arimonitor_runner.settings import JournalSettings

_FLUSH: Final = zstandard.COMPRESSOBJ_FLUSH_BLOCK


@define
class _OpenSegment:
    path: Path
    descriptor: int
    created_at: float
    size: int = 0
    """Bytes of records that were appended as a whole."""


class JournalWriter:
    """Appends records; an append that raised has appended nothing.

    A segment in which writing or syncing failed is cut back and not written to any more: after a failed sync nobody
    can tell what of it is on disk. The next append begins a new one. Files are made with their first records.
    """

    def __init__(
        self,
        folder: Path,
        settings: JournalSettings,
        first_position: int,
        *,
        files: FileOperations = FILE_OPERATIONS,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Say where to write; `open` does it with the folder made.

        Args:
            folder: of the segments.
            settings: sync policy, size and age of segments.
            first_position: of the first record that will be appended; greater than any ever given out.
            files: what is done with files.
            now: Unix seconds.
        """
        self._folder = folder
        self._settings = settings
        self._position = first_position - 1
        self._files = files
        self._now = now
        self._segment: _OpenSegment | None = None
        self._compressor = zstandard.ZstdCompressor(level=fmt.ZSTD_LEVEL)
        self._frame: zstandard.ZstdCompressionObj | None = None
        self._frame_bytes = 0
        self._is_synced = True

    @classmethod
    def open(
        cls,
        folder: Path,
        settings: JournalSettings,
        first_position: int,
        *,
        files: FileOperations = FILE_OPERATIONS,
        now: Callable[[], float] = time.time,
    ) -> JournalWriter:
        """Make the folder where there is none, and see that what it holds is on disk. Raises OSError."""
        files.make_folder(folder)
        if settings.sync != "never":
            # A daemon that was killed had not synced its last records. What comes now builds on them: a power cut must
            # not take them from the middle.
            for segment in list_segments(folder)[-1:]:
                files.sync_file(segment.path)
        return cls(folder, settings, first_position, files=files, now=now)

    @property
    def position(self) -> int:
        """Position of the last record appended."""
        return self._position

    @property
    def is_synced(self) -> bool:
        """Is everything that was appended forced to disk, as far as the policy asks for it?"""
        return self._is_synced

    def append(self, records: Sequence[Input]) -> int:
        """Append records, all or none; returns the position of the last.

        Raises:
            OSError: the disk is full or failing. Nothing was appended; try again.
            RecordError: an input has a time that no record can hold; nothing was appended.
        """
        if not records:
            return self._position
        if self._is_segment_full():
            self.end_segment()
        try:
            data = self._encode(records)
            segment = self._segment or self._begin_segment()
            if not segment.size:
                data = fmt.encode_segment_header(self._position + 1, segment.created_at) + data
            self._files.write(segment.descriptor, data)
            if self._settings.sync == "each":
                self._files.sync(segment.descriptor)
        except BaseException:
            self._abandon_segment()
            raise
        segment.size += len(data)
        self._position += len(records)
        self._is_synced = self._settings.sync != "interval"
        return self._position

    def sync(self) -> None:
        """Force what was appended to disk, unless the policy is never.

        Raises:
            OSError: some of what was appended since the last sync may not survive a power cut.
        """
        if self._segment is not None and not self._is_synced:
            try:
                self._files.sync(self._segment.descriptor)
            except OSError:
                self._abandon_segment()
                raise
        self._is_synced = True

    def end_segment(self) -> None:
        """Sync and close the segment; the next append begins another. Raises OSError, as `sync` does."""
        self.sync()
        segment, self._segment, self._frame = self._segment, None, None
        if segment is not None:
            self._files.close(segment.descriptor)

    def close(self) -> None:
        """Sync and close. Raises OSError, as `sync` does."""
        self.end_segment()

    def _is_segment_full(self) -> bool:
        segment = self._segment
        return segment is not None and (
            segment.size >= self._settings.segment_bytes_max
            or self._now() - segment.created_at >= self._settings.segment_age_max_s
        )

    def _begin_segment(self) -> _OpenSegment:
        path = segment_path(self._folder, self._position + 1)
        if path.exists():
            # No record of it could be read, else its positions would not be given out again.
            set_aside(path, self._files)
        self._segment = _OpenSegment(path, self._files.create(path), self._now())
        if self._settings.sync != "never":
            self._files.sync_folder(self._folder)
        return self._segment

    def _encode(self, records: Sequence[Input]) -> bytes:
        chunks = []
        position = self._position + 1
        for count, raw in fmt.encode_records(records):
            frame = self._frame
            begins_frame = frame is None or self._frame_bytes + len(raw) > fmt.FRAME_BYTES_MAX
            if frame is None or begins_frame:
                frame = self._frame = self._compressor.compressobj()
                self._frame_bytes = 0
            self._frame_bytes += len(raw)
            payload = frame.compress(raw) + frame.flush(_FLUSH)
            chunks.append(
                fmt.encode_chunk(
                    payload, begins_frame=begins_frame, raw_length=len(raw), count=count, first_position=position
                )
            )
            position += count
        return b"".join(chunks)

    def _abandon_segment(self) -> None:
        """Leave the segment as it was before what failed, as far as the disk allows, and close it.

        Where it does not, reading still ends where the next segment begins.
        """
        segment, self._segment, self._frame = self._segment, None, None
        was_synced, self._is_synced = self._is_synced, True
        if segment is None:
            return
        with suppress(OSError):
            self._files.truncate(segment.descriptor, segment.size)
        if not was_synced:
            # What earlier appends wrote is still owed its sync; this is the last chance.
            with suppress(OSError):
                self._files.sync(segment.descriptor)
        with suppress(OSError):
            self._files.close(segment.descriptor)
        if not segment.size:
            with suppress(OSError):
                self._files.remove(segment.path)
