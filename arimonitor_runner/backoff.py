"""How long to wait before the next attempt."""

from __future__ import annotations

import random


class Backoff:
    """Exponential back-off with full jitter: any time between nothing and a ceiling that doubles with every failure.

    Full jitter, so that the connections of one machine, or of many, do not come back in step.
    """

    def __init__(self, *, first_s: float, cap_s: float) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self.failures = 0

    def next_delay_s(self) -> float:
        """Count one failure and give the seconds to wait after it."""
        # The exponent is bounded: 2.0 ** failures overflows after a thousand.
        ceiling_s = min(self._cap_s, self._first_s * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return random.uniform(0, ceiling_s)  # noqa: S311  # jitter, not a secret

    def reset(self) -> None:
        """Forget the failures: things work again."""
        self.failures = 0
