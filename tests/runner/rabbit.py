"""A private RabbitMQ node for tests, shared by all workers of a session, with a virtual host for each test."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pika
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "fixtures" / "rabbitmq" / "rabbit.sh"
VHOSTS_AT_ONCE = 40

_MAKE_VHOSTS = """
[begin
    Name = list_to_binary("t" ++ integer_to_list(N)),
    rabbit_vhost:add(Name, <<"guest">>),
    rabbit_auth_backend_internal:set_permissions(<<"guest">>, Name, <<".*">>, <<".*">>, <<".*">>, <<"guest">>)
 end || N <- lists:seq(%d, %d)].
"""


Delivered = tuple[pika.spec.Basic.Deliver, pika.BasicProperties, bytes]


class RabbitNode:
    """One node, in a folder of its own; `url` is set once it runs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.url = ""

    def _script(self, *arguments: str, **variables: str) -> str:
        environment = {**os.environ, "DIR": str(self.folder), **variables}
        done = subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout.strip()

    def start(self, *, hasty: bool = False) -> None:
        """Start it, or find it running; hasty: return as soon as it takes connections."""
        self.url = self._script("start", HASTY="yes" if hasty else "").splitlines()[-1]

    def stop(self) -> None:
        """End it cleanly."""
        self._script("stop")

    def kill(self) -> None:
        """Crash it."""
        self._script("kill")

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl; a second and a half of Erlang start-up each."""
        return self._script("ctl", *arguments)

    def new_vhost(self) -> str:
        """Give a virtual host that nobody used yet. They are made many at a time: each rabbitmqctl is slow."""
        counter = self.folder / "vhosts"
        with locked(counter):
            used, made = map(int, (counter.read_text() or "0 0").split())
            if used == made:
                self.ctl("eval", _MAKE_VHOSTS % (made, made + VHOSTS_AT_ONCE - 1))
                made += VHOSTS_AT_ONCE
            counter.write_text(f"{used + 1} {made}")
        return f"t{used}"

    @contextmanager
    def channel(self, vhost: str) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
        """Open a channel of its own, to look at a vhost or to change it."""
        parameters = pika.URLParameters(self.url)
        parameters.virtual_host = vhost
        connection = pika.BlockingConnection(parameters)
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def declare(self, vhost: str) -> None:
        """Make exchange and queue of the contract, as a consumer that is there first would."""
        with self.channel(vhost) as channel:
            channel.exchange_declare("arimonitor", "topic", durable=True)
            channel.queue_declare("arimonitor", durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind("arimonitor", "arimonitor", "#")

    def consume(self, vhost: str, count: int, *, queue: str = "arimonitor", timeout_s: float = 30) -> list[Delivered]:
        """Take messages off a queue until there were `count` of them; fewer come back where none came for so long."""
        taken = []
        with self.channel(vhost) as channel:
            for method, properties, body in channel.consume(queue, inactivity_timeout=timeout_s):
                if method is None:
                    break
                taken.append((method, properties, body))
                channel.basic_ack(method.delivery_tag)
                if len(taken) == count:
                    break
            channel.cancel()
        return taken

    def purge(self, vhost: str, queue: str = "arimonitor") -> None:
        """Throw away what an earlier daemon told and nobody took."""
        with self.channel(vhost) as channel:
            channel.queue_purge(queue)

    def depth(self, vhost: str, queue: str = "arimonitor") -> int:
        """How many messages are ready in a queue."""
        with self.channel(vhost) as channel:
            return channel.queue_declare(queue, passive=True).method.message_count


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Exclude other processes from a file, which is made where it is missing."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def shared_node(folder: Path) -> Iterator[RabbitNode]:
    """The one node of all test workers that name this folder: the first starts it, the last one out stops it."""
    node = RabbitNode(folder)
    users = folder / "users"
    with locked(users):
        users.write_text(str(int(users.read_text() or 0) + 1))
    try:
        with locked(users):
            node.start()
        yield node
    finally:
        with locked(users):
            left = int(users.read_text()) - 1
            users.write_text(str(left))
            if left == 0:
                node.stop()


@contextmanager
def session_node(factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """The one node of a session: of all its xdist workers, whose folders lie side by side."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with shared_node(folder / "rabbitmq") as node:
        yield node
