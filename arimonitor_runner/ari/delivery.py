"""websockets' connections that hand over each message in the very turn of the event loop that read it.

`recv` wakes a task for what is there and costs it a coroutine for each message; under load that is a fifth of all that
the daemon does. Nothing is held back either: Asterisk drops a client that lets its socket fill up, so reading never
pauses, and what memory may hold is bounded by who takes the messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, Frame

FRAGMENTS_MAX: Final = 10_000
"""Of one message; Asterisk sends each in one piece."""

Taker = Callable[[bytes], object]


class DirectDelivery(Connection):
    """Takes the place of `recv`, which must not be used on it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the connection's."""
        super().__init__(*args, **options)
        self._early: list[bytes] = []
        self._parts: list[bytes] = []
        self._take: Taker = self._early.append

    def hand_over(self, take: Taker) -> None:
        """Call this with every message from now on, beginning with those that came already; it must not raise."""
        for message in self._early:
            take(message)
        self._early.clear()
        self._take = take

    def process_event(self, event: Any) -> None:
        """Take what is a message, or part of one, out of what the connection deals with."""
        if type(event) is not Frame or event.opcode not in DATA_OPCODES:
            super().process_event(event)
        elif event.fin and not self._parts:
            self._take(bytes(event.data))
        else:
            self._put_together(event)

    def _put_together(self, frame: Frame) -> None:
        self._parts.append(bytes(frame.data))
        if frame.fin:
            message = b"".join(self._parts)
            self._parts.clear()
            self._take(message)
        elif len(self._parts) >= FRAGMENTS_MAX:
            self._take = lambda _message: None
            self.transport.abort()


class DirectClient(DirectDelivery, ClientConnection):
    """A connection that we dialed."""


class DirectServer(DirectDelivery, ServerConnection):
    """A connection that was dialed to us."""
