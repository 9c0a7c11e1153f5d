"""Which stored message may go out next. Pure: no socket, no time.

Of one ordering key at most one message is on its way; the next one follows its confirm. So whatever becomes of a
message (refused, returned, the connection breaks), nothing of its key can have overtaken it, and other keys go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from arimonitor_runner.sinks import StoredMessage


class Window:
    """The messages of one vhost that are in memory, and where each stands.

    A key with messages is in exactly one of three places: ready (its first message may be sent), in flight, or held
    (its first message failed and waits for another attempt). Blocked keys, behind a parked message, have none here.
    """

    def __init__(self, size: int) -> None:
        """Allow `size` messages in flight."""
        self._size = size
        self._by_key: dict[str, deque[StoredMessage]] = {}
        self._ready: deque[str] = deque()
        self._in_flight: set[str] = set()
        self._blocked: set[str] = set()
        self.held = 0
        """Messages in memory, whatever their place."""

    @property
    def in_flight(self) -> int:
        """Messages sent and not yet answered for."""
        return len(self._in_flight)

    @property
    def idle(self) -> bool:
        """Is there nothing to send and nothing on its way? (Failed messages that wait do not count.)"""
        return not self._ready and not self._in_flight

    @property
    def is_blocked(self) -> bool:
        """Does anything stand behind a parked message?"""
        return bool(self._blocked)

    def add(self, message: StoredMessage) -> None:
        """Take a message, later in order than all before; one of a blocked key stays in the store alone."""
        key = message.ordering_key
        if key in self._blocked:
            return
        self.held += 1
        queue = self._by_key.get(key)
        if queue is not None:
            queue.append(message)
            return
        self._by_key[key] = deque((message,))
        self._ready.append(key)

    def take(self) -> StoredMessage | None:
        """Give the next message to send and count it as in flight; None where none may go now."""
        if not self._ready or len(self._in_flight) >= self._size:
            return None
        key = self._ready.popleft()
        self._in_flight.add(key)
        return self._by_key[key][0]

    def confirm(self, message: StoredMessage) -> None:
        """The broker has it: the next of its key may go."""
        key = message.ordering_key
        self._in_flight.remove(key)
        queue = self._by_key[key]
        queue.popleft()
        self.held -= 1
        if queue:
            self._ready.append(key)
        else:
            del self._by_key[key]

    def hold(self, message: StoredMessage) -> None:
        """The broker refused it: its key waits for `release`."""
        self._in_flight.remove(message.ordering_key)

    def release(self, message: StoredMessage) -> None:
        """A held message may be tried again."""
        key = message.ordering_key
        if key in self._by_key and key not in self._in_flight and key not in self._ready:
            self._ready.appendleft(key)

    def park(self, message: StoredMessage) -> None:
        """It was put aside: what stands behind it leaves memory, and its key is blocked."""
        key = message.ordering_key
        self._in_flight.remove(key)
        self._blocked.add(key)
        self.held -= len(self._by_key.pop(key))

    def restart(self, blocked: Iterable[str]) -> None:
        """Forget everything, to begin anew with what the store holds; these keys stand behind parked messages."""
        self._by_key.clear()
        self._ready.clear()
        self._in_flight.clear()
        self._blocked = set(blocked)
        self.held = 0
