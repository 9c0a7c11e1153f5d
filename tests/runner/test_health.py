"""The daemon waits for Asterisk and says so."""

import asyncio
import socket

import structlog

from arimonitor_runner.health import wait_for_ami, wait_for_ari
from arimonitor_runner.settings import AmiSettings, AriSettings
from tests.runner.waiting import until


def free_port():
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return plug.getsockname()[1]


async def greet(port, greeting):
    async def serve(_reader, writer):
        writer.write(greeting)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", port)


def test_ari_is_waited_for_and_found(run):
    """Said once while it is away, and again when it is there."""
    port = free_port()

    async def scenario():
        waiting = asyncio.create_task(wait_for_ari(AriSettings(url=f"http://127.0.0.1:{port}")))
        await until(lambda: logs)
        async with await greet(port, b""):
            await waiting

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert [log["event"] for log in logs] == ["waiting for ARI", "ARI is there"]
    assert "Connect call failed" in logs[0]["reason"]


def test_ami_must_greet_as_ami(run):
    """Another service on that port is not taken for it."""
    port = free_port()

    async def scenario():
        async with await greet(port, b"220 mail\r\n"):
            waiting = asyncio.create_task(wait_for_ami(AmiSettings(host="127.0.0.1", port=port)))
            await until(lambda: logs)
        async with await greet(port, b"Asterisk Call Manager/9.0.0\r\n"):
            return await waiting

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) is True
    assert "220 mail" in logs[0]["reason"]


def test_without_ami_the_daemon_starts_all_the_same(run):
    """After a while it goes on; where no host is set it does not look."""
    port = free_port()
    with structlog.testing.capture_logs() as logs:
        assert run(wait_for_ami(AmiSettings(host="127.0.0.1", port=port, wait_max_s=0.05))) is False
    assert logs[-1]["event"] == "AMI is not there; going on without"
    assert run(wait_for_ami(AmiSettings())) is True
