"""Where events wait while Asterisk is being read, so that the core gets the picture before what happened since."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_runner.input_queue import InputQueue


class EventGate:
    """Between the task that reads a websocket and the queue. Closed at first; what comes then waits in memory."""

    def __init__(self, queue: InputQueue, waiting_max: int) -> None:
        """Let at most `waiting_max` events wait."""
        self._queue = queue
        self._waiting_max = waiting_max
        self._waiting: deque[AriEventReceived] = deque()
        self.put: Callable[[AriEventReceived], bool] = self._keep
        """Take one event; False where memory is full, and the event was not taken."""

    @property
    def waiting(self) -> Sequence[AriEventReceived]:
        """What waits, oldest first."""
        return self._waiting

    def close(self) -> None:
        """Let events wait from here on."""
        self.put = self._keep

    def open(self, *first: Input) -> None:
        """Feed these, then what waits, then whatever comes. Does not await: no event can slip in between."""
        for item in (*first, *self._waiting):
            self._queue.put_anyway(item)
        self._waiting.clear()
        self.put = self._queue.put

    def _keep(self, event: AriEventReceived) -> bool:
        if len(self._waiting) >= self._waiting_max:
            return False
        self._waiting.append(event)
        return True
