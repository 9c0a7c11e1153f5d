"""What the runner's tests share: messages to publish, an open outbox, a private RabbitMQ node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from arimonitor_core.effects import PublishMessage
from tests.runner.audio_servers import FtpServer, SshServer
from tests.runner.rabbit import RabbitNode, session_node
from tests.runner.replays import DIRECTORY

T = TypeVar("T")


def build_message(
    call: str, status: str = "open", *, vhost: str = "t", callnumber: int = 1, body: bytes | None = None
) -> PublishMessage:
    """A message as the core decides one: `call` stands for the guid."""
    return PublishMessage(
        vhost=vhost,
        type="received-call",
        routing_key=f"received-call.{status}",
        message_id=f"{call}:{status}",
        ordering_key=call,
        timestamp=1_795_338_481,
        callnumber=callnumber,
        body=body if body is not None else f'{{"data":{{"guid":"{call}","channelstatus":"{status}"}}}}'.encode(),
    )


@pytest.fixture
def message() -> Callable[..., PublishMessage]:
    """Build a message: `message(call, status, vhost=, callnumber=, body=)`."""
    return build_message


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Run a coroutine in an event loop of its own, at most a minute, and check that it left no task behind."""

    def runner(coroutine: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            before = asyncio.all_tasks()
            async with asyncio.timeout(60):
                result = await coroutine
            left = asyncio.all_tasks() - before
            assert not left, f"tasks left behind: {left}"
            return result

        return asyncio.run(bounded())

    return runner


@pytest.fixture
def outbox_path(tmp_path: Path) -> Path:
    """Where this test's outbox is; the folder does not exist yet."""
    return tmp_path / "spool" / "outbox.db"


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """The session's RabbitMQ node, shared by all xdist workers. Tests keep to vhosts of their own."""
    with session_node(tmp_path_factory) as node:
        yield node


@pytest.fixture
def vhost(rabbit: RabbitNode) -> str:
    """A virtual host of this test's own."""
    return rabbit.new_vhost()


@pytest.fixture(scope="module")
def own_rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A node that a test module may kill and starve."""
    node = RabbitNode(tmp_path_factory.mktemp("own-rabbitmq"))
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture
def directory(tmp_path: Path, rabbit: RabbitNode, vhost: str) -> Path:
    """The fixtures' directory with every client's vhost being this test's own."""
    rabbit.declare(vhost)
    folder = tmp_path / "directory"
    folder.mkdir()
    for path in DIRECTORY.iterdir():
        (folder / path.name).write_text(path.read_text())
    clients = (folder / "__CLIENTES__.DEF").read_text()
    for name in ("vila-madalena", "jardim-paulista", "alto-da-lapa"):
        clients = clients.replace(f"vhost = {name}", f"vhost = {vhost}")
    (folder / "__CLIENTES__.DEF").write_text(clients)
    (folder / "mqservers.def").write_text(f"[mq1]\nurl = {rabbit.url}\n")
    return folder


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start audio servers, by the class of their kind: `start_server(FtpServer, name, **options)`; all are ended."""
    with ExitStack() as stack:

        def start(kind: Callable[..., Any], name: str = "audio", **options: Any) -> Any:
            server = kind(tmp_path / name, **options)
            stack.callback(server.kill)
            server.start()
            return server

        yield start


@pytest.fixture
def ftp(start_server: Callable[..., Any]) -> FtpServer:
    """An FTP server that runs."""
    server: FtpServer = start_server(FtpServer)
    return server


@pytest.fixture
def sshd(start_server: Callable[..., Any]) -> SshServer:
    """An SSH server that runs."""
    server: SshServer = start_server(SshServer)
    return server
