"""P7 and P9: the whole daemon, from Asterisk's websocket to RabbitMQ's confirm, as it runs in production.

Pump, daemon and RabbitMQ are processes of their own. The daemon writes its journal (synced once a second), commits each
batch of messages (SQLite, FULL) and publishes to a quorum queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import quantiles

import pytest

from benchmarks.conftest import Report
from benchmarks.pump import Pump
from benchmarks.traffic import ANSWERED_CALLS, ANSWERED_CALLS_FILTERED, Expectation, Traffic, whole_calls
from benchmarks.watched import bare_reader, daemon_settings, watched_daemon
from tests.runner.rabbit import RabbitNode

ROUNDS = 7
STEADY_EVENTS_PER_S = 1000
FULL_TRAFFIC, FILTERED_TRAFFIC = "asterisk-22", "asterisk-22-lean"


@pytest.mark.parametrize(
    ("case", "traffic", "decides"),
    [
        pytest.param("answered calls", Traffic(ANSWERED_CALLS, 2_400), True, id="full"),
        pytest.param("calls of all captures", Traffic(whole_calls(FULL_TRAFFIC), 600), False, id="mixed"),
        pytest.param("answered calls, filtered", Traffic(ANSWERED_CALLS_FILTERED, 6_000), False, id="filtered"),
        pytest.param(
            "calls of all captures, filtered", Traffic(whole_calls(FILTERED_TRAFFIC), 1_500), False, id="mixed-filtered"
        ),
    ],
)
def test_daemon_beside_a_bare_reader(
    report: Report, pump: Pump, rabbit: RabbitNode, tmp_path: Path, case: str, traffic: Traffic, decides: bool
) -> None:
    """Events a second from the first one sent to the last message confirmed; the reader's to the last frame read.

    Of all rounds the fastest of each counts: a neighbour on the machine only ever takes time away.
    """
    expected = Expectation()
    before = expected.messages
    events = expected.follow(traffic)
    pump.prepare(traffic)
    floors, subjects, cpu = [], [], []

    def race() -> None:
        with bare_reader(pump.url, "bare", events) as reader:
            began_at = pump.flood("bare")
            floors.append(events / (reader.when_read() - began_at))
        settings = daemon_settings(pump, rabbit, tmp_path / str(len(floors)))
        with watched_daemon(settings, (before, expected.messages)) as daemon:
            daemon.when_confirmed()
            used_s = daemon.cpu_s()
            began_at = pump.flood("arimonitor")
            subjects.append(events / (daemon.when_confirmed() - began_at))
            cpu.append((daemon.cpu_s() - used_s) / events * 1e6)

    report.benchmark.pedantic(race, rounds=ROUNDS)
    report.benchmark.extra_info["rounds"] = {"floors": floors, "subjects": subjects, "cpu_us": cpu}
    report.add(
        "P7",
        case,
        max(subjects) / max(floors) * 100,
        floor=f"{max(floors):,.0f} events/s",
        subject=f"{max(subjects):,.0f} events/s, {min(cpu):.1f} us of cpu",
        decides=decides,
    )


def test_latency_of_steady_traffic(report: Report, pump: Pump, rabbit: RabbitNode, tmp_path: Path) -> None:
    """From the sending of an event to the confirm of the message that it led to; the reader's to reading the event.

    Of all rounds the fastest of each counts, as above.
    """
    traffic = Traffic(ANSWERED_CALLS, 120)
    expected = Expectation()
    before = expected.messages
    events = expected.follow(traffic)
    pump.prepare(traffic)
    floors: list[tuple[float, float]] = []
    subjects: list[tuple[float, float]] = []

    def run() -> None:
        with bare_reader(pump.url, "bare", events, follow_frames=True) as reader:
            sent = pump.send_steadily("bare", STEADY_EVENTS_PER_S)
            floors.append(_percentiles(read_at - at for at, read_at in zip(sent, reader.times_read(), strict=True)))
        settings = daemon_settings(pump, rabbit, tmp_path / str(len(floors)))
        with watched_daemon(settings, (before, expected.messages), follow_events=True) as daemon:
            daemon.when_confirmed()
            sent = pump.send_steadily("arimonitor", STEADY_EVENTS_PER_S)
            daemon.when_confirmed()
            daemon.stop()
            origins = daemon.origins()
        assert len(origins) == expected.messages - before
        subjects.append(_percentiles(confirmed_at - sent[event] for event, confirmed_at in origins))

    report.benchmark.pedantic(run, rounds=5)
    report.benchmark.extra_info["rounds"] = {"reader p50, p99 (ms)": floors, "daemon p50, p99 (ms)": subjects}
    for index, name in enumerate(("p50", "p99")):
        floor = f"{min(times[index] for times in floors):.2f} ms"
        case = f"{STEADY_EVENTS_PER_S} events/s, {name}"
        report.add(f"P9 {name}", case, min(times[index] for times in subjects), floor=floor)


def _percentiles(seconds: Iterable[float]) -> tuple[float, float]:
    """The 50th and the 99th, in milliseconds."""
    cuts = quantiles((one * 1000 for one in seconds), n=100)
    return cuts[49], cuts[98]
