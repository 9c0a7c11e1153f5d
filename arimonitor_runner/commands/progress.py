"""How far a long replay got, on standard error."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from arimonitor_runner.log_files import LogFile


class LogProgress:
    """A bar over the bytes of several logs read one after another."""

    def __init__(self, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=total)
        self._log: LogFile | None = None
        self._before = 0

    def opened(self, log: LogFile) -> None:
        """Go on with the next log; the one before has been read to its end."""
        self._before += (self._log.size or 0) if self._log is not None else 0
        self._log = log
        self._progress.update(self._task, description=log.name, completed=self._before)

    def moved(self) -> None:
        """Look how far the log has been read."""
        if self._log is not None:
            self._progress.update(self._task, completed=self._before + self._log.position)

    def __enter__(self) -> LogProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
