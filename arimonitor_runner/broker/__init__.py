"""Delivery to RabbitMQ: one connection per vhost, publisher confirms, order per call.

`Broker` is the sink that the daemon uses: it has a `VhostPublisher` for every vhost that a message was ever meant for,
each with its own task, window and back-off, so that a vhost that is slow or missing delays no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from arimonitor_core.directory import Directory, MqServer
from arimonitor_runner.broker.publisher import VhostPublisher
from arimonitor_runner.broker.session import SessionError, Target
from arimonitor_runner.settings import BrokerSettings
from arimonitor_runner.sinks import MessageStore, StoredMessage

__all__ = ["Broker"]


class Broker:
    """The sink that delivers to RabbitMQ."""

    def __init__(
        self,
        store: MessageStore,
        directory: Directory,
        settings: BrokerSettings,
        *,
        server: str,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Name what it needs; no connection is opened yet.

        Args:
            store: where the messages are.
            directory: says which RabbitMQ server has which vhost.
            settings: how to deliver.
            server: this PBX's name, for app_id and the connections' names.
            on_failure: told, in the event loop, of a publisher that crashed.
        """
        self._store = store
        self._directory = directory
        self._settings = settings
        self._server = server
        self._on_failure = on_failure
        self._publishers: dict[str, VhostPublisher] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._next_slot_at = 0.0

    async def start(self) -> None:
        """Begin with the vhosts that have messages from before."""
        await self._follow_store()
        self._keep(asyncio.create_task(self._watch_store(), name="watch outbox"))

    async def retry_parked(self, vhost: str | None = None) -> list[str]:
        """Try parked messages again now, those of one vhost or of all; gives the vhosts that have some."""
        await self._follow_store()
        vhosts = [name for name in await self._store.parked_vhosts() if vhost in (None, name)]
        for name in vhosts:
            self._publisher(name).retry_parked()
        return vhosts

    def offer(self, messages: Sequence[StoredMessage]) -> None:
        """Hand new messages to their vhosts."""
        by_vhost: dict[str, list[StoredMessage]] = {}
        for message in messages:
            by_vhost.setdefault(message.vhost, []).append(message)
        for vhost, of_vhost in by_vhost.items():
            self._publisher(vhost).offer(of_vhost)

    def use_directory(self, directory: Directory) -> None:
        """Follow clients and servers that changed."""
        self._directory = directory
        for publisher in self._publishers.values():
            publisher.retarget()

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every vhost that can be reached has confirmed all it was sent."""
        settling = [publisher.settled() for publisher in self._publishers.values()]
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*settling)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Close all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def statistics(self) -> Mapping[str, Mapping[str, int]]:
        """What happened since the start, by vhost."""
        return {vhost: publisher.counts.as_dict() for vhost, publisher in self._publishers.items()}

    async def _watch_store(self) -> None:
        while True:
            await asyncio.sleep(self._settings.parked_retry_s)
            await self._follow_store()

    async def _follow_store(self) -> None:
        """Have a publisher for every vhost with messages; where an operator changed some, all look at theirs again."""
        is_changed = await self._store.changed_outside()
        for vhost in sorted({*await self._store.pending_vhosts(), *await self._store.parked_vhosts()}):
            self._publisher(vhost)
        if is_changed:
            for publisher in self._publishers.values():
                publisher.start_over()

    def _publisher(self, vhost: str) -> VhostPublisher:
        publisher = self._publishers.get(vhost)
        if publisher is None:
            publisher = VhostPublisher(
                vhost,
                self._store,
                self._settings,
                find_target=lambda: self._target(vhost),
                await_slot=self._await_slot,
            )
            self._publishers[vhost] = publisher
            self._keep(asyncio.create_task(publisher.run(), name=f"publisher {vhost}"))
        return publisher

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_failure(error)

    def _target(self, vhost: str) -> Target:
        settings = self._settings
        return Target(
            url=find_server(self._directory, vhost).url,
            vhost=vhost,
            exchange=settings.exchange,
            queue=settings.queue,
            declare=settings.declare,
            connection_name=f"arimonitor/{self._server} {vhost}",
            app_id=f"arimonitor/{self._server}",
            heartbeat_s=settings.heartbeat_s,
            connect_timeout_s=settings.connect_timeout_s,
            blocked_timeout_s=settings.blocked_timeout_s,
        )

    async def _await_slot(self) -> None:
        """Space connections out: when a server comes back, hundreds of vhosts want one at the same moment."""
        now = asyncio.get_running_loop().time()
        slot_at = max(now, self._next_slot_at)
        self._next_slot_at = slot_at + 1 / self._settings.open_per_s_max
        await asyncio.sleep(slot_at - now)


def find_server(directory: Directory, vhost: str) -> MqServer:
    """Say which RabbitMQ server has a vhost: the one its client names, else the first. Raises SessionError."""
    names = [client.mq_server for client in directory.clients.values() if client.vhost == vhost and client.mq_server]
    if names:
        server = directory.mq_servers.get(names[0])
        if server is None:
            raise SessionError(f"the client's MQ server {names[0]} is not in the directory")
        return server
    first = next(iter(directory.mq_servers.values()), None)
    if first is None:
        raise SessionError("the directory names no MQ server")
    return first
