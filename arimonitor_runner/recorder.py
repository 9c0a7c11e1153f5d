"""`arimonitor record`: what Asterisk says, written down as a capture log that can be replayed.

As harmless to the PBX as the daemon: the same connection, the same subscription, an application name of its own. Losses
of the connection are part of the log, as they are part of what a daemon lives through.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import click
import structlog
import typed_settings as ts
from attrs import define, evolve

from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_core.records import encode_record
from arimonitor_runner.ari import AriFeed
from arimonitor_runner.input_queue import InputQueue
from arimonitor_runner.log_files import LogWriter, open_log
from arimonitor_runner.logs import configure_logs
from arimonitor_runner.settings import ALL_EVENTS, AriSettings, LogSettings

FLUSH_S = 1.0
"""How long a record may stay in memory before it is in the file, readable by others."""

BATCH_MAX = 500

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_log = structlog.get_logger()


@define
class Recorded:
    """What came in."""

    records: int = 0
    events: int = 0


@click.command()
@click.option("--url", default=AriSettings().url, show_default=True, help="Asterisk's HTTP server.")
@click.option("--user", default=AriSettings().user, show_default=True, help="ARI user; it must not be read_only.")
@click.option(
    "--password",
    envvar="ARIMONITOR_ARI_PASSWORD",
    default="",
    help="Its password. Better in ARIMONITOR_ARI_PASSWORD: options can be seen by every user of the machine.",
)
@click.option(
    "--application",
    default="arimonitor-record",
    show_default=True,
    help="Stasis application name; with that of a running monitor it would take over from it.",
)
@click.option(
    "-o",
    "--output",
    default="-",
    show_default=True,
    help="The log. NAME.zst and NAME.gz are compressed; an existing file is continued; - is standard output.",
)
@click.option(
    "--full/--lean",
    "full",
    default=False,
    help="All event types of channels, bridges and endpoints, or only those that the monitor needs (the default).",
)
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Stop after so many seconds.")
def record_command(
    url: str, user: str, password: str, application: str, output: str, full: bool, duration: float | None
) -> None:
    """Record what ARI says into a capture log, until Ctrl-C, SIGTERM or the end of the duration.

    Exit status 0, or 3 where another process took over the application name.
    """
    configure_logs(LogSettings(), secrets=[password])
    settings = AriSettings(url=url, user=user, password=ts.SecretStr(password), application=application)
    if full:
        settings = evolve(settings, events=(ALL_EVENTS,))
    try:
        with open_log(output, append=True) as log:
            recorded, replaced = asyncio.run(record(settings, log, duration_s=duration))
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror or error}") from error
    _log.info("recorded", events=recorded.events, records=recorded.records, output=output)
    sys.exit(3 if replaced else 0)


async def record(settings: AriSettings, log: LogWriter, *, duration_s: float | None = None) -> tuple[Recorded, bool]:
    """Write what a feed gives until a signal comes, time is up, or a successor took over (True then)."""
    queue = InputQueue(settings.queue_max)
    stop, recorded = asyncio.Event(), Recorded()
    listening = asyncio.create_task(AriFeed(settings, queue).run(), name="ari")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    ended = asyncio.Event()
    writing = asyncio.create_task(_write(queue, log, recorded, ended), name="writer")
    with _stop_at(stop, duration_s):
        await asyncio.wait({listening, writing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    replaced = listening.done()
    listening.cancel()
    stopping.cancel()
    heard, _ = await asyncio.gather(listening, stopping, return_exceptions=True)
    ended.set()
    queue.wake()
    await writing
    if isinstance(heard, Exception):
        raise heard
    return recorded, replaced


@contextmanager
def _stop_at(stop: asyncio.Event, duration_s: float | None) -> Iterator[None]:
    """Set the event at SIGINT, SIGTERM, or when time is up."""
    loop = asyncio.get_running_loop()
    timer = loop.call_later(duration_s, stop.set) if duration_s is not None else None
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
        if timer is not None:
            timer.cancel()


async def _write(queue: InputQueue, log: LogWriter, recorded: Recorded, ended: asyncio.Event) -> None:
    """Write records as they come, until `ended` and none waits.

    In a thread: a slow disk or a full pipe must not keep Asterisk's socket from being read.
    """
    flush_at: float | None = None
    while True:
        if batch := queue.take(BATCH_MAX):
            await asyncio.to_thread(_write_batch, batch, log, recorded)
            flush_at = flush_at or time.monotonic() + FLUSH_S
        elif ended.is_set():
            break
        if flush_at is not None and time.monotonic() >= flush_at:
            await asyncio.to_thread(log.flush)
            flush_at = None
        if not batch:
            with suppress(TimeoutError):
                async with asyncio.timeout(None if flush_at is None else max(0.0, flush_at - time.monotonic())):
                    await queue.wait()
    await asyncio.to_thread(log.flush)


def _write_batch(batch: Sequence[Input], log: LogWriter, recorded: Recorded) -> None:
    for item in batch:
        log.write(encode_record(item))
        recorded.records += 1
        recorded.events += isinstance(item, AriEventReceived)
