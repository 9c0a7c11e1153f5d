"""`arimonitor replay`: the messages that captured events lead to, exactly as the daemon would have published them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol

import click
from attrs import define, field

from arimonitor_core.directory import Directory
from arimonitor_core.effects import Diagnostic, PublishMessage
from arimonitor_core.inputs import Input
from arimonitor_core.monitor import Monitor
from arimonitor_runner.log_files import STANDARD_INPUT, read_records

PROGRESS_BYTES_MIN = 8 * 1024 * 1024
"""Shorter logs are done before a progress bar could be read."""
PROGRESS_EVERY = 2_000
"""Records between two looks at the position."""

EXIT_DAMAGED = 1
EXIT_UNUSABLE = 2


class MessageSink(Protocol):
    """Takes the messages of a replay, in order."""

    def take(self, body: bytes) -> None:
        """One message's body."""

    def finish(self) -> bool:
        """No more messages; False where the replay shall count as failed."""


class NdjsonSink:
    """Writes one message a line, byte for byte as published."""

    def __init__(self) -> None:
        self._write = sys.stdout.buffer.write

    def take(self, body: bytes) -> None:
        """Write one line."""
        self._write(body + b"\n")

    def finish(self) -> bool:
        """Flush, so that a reader who is gone is noticed here."""
        sys.stdout.buffer.flush()
        return True


@define
class Faults:
    """Reports what is wrong with the logs on standard error, and remembers that something was."""

    count: int = field(default=0, init=False)

    def report(self, name: str, line: int, text: str) -> None:
        """Say it as `file:line: what`."""
        self.count += 1
        click.echo(f"{name}:{line}: {text}", err=True)


@click.command("replay")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True)
)
@click.option(
    "--directory",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder with the client, endpoint and RabbitMQ server files; without it every number is unknown.",
)
@click.option("--server", default="voip1", show_default=True, help="Name of the PBX; guids are made from it.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["ndjson", "table"]),
    default="ndjson",
    show_default=True,
    help="One message a line as published, or a table of the calls.",
)
@click.option(
    "--expect",
    type=click.Path(exists=True, dir_okay=False, readable=True),
    help="Print no messages; compare them with these, written by an earlier replay.",
)
@click.option("--explain", metavar="GUID", help="Tell, event by event, what became of this call and why.")
@click.option("--strict", is_flag=True, help="Show the core's warnings, and fail if there are any.")
def replay_command(
    *,
    files: tuple[str, ...],
    folder: Path | None,
    server: str,
    output_format: str,
    expect: str | None,
    explain: str | None,
    strict: bool,
) -> None:
    """Replay capture logs or journals (plain, gzip or Zstandard; - is standard input), in the order given.

    Exit status: 0; 1 where lines were damaged, messages differ from those expected, or --strict found warnings;
    2 where nothing could be replayed.
    """
    if files.count(STANDARD_INPUT) > 1:
        raise click.UsageError("standard input can be read only once.")
    directory = load_directory_or_exit(folder)
    faults = Faults()
    monitor = Monitor(server=server, directory=directory)
    with followed_records(files, faults) as records:
        if explain is not None:
            told = import_module("arimonitor_runner.commands.explain").explain_call(monitor, records, explain)
            sys.exit(0 if told and not faults.count else EXIT_DAMAGED)
        sink = make_sink(output_format, expect)
        warnings = feed(monitor, records, sink.take, show_warnings=strict)
    is_fine = sink.finish()
    if not is_fine or faults.count or (strict and warnings):
        sys.exit(EXIT_DAMAGED)


def feed(
    monitor: Monitor, records: Iterator[Input], take: Callable[[bytes], None], *, show_warnings: bool = False
) -> int:
    """Give the records to the core and its messages to `take`; returns how many warnings and errors there were."""
    warnings = 0
    for record in records:
        for effect in monitor.handle(record):
            if isinstance(effect, PublishMessage):
                take(effect.body)
            elif isinstance(effect, Diagnostic) and effect.severity in {"warning", "error"}:
                warnings += 1
                if show_warnings:
                    text = " ".join(filter(None, (effect.reason, effect.detail, effect.call_id)))
                    click.echo(f"{record.received_at:.6f}: {effect.severity}: {text}", err=True)
    return warnings


def make_sink(output_format: str, expect: str | None) -> MessageSink:
    """The sink that the options ask for; the rarer ones are imported only then."""
    if expect is not None:
        sink: MessageSink = import_module("arimonitor_runner.commands.expectation").ExpectationSink(expect)
    elif output_format == "table":
        sink = import_module("arimonitor_runner.commands.call_table").TableSink()
    else:
        sink = NdjsonSink()
    return sink


def load_directory_or_exit(folder: Path | None) -> Directory:
    """Read a directory from text, its problems going to standard error; exits where it cannot be used at all."""
    if folder is None:
        return Directory.of()
    text = import_module("arimonitor_runner.directory_sources.text")
    loaded = text.load_directory(folder, os.environ)
    for problem in loaded.problems:
        if problem.severity != "note":
            click.echo(problem, err=True)
    if not loaded.is_usable:
        click.echo(f"{folder}: no directory: neither its clients nor its endpoints can be read", err=True)
        sys.exit(EXIT_UNUSABLE)
    directory: Directory = loaded.directory
    return directory


@contextmanager
def followed_records(files: tuple[str, ...], faults: Faults) -> Iterator[Iterator[Input]]:
    """Open the logs one after another; where it will take a while and somebody watches, show how far it got."""
    total = sum(os.path.getsize(name) for name in files if name != STANDARD_INPUT)
    if STANDARD_INPUT in files or total < PROGRESS_BYTES_MIN or not sys.stderr.isatty():
        yield read_records(files, faults.report)
        return
    progress = import_module("arimonitor_runner.commands.progress").LogProgress(total)
    with progress:
        yield follow(read_records(files, faults.report, progress.opened), progress.moved)


def follow(records: Iterator[Input], moved: Callable[[], None]) -> Iterator[Input]:
    """Pass records on, calling `moved` every now and then."""
    for count, record in enumerate(records):
        if count % PROGRESS_EVERY == 0:
            moved()
        yield record
