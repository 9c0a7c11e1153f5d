"""Where messages go once they are stored: what the loop, the outbox and a sink agree on, and a sink without a broker.

The loop stores a message first and offers it to the sink afterwards; the sink delivers it and tells the store. A sink
that is not there, or slow, costs nothing but room in the store: what it was not offered it reads from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from arimonitor_core.directory import Directory


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message that the outbox holds, committed to disk."""

    seq: int
    """The outbox's own order; rises with every message and is never used twice."""
    vhost: str
    """RabbitMQ virtual host; empty only where the sink needs none."""
    ordering_key: str
    """Messages of one vhost with the same key go out in the order of `seq`, each after the confirm of the last."""
    message_id: str
    type: str
    routing_key: str
    timestamp: int
    """Unix seconds."""
    callnumber: int
    """0 where it belongs to no call."""
    body: bytes
    """JSON text."""


class MessageStore(Protocol):
    """What a sink needs of the outbox. Messages leave it only by `confirm`."""

    async def pending_vhosts(self) -> list[str]:
        """Vhosts that have messages to deliver, in no particular order."""
        ...

    async def parked_vhosts(self) -> list[str]:
        """Vhosts that have messages put aside; not those that have none."""
        ...

    async def parked_keys(self, vhost: str) -> set[str]:
        """Ordering keys of a vhost that stand behind a parked message."""
        ...

    async def read_pending(self, vhost: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """Messages to deliver with a higher `seq`, in order, without those that stand behind a parked one."""
        ...

    async def retry_parked(self, vhost: str, *, limit: int | None = None) -> list[int]:
        """Make messages that were put aside pending again, those tried least often first; gives their `seq`."""
        ...

    async def changed_outside(self) -> bool:
        """Did another process write to the store since this was last asked? False the first time."""
        ...

    def confirm(self, seqs: Sequence[int]) -> None:
        """Forget delivered messages. The deletion is committed soon after; until then a crash means a repeat."""
        ...

    def note_failure(self, seq: int, reason: str) -> None:
        """Count a failed attempt; the message stays to be delivered."""
        ...

    def park(self, seq: int, reason: str) -> None:
        """Put a message aside until `retry_parked`; what has its ordering key waits behind it."""
        ...


class Sink(Protocol):
    """Delivers stored messages."""

    async def start(self) -> None:
        """Begin with what the store holds from before."""
        ...

    def offer(self, messages: Sequence[StoredMessage]) -> None:
        """Hear of messages just committed, in order of `seq`. Returns at once; does not have to take them."""
        ...

    def use_directory(self, directory: Directory) -> None:
        """Follow a change of clients and MQ servers."""
        ...

    async def retry_parked(self, vhost: str | None = None) -> list[str]:
        """Try parked messages again, of one vhost or of all; gives the vhosts that have some."""
        ...

    async def drain(self, timeout_s: float) -> bool:
        """Wait, at most so long, until all that can be delivered is. False: something is left in the store."""
        ...

    async def close(self) -> None:
        """Stop delivering and leave no connection and no task behind."""
        ...


class LocalSink:
    """Delivers every message by a function call, at once. For a demonstration, or where no MQ server is configured."""

    def __init__(
        self, store: MessageStore, on_message: Callable[[StoredMessage], None], *, page_size: int = 500
    ) -> None:
        self._store = store
        self._on_message = on_message
        self._page_size = page_size

    async def start(self) -> None:
        """Deliver what an earlier run left behind."""
        for vhost in await self._store.pending_vhosts():
            after_seq = 0
            while page := await self._store.read_pending(vhost, after_seq=after_seq, limit=self._page_size):
                self._deliver(page)
                after_seq = page[-1].seq

    def offer(self, messages: Sequence[StoredMessage]) -> None:
        """Deliver, then forget."""
        self._deliver(messages)

    def use_directory(self, directory: Directory) -> None:
        """Do nothing: no message needs an address here."""

    async def retry_parked(self, vhost: str | None = None) -> list[str]:  # noqa: ARG002  # the Sink's signature
        """Nothing is ever parked: every message is taken."""
        return []

    async def drain(self, timeout_s: float) -> bool:  # noqa: ARG002  # the Sink's signature; nothing to wait for
        """Everything is delivered when `offer` returns."""
        return True

    async def close(self) -> None:
        """Nothing is held open."""

    def _deliver(self, messages: Iterable[StoredMessage]) -> None:
        for message in messages:
            self._on_message(message)
            self._store.confirm((message.seq,))
