"""A long time in the life of the daemon, as fast as it can live it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, linear_regression

from attrs import frozen

from arimonitor_runner.control import send_command
from arimonitor_runner.journal.segments import list_segments
from benchmarks.pump import Pump
from benchmarks.traffic import Expectation, Traffic, whole_calls
from benchmarks.watched import daemon_settings, watched_daemon
from tests.runner.rabbit import RabbitNode

CAPTURES = "asterisk-22-lean"
KEEP_BYTES = 2**20


@frozen
class Sample:
    """How large the daemon was when it had done so much."""

    calls: int
    """Ended since the start."""
    events: int
    resident_kb: int
    outbox_kb: float
    """The file alone; it has no message in it."""
    journal_kb: float
    first_position: int
    """The oldest event that the journal still holds."""


def live_long(
    pump: Pump, rabbit: RabbitNode, folder: Path, *, pieces: int, runs_per_piece: int, history_limit: int
) -> list[Sample]:
    """Send call after call through a real daemon; a sample after each piece, when all of it is confirmed.

    After each piece it writes a snapshot, as it does every few minutes, and drops what the journal need not keep.
    """
    captures = whole_calls(CAPTURES)
    traffics = [Traffic(captures, runs_per_piece, first_run=piece * runs_per_piece) for piece in range(pieces)]
    expected = Expectation()
    counts, calls, events = [expected.messages], [], [0]
    for traffic in traffics:
        events.append(events[-1] + expected.follow(traffic))
        counts.append(expected.messages)
        calls.append(expected.calls)
    settings = daemon_settings(pump, rabbit, folder) | {
        "policies.history_limit": str(history_limit),
        "journal.keep_bytes": str(KEEP_BYTES),
        "journal.segment_bytes_max": str(KEEP_BYTES // 4),
    }
    vhost, samples = settings["directory.default_vhost"], []
    with watched_daemon(settings, counts) as daemon, rabbit.channel(vhost) as channel:
        daemon.when_confirmed()
        for traffic, ended, sent in zip(traffics, calls, events[1:], strict=True):
            pump.prepare(traffic)
            pump.flood("arimonitor")
            daemon.when_confirmed()
            channel.queue_purge("arimonitor")
            asyncio.run(send_command(Path(settings["journal.folder"]), {"command": "snapshot"}))
            samples.append(_sample(daemon.pid, settings, ended, sent))
    return samples


def growth(samples: Sequence[Sample]) -> float:
    """By how much of itself memory grew over the last half, as a line through all of it has it."""
    last = samples[len(samples) // 2 :]
    slope, _ = linear_regression([sample.calls for sample in last], [sample.resident_kb for sample in last])
    return slope * (last[-1].calls - last[0].calls) / fmean(sample.resident_kb for sample in last)


def _sample(pid: int, settings: dict[str, str], calls: int, events: int) -> Sample:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    segments = list_segments(Path(settings["journal.folder"]))
    return Sample(
        calls=calls,
        events=events,
        resident_kb=int(status["VmRSS"].split()[0]),
        outbox_kb=Path(settings["outbox.path"]).stat().st_size / 1000,
        journal_kb=sum(segment.path.stat().st_size for segment in segments) / 1000,
        first_position=segments[0].first_position,
    )
