"""`arimonitor journal`: look at the journal, write it as a capture log, remove what nobody needs."""

from __future__ import annotations

import math
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import dropwhile, takewhile
from pathlib import Path

import click
from attrs import define

from arimonitor_core.errors import RecordError
from arimonitor_core.inputs import Input
from arimonitor_core.records import encode_record
from arimonitor_core.snapshot import restore_snapshot
from arimonitor_runner.commands.orders import folder_option
from arimonitor_runner.journal import (
    JournalProblem,
    Segment,
    list_removable,
    list_segments,
    list_snapshots,
    prune,
    read_batches,
    read_journal,
    read_snapshot,
)
from arimonitor_runner.log_files import open_log
from arimonitor_runner.settings import JournalSettings

EXIT_PROBLEMS = 1

GROWING_WAIT_S = 1.0
"""An end that looks unfinished may be an append under way: it is looked at again for so long."""
_LOOK_EVERY_S = 0.02


@define
class _Faults:
    """Says what is wrong on standard error, and remembers that something was."""

    count: int = 0

    def report(self, problem: object) -> None:
        """Say it."""
        self.count += 1
        click.echo(problem, err=True)


@define
class _Summary:
    """What one segment holds."""

    segment: Segment
    records: int = 0
    first_position: int = 0
    last_position: int = 0
    first_at: float = 0.0
    last_at: float = 0.0

    def add(self, first_position: int, records: Sequence[Input]) -> None:
        """Take a batch."""
        if not self.records:
            self.first_position, self.first_at = first_position, records[0].received_at
        self.records += len(records)
        self.last_position, self.last_at = first_position + len(records) - 1, records[-1].received_at

    def line(self) -> str:
        """For the table."""
        size = self.segment.path.stat().st_size
        if not self.records:
            return f"{self.segment.path.name}  {0:>10}  {'':>23}  {'':>20}  {'':>20}  {size:>13,}"
        positions = f"{self.first_position}-{self.last_position}"
        return (
            f"{self.segment.path.name}  {self.records:>10,}  {positions:>23}  {_time(self.first_at):>20}  "
            f"{_time(self.last_at):>20}  {size:>13,}  {size / self.records:>9.1f}"
        )


_HEADING = (
    f"{'segment':<28}  {'records':>10}  {'positions':>23}  {'from':>20}  {'to':>20}  {'bytes':>13}  {'a record':>9}"
)


@click.group("journal")
def journal_command() -> None:
    """Look at the daemon's journal, and use it. All of this may be done while the daemon runs."""


@journal_command.command("verify")
@folder_option
def verify_command(folder: Path) -> None:
    """Read everything, segments and snapshots, and say what each holds and what is wrong.

    Exit status: 0; 1 where something is wrong.
    """
    faults = _Faults()
    try:
        _verify_segments(folder, faults)
        _verify_snapshots(folder, faults)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(EXIT_PROBLEMS if faults.count else 0)


@journal_command.command("export")
@folder_option
@click.option("--after", type=click.IntRange(min=0), default=0, help="Begin after this position.")
@click.option("--until", type=click.IntRange(min=1), help="End with this position.")
@click.option(
    "--since",
    metavar="TIME",
    callback=lambda _context, _parameter, text: _parse_time(text),
    help="Begin at this time: Unix seconds, or 2026-05-01T14:30 (local, unless it says otherwise).",
)
@click.option(
    "-o",
    "--output",
    default="-",
    show_default=True,
    help="The log. NAME.zst and NAME.gz are compressed; an existing file is replaced; - is standard output.",
)
def export_command(folder: Path, after: int, until: int | None, since: float | None, output: str) -> None:
    """Write records as a capture log, which `arimonitor replay` takes.

    Exit status: 0; 1 where some could not be read.
    """
    faults = _Faults()
    records = read_journal(folder, after=after, on_problem=_unless_growing(folder, faults.report))
    if until is not None:
        records = takewhile(lambda found: found[0] <= until, records)
    if since is not None:
        records = dropwhile(lambda found: found[1].received_at < since, records)
    try:
        with open_log(output, append=False) as log:
            for line in _lines(records, faults):
                log.write(line)
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror or error}") from error
    sys.exit(EXIT_PROBLEMS if faults.count else 0)


@journal_command.command("prune")
@folder_option
@click.option("--keep-s", type=float, default=JournalSettings().keep_s, show_default=True, help="As journal.keep_s.")
@click.option(
    "--keep-bytes", type=int, default=JournalSettings().keep_bytes, show_default=True, help="As journal.keep_bytes."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def prune_command(folder: Path, keep_s: float, keep_bytes: int, dry_run: bool) -> None:
    """Remove old segments that no snapshot needs, as the daemon does after each snapshot."""
    remove = list_removable if dry_run else prune
    try:
        oldest = next((snapshot.position for snapshot in list_snapshots(folder)), None)
        removed = remove(folder, keep_after=oldest, keep_s=keep_s, keep_bytes=keep_bytes, now=time.time())
    except OSError as error:
        raise click.ClickException(str(error)) from error
    if oldest is None:
        click.echo(f"{folder}: no snapshot: a restart would need every segment")
    for one in removed:
        click.echo(f"{one.segment.path.name}  {one.size:>13,} bytes  {one.reason}")
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{len(removed)} segments, {sum(one.size for one in removed):,} bytes {verb}")


def _verify_segments(folder: Path, faults: _Faults) -> None:
    segments = list_segments(folder)
    if not segments:
        click.echo(f"{folder}: no journal")
        return
    click.echo(_HEADING)
    summaries = [_Summary(segment) for segment in segments]
    begins = [segment.first_position for segment in segments]
    shown = 0
    for first, records in read_batches(folder, on_problem=_unless_growing(folder, faults.report)):
        index = bisect_right(begins, first) - 1
        for summary in summaries[shown:index]:
            click.echo(summary.line())
        shown = index
        summaries[index].add(first, records)
    for summary in summaries[shown:]:
        click.echo(summary.line())


def _verify_snapshots(folder: Path, faults: _Faults) -> None:
    for snapshot in list_snapshots(folder):
        size = snapshot.path.stat().st_size
        try:
            restore_snapshot(read_snapshot(snapshot))
        except Exception as error:  # as a restart would set it aside, whatever the reason
            faults.report(f"{snapshot.path}: {error}")
        click.echo(f"{snapshot.path.name}  position {snapshot.position:,}, {size:,} bytes")


def _unless_growing(folder: Path, report: Callable[[JournalProblem], None]) -> Callable[[JournalProblem], None]:
    """Report problems, but not the end of a segment that the daemon is writing to just now."""

    def check(problem: JournalProblem) -> None:
        if problem.kind == "torn" and problem.path == list_segments(folder)[-1].path and _grows(problem):
            return
        report(problem)

    return check


def _grows(problem: JournalProblem) -> bool:
    give_up_at = time.monotonic() + GROWING_WAIT_S
    while time.monotonic() < give_up_at:
        if problem.path.stat().st_size > problem.offset + problem.length:
            return True
        time.sleep(_LOOK_EVERY_S)
    return False


def _lines(records: Iterator[tuple[int, Input]], faults: _Faults) -> Iterator[bytes]:
    for position, record in records:
        try:
            line = encode_record(record)
        except RecordError as error:
            faults.report(f"position {position}: {error}")
        else:
            yield line


def _parse_time(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            seconds = math.nan
    if not math.isfinite(seconds):
        raise click.BadParameter(f"{text!r} is neither Unix seconds nor a time like 2026-05-01T14:30")
    return seconds


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        return f"{seconds!r} s"
