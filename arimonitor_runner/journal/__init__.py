"""Every input of the core on disk, and snapshots of its state. One folder holds both.

Each input has a *position*: 1, 2, 3 ... for the lifetime of the folder. What can be had here:

* `Journal`: asyncio, one thread of its own. `await open(first_position=)`, `await append(records) -> position of the
  last`, `position`, `await close()`. While the disk refuses, `append` waits and `on_trouble(text)` is told, once;
  `on_trouble(None)` when it is mended. `JournalError` where it was closed before.
* `JournalWriter`: the same without a thread: `open(folder, settings, first_position)`, `append`, `sync`, `close`. It
  raises OSError, and has then appended nothing.
* `read_journal(folder, after=, on_problem=)`: records with their positions; `read_batches`: many at a time. They never
  raise: `on_problem` gets a `JournalProblem` with file, offset, reason and the positions lost.
* `find_end(folder) -> JournalEnd`: last position, its time, and whether a successor took over there.
* `prune`, `list_removable`: the segments that nobody needs any more.
* `SnapshotStore(folder, kept=)`: `write(position, document)`, `load_newest(restore)`, `oldest_position()`;
  `list_snapshots`, `read_snapshot`: for looking only.

All file operations of writing go through a `FileOperations`.
"""

from __future__ import annotations

from arimonitor_runner.journal.files import FileOperations
from arimonitor_runner.journal.reader import JournalEnd, JournalProblem, find_end, read_batches, read_journal
from arimonitor_runner.journal.segments import Removable, Segment, list_removable, list_segments, prune
from arimonitor_runner.journal.snapshots import SnapshotStore, list_snapshots, read_snapshot
from arimonitor_runner.journal.threaded import Journal, JournalError
from arimonitor_runner.journal.writer import JournalWriter

__all__ = [
    "FileOperations",
    "Journal",
    "JournalEnd",
    "JournalError",
    "JournalProblem",
    "JournalWriter",
    "Removable",
    "Segment",
    "SnapshotStore",
    "find_end",
    "list_removable",
    "list_segments",
    "list_snapshots",
    "prune",
    "read_batches",
    "read_journal",
    "read_snapshot",
]
