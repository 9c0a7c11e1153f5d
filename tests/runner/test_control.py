"""The control socket: orders to a running daemon, one a connection."""

import asyncio
import json
import os
import resource
import stat

import pytest
from click.testing import CliRunner

from arimonitor_runner.cli import main
from arimonitor_runner.control import SOCKET_NAME, CommandError, ControlServer, NoDaemon, send_command


async def _echo(request):
    return {"said": request.get("say", "")}


async def _refuse(_request):
    raise CommandError("not now")


async def _fail(_request):
    raise ZeroDivisionError("by zero")


COMMANDS = {"echo": _echo, "refuse": _refuse, "fail": _fail}


async def _ask_raw(folder, data, *, end=True):
    """Send bytes as they are; gives the answer's bytes."""
    descriptor = os.open(folder, os.O_PATH)
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
    finally:
        os.close(descriptor)
    writer.write(data)
    if end:
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_a_start_that_failed_leaves_nothing_open(tmp_path, run):
    """It is tried again as long as a disk is full: then each attempt must give back what it opened."""
    server = ControlServer(tmp_path, COMMANDS)

    async def scenario():
        before = set(os.listdir("/proc/self/fd"))
        # As many descriptors as are open, and one more: the folder's, but no socket.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = os.open("/", os.O_PATH)
        os.close(spare)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, hard))
        try:
            with pytest.raises(OSError, match=SOCKET_NAME):
                await server.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert set(os.listdir("/proc/self/fd")) == before
        await server.start()
        answer = await send_command(tmp_path, {"command": "echo", "say": "now"})
        await server.close()
        return answer

    assert run(scenario()) == {"said": "now"}


def test_an_order_is_carried_out_and_answered(tmp_path, run):
    """Also where the folder's name is longer than a socket's address may be."""
    folder = tmp_path / ("long" * 20) / ("name" * 20)
    folder.mkdir(parents=True)

    async def scenario():
        server = ControlServer(folder, COMMANDS)
        await server.start()
        mode = stat.S_IMODE((folder / SOCKET_NAME).stat().st_mode)
        answers = [await send_command(folder, {"command": "echo", "say": word}) for word in ("one", "two")]
        await server.close()
        return mode, answers

    mode, answers = run(scenario())
    assert answers == [{"said": "one"}, {"said": "two"}]
    assert mode == 0o600
    assert not (folder / SOCKET_NAME).exists()


@pytest.mark.parametrize(
    ("command", "reason"),
    [("refuse", "not now"), ("fail", "ZeroDivisionError: by zero"), ("dance", "there are echo, fail, refuse")],
)
def test_what_cannot_be_done_is_said(tmp_path, run, command, reason):
    """Refused, failed or unknown: an answer each time, and the server lives on."""

    async def scenario():
        server = ControlServer(tmp_path, COMMANDS)
        await server.start()
        with pytest.raises(CommandError, match=reason):
            await send_command(tmp_path, {"command": command})
        answer = await send_command(tmp_path, {"command": "echo"})
        await server.close()
        return answer

    assert run(scenario()) == {"said": ""}


@pytest.mark.parametrize(
    "data",
    [b"", b"hello\n", b"[]\n", b"{}\n", b'{"command": []}\n', b"[" * 5000 + b"\n", b"x" * 200_000, b"\xff\n"],
)
def test_a_strange_peer_does_no_harm(tmp_path, run, data):
    """Nonsense is answered or dropped; the next one is served."""

    async def scenario():
        server = ControlServer(tmp_path, COMMANDS)
        await server.start()
        try:
            answer = await _ask_raw(tmp_path, data)
        except ConnectionError:
            answer = b""
        after = await send_command(tmp_path, {"command": "echo", "say": "here"})
        await server.close()
        return answer, after

    answer, after = run(scenario())
    assert not answer or json.loads(answer)["ok"] is False
    assert after == {"said": "here"}


def test_a_successor_takes_the_socket_over(tmp_path, run):
    """It listens in the predecessor's place; the predecessor's end does not take that away."""

    async def scenario():
        old = ControlServer(tmp_path, {"who": lambda _request: _answer("old")})
        new = ControlServer(tmp_path, {"who": lambda _request: _answer("new")})
        await old.start()
        await new.start()
        await old.close()
        answer = await send_command(tmp_path, {"command": "who"})
        await new.close()
        return answer

    async def _answer(name):
        return {"name": name}

    assert run(scenario()) == {"name": "new"}


def test_without_a_daemon_that_is_said(tmp_path, run):
    """With the socket's path; likewise for a socket that a crash left behind."""
    with pytest.raises(NoDaemon, match=SOCKET_NAME):
        run(send_command(tmp_path, {"command": "echo"}))
    with pytest.raises(NoDaemon, match="gone"):
        run(send_command(tmp_path / "gone", {"command": "echo"}))
    result = CliRunner().invoke(main, ["recover", "--folder", str(tmp_path)])
    assert result.exit_code == 1
    assert "no daemon listens there" in result.output
