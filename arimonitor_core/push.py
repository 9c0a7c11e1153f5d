"""Wake the app of an offline endpoint that a call waits for.

Where the endpoint's state is known it is decided at once. Where it is not (a fresh start, a replay), an endpoint that
nothing rings for a moment counts as offline: that is a deadline, in the log's own time.
"""

from __future__ import annotations

from collections import deque

from arimonitor_core.call import Call, Waiting
from arimonitor_core.call_states import ANNOUNCED
from arimonitor_core.calls import CallBook
from arimonitor_core.endpoints import EndpointBook


class PushDesk:
    """Decides who is woken."""

    def __init__(self, book: CallBook, endpoints: EndpointBook) -> None:
        self._book = book
        self._endpoints = endpoints
        self.waiting: deque[Waiting] = deque()
        """In order of time: every call waits equally long."""

    def consider(self, call: Call, endpoint: str, received_at: float, at_ms: int) -> None:
        """A call is on its way to an endpoint."""
        if self._book.directory.type_of(endpoint) not in self._book.policies.push_types:
            return
        online = self._endpoints.is_online(endpoint)
        if online is False:
            self._push(call, endpoint, at_ms)
        elif online is None and call.state == ANNOUNCED:
            wait_s = self._book.policies.push_wait_s
            self.waiting.append(Waiting(received_at + wait_s, at_ms + round(wait_s * 1000), call.key))

    def next_due(self) -> float:
        """When the first decision is due; infinity: none waits."""
        return self.waiting[0].due if self.waiting else float("inf")

    def on_time(self, now: float) -> None:
        """Time went on: who has not been rung by now is offline."""
        while self.waiting and self.waiting[0].due <= now:
            waiting = self.waiting.popleft()
            call = self._book.calls.get(waiting.key)
            if call is not None and call.state == ANNOUNCED:
                self._push(call, call.dialed, waiting.at_ms)

    def _push(self, call: Call, endpoint: str, at_ms: int) -> None:
        if endpoint not in call.pushed:
            call.pushed = (*call.pushed, endpoint)
            self._book.number(call)
            self._book.publish(self._book.writer.push(call, endpoint, at_ms))
