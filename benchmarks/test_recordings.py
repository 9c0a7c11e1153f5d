"""Recordings: how much of LAME's own speed is left with everything around it, and does the event loop stay free?"""

from __future__ import annotations

import asyncio
import random
import shutil
import struct
import subprocess
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from statistics import quantiles
from time import perf_counter

from benchmarks.conftest import Report
from benchmarks.pairs import Pair
from tests.runner.audio_servers import FtpServer
from tests.runner.recording_desk import Clock, Station, fleet

RECORDINGS = 500
AT_ONCE = 50
"""Calls that end together; so many are one piece of the comparison."""
SECONDS = 60
WORKERS = 2
SAMPLE_S = 0.005
"""Often enough to see how late the loop is, and seldom enough not to be what it does."""


def test_recordings_from_wav_to_link(report: Report, tmp_path: Path) -> None:
    """Ledger, look, LAME, upload, verification, message; the floor is LAME alone, as many at a time."""
    ftp = FtpServer(tmp_path / "audio")
    ftp.start()
    wav = _write_speech(tmp_path / "speech.wav")
    station = Station(tmp_path, fleet(ftp.server()), Clock(), workers=WORKERS, keep_days=-1.0)
    delays: list[float] = []
    numbers = count()

    with asyncio.Runner() as runner:

        def subject(names: list[str]) -> None:
            runner.run(_store(station, names, delays))

        def pairs() -> Iterator[Pair]:
            for _ in range(RECORDINGS // AT_ONCE):
                names = [f"call{next(numbers)}" for _ in range(AT_ONCE)]
                for name in names:
                    shutil.copy(wav, station.spool / f"{name}.wav")
                yield Pair(floor=partial(_convert, station.spool, names), subject=partial(subject, names))

        runner.run(_open(station))
        try:
            report.compare("recordings", f"{RECORDINGS} of {SECONDS} s", pairs, count=RECORDINGS, repeats=1)
        finally:
            runner.run(_close(station))
            ftp.kill()
    # `compare` counts the pairs first, and nothing is done with those.
    assert len(ftp.names()) == RECORDINGS
    report.add("recordings loop", "event loop late meanwhile, 99 in 100", quantiles(delays, n=100)[98] * 1000)


async def _open(station: Station) -> None:
    await station.open()
    station.start()


async def _close(station: Station) -> None:
    await station.stop()
    await station.outbox.close()


async def _store(station: Station, names: list[str], delays: list[float]) -> None:
    """Let calls end, and look again and again whether all were told of, and how late the event loop is each time."""
    wanted = len(station.messages) + len(names)
    for name in names:
        await station.end(name)
    while len(station.messages) < wanted:
        begin = perf_counter()
        await asyncio.sleep(SAMPLE_S)
        delays.append(perf_counter() - begin - SAMPLE_S)


def _convert(spool: Path, names: list[str]) -> None:
    """LAME alone, with what the daemon asks of it; as nice, or a busy neighbour would slow down the daemon's only."""

    def convert(name: str) -> None:
        options = ["--quiet", "-m", "m", "--cbr", "-b", "24", "--noreplaygain"]
        subprocess.run(["nice", "-n", "10", "lame", *options, spool / f"{name}.wav", spool / f"{name}.mp3"], check=True)
        (spool / f"{name}.mp3").unlink()

    with ThreadPoolExecutor(WORKERS) as workers:
        list(workers.map(convert, names))


def _write_speech(path: Path) -> Path:
    """Noise that swells and fades as syllables do, of 8 kHz; the same in every run."""
    chance = random.Random(8017)
    value, samples = 0.0, []
    for number in range(SECONDS * 8000):
        value = 0.9 * value + chance.uniform(-1, 1)
        loudness = max(0.0, 1 - abs((number % 2000) / 1000 - 1)) if number // 16_000 % 3 else 0.01
        samples.append(int(4000 * value * loudness))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return path
