"""An hour of a busy Asterisk, in as little time as the daemon needs for it: what grows?"""

from __future__ import annotations

from pathlib import Path

from benchmarks.conftest import Report
from benchmarks.endurance import Sample, growth, live_long
from benchmarks.pump import Pump
from tests.runner.rabbit import RabbitNode

PIECES = 120
RUNS_PER_PIECE = 90
"""Some 300 calls. What comes at once waits in memory: larger pieces would show how much that was, and nothing else."""
HISTORY_LIMIT = 10_000


def test_memory_after_an_hour(report: Report, pump: Pump, rabbit: RabbitNode, tmp_path: Path) -> None:
    """36,000 calls of all kinds, 10 a second for an hour: growth over the last half, when the history is long full."""
    samples: list[Sample] = []

    def live() -> None:
        samples.extend(
            live_long(pump, rabbit, tmp_path, pieces=PIECES, runs_per_piece=RUNS_PER_PIECE, history_limit=HISTORY_LIMIT)
        )

    report.benchmark.pedantic(live, rounds=1)
    report.benchmark.extra_info["samples"] = [[one.calls, one.resident_kb, one.outbox_kb] for one in samples]
    first, last = samples[0], samples[-1]
    floor, subject = (f"{one.resident_kb / 1000:.1f} MB, {one.calls:,} calls" for one in (first, last))
    report.add(
        "endurance", "memory, over the last half of an hour", growth(samples) * 100, floor=floor, subject=subject
    )
