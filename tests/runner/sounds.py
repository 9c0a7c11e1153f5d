"""WAVs to test with, and what a decoder says of an MP3."""

from __future__ import annotations

import math
import struct
import subprocess
import wave
from pathlib import Path


def write_wav(path: Path, seconds: float = 1.0, *, rate_hz: int = 8000, tone_hz: int = 440) -> Path:
    """Write a tone, of whole Hertz, as Asterisk writes speech: 16 bits, mono."""
    path.parent.mkdir(parents=True, exist_ok=True)
    turn = 2 * math.pi * tone_hz / rate_hz
    samples = [int(9000 * math.sin(turn * number)) for number in range(rate_hz)]
    tone = struct.pack(f"<{rate_hz}h", *samples) * math.ceil(seconds)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(tone[: 2 * int(seconds * rate_hz)])
    return path


def set_sizes(path: Path, *, riff: int, data: int) -> Path:
    """Make the header of such a WAV say something else."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 4, riff)
    struct.pack_into("<I", content, 40, data)
    path.write_bytes(content)
    return path


def decoded_seconds(path: Path) -> float:
    """Decode an MP3 with mpg123, which is not of our making, and give its length. A fault in it fails the test."""
    done = subprocess.run(["mpg123", "-q", "-s", str(path)], capture_output=True, check=True)
    assert not done.stderr, done.stderr
    header = subprocess.run(["mpg123", "-q", "-n", "1", "-w", "-", str(path)], capture_output=True, check=True).stdout
    rate_hz = struct.unpack_from("<I", header, 24)[0]
    return len(done.stdout) / 2 / rate_hz
