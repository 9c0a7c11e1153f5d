"""Unix time in a simulated world: a fixed beginning and the virtual loop's seconds."""

from __future__ import annotations

from datetime import UTC, datetime

BEGINNING = 1_795_340_000
"""Unix seconds at which every world begins."""


def unix_ms(loop_time: float) -> int:
    """Milliseconds since the Unix epoch."""
    return BEGINNING * 1000 + round(loop_time * 1000)


def ari_time(at_ms: int) -> str:
    """An instant as ARI writes it."""
    whole = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}+0000"
