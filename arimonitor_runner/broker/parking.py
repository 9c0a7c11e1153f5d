"""When messages that no queue took are tried again. Pure: it is told the time.

One message is tried first; when it arrives, the cause is gone and all others of the vhost follow. Where it comes back
the next attempt waits twice as long.
"""

from __future__ import annotations

from math import inf

PAUSE_MAX_S = 3600.0


class Parking:
    """The attempts of one vhost. Times are those of one monotonic clock, in seconds."""

    def __init__(self, pause_s: float, *, is_hasty: bool) -> None:
        """The first attempt comes after `pause_s`; at once where it is hasty, which is good where we can mend it."""
        self._first_pause_s = 0.0 if is_hasty else pause_s
        self._second_pause_s = pause_s
        self._pause_s = self._first_pause_s
        self._tried: int | None = None
        self.due_at = inf
        """When the next attempt is due."""
        self.limit: int | None = 1
        """How many messages it is about; None: all."""

    def ask(self, now: float, *, limit: int | None) -> None:
        """Make an attempt due: something changed, or an operator wants it."""
        self.due_at = now
        if self.limit is not None:  # all that is due already are not made one
            self.limit = limit
        self._pause_s = self._first_pause_s

    def begin(self, seqs: list[int]) -> None:
        """The attempt that was due is made with these messages."""
        self._tried = seqs[0] if self.limit == 1 and seqs else None
        self.due_at = inf
        self.limit = 1

    def note_parked(self, seq: int, now: float) -> bool:
        """A message was put aside. Was it the one that was tried?"""
        was_tried = seq == self._tried
        if was_tried:
            self._tried = None
            self._pause_s = min(max(2 * self._pause_s, self._second_pause_s), PAUSE_MAX_S)
        self.due_at = min(self.due_at, now + self._pause_s)
        return was_tried

    def note_delivered(self, seq: int, now: float) -> bool:
        """A message arrived. Was it the one that was tried, so that all others are due now?"""
        if seq != self._tried:
            return False
        self._tried = None
        self.ask(now, limit=None)
        return True
