"""The daemon as a process: what goes in over a websocket comes out of RabbitMQ; it starts, stops and fails cleanly."""

import asyncio
import json
import shutil
import signal
import socket
import sqlite3
from pathlib import Path

import pytest

from tests.runner.daemons import daemon, expected, left_over, of_calls, playing, shown, stored
from tests.runner.fake_ari import FakeAri
from tests.runner.processes import Process, daemon_arguments
from tests.runner.waiting import until

CAPTURE = "answered_caller_hangs_up"


def test_a_call_goes_from_the_websocket_to_the_queue(tmp_path, directory, rabbit, vhost, run):
    """The same messages as a replay; SIGTERM then ends it with 0 and leaves an empty outbox and nothing else."""
    wanted = expected(CAPTURE, vhost)

    async def scenario():
        async with playing(CAPTURE) as (server, events), daemon(tmp_path, server.url, directory) as process:
            await server.when_subscribed()
            pid = int((tmp_path / "run" / "arimonitor.pid").read_text())
            await server.send(*events)
            delivered = await asyncio.to_thread(rabbit.consume, vhost, len(wanted))
            status = await process.end(signal.SIGTERM)
            return delivered, status, pid == process.pid, process.log

    delivered, status, is_pid, log = run(scenario())
    assert of_calls(shown(delivered)) == of_calls(wanted)
    assert (status, is_pid) == (0, True)
    assert rabbit.depth(vhost) == 0
    assert stored(tmp_path) == []
    assert left_over(tmp_path) == []
    assert [line["event"] for line in log if line["level"] in ("error", "critical")] == []
    assert log[-1] == {**log[-1], "event": "stopped", "status": "stopped"}


@pytest.mark.parametrize("lost", [False, True])
def test_call_numbers_go_on_after_a_restart(tmp_path, directory, rabbit, vhost, run, lost):
    """The number after the highest one ever published; also where journal and snapshots are lost."""
    first = expected(CAPTURE, vhost)
    highest = max(body["data"].get("callnumber", 0) for _, body in first)

    async def scenario():
        for name in (CAPTURE, "answered_callee_hangs_up"):
            if lost:
                shutil.rmtree(tmp_path / "journal", ignore_errors=True)
            async with playing(name) as (server, events), daemon(tmp_path, server.url, directory) as process:
                await server.when_subscribed()
                await server.send(*events)
                await process.until_logged("ARI connection up")
                delivered = await asyncio.to_thread(rabbit.consume, vhost, len(expected(name, vhost)))
                await process.end(signal.SIGTERM)
        return delivered

    numbers = {body["data"]["callnumber"] for _, body in shown(run(scenario())) if "callnumber" in body["data"]}
    assert min(numbers) == highest + 1


def test_without_a_broker_messages_wait_and_go_out_later(tmp_path, directory, rabbit, vhost, run):
    """RabbitMQ is away: the daemon goes on, stops in time, and the next run delivers."""
    wanted = expected(CAPTURE, vhost)
    servers = directory / "mqservers.def"
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        servers.write_text(f"[mq1]\nurl = amqp://guest:guest@127.0.0.1:{plug.getsockname()[1]}\n")

    async def away():
        async with playing(CAPTURE) as (server, events), daemon(tmp_path, server.url, directory) as process:
            await server.when_subscribed()
            await server.send(*events)
            await process.until_logged("no connection to RabbitMQ", vhost=vhost)
            await until(lambda: len(stored(tmp_path)) == len(wanted))
            return await process.end(signal.SIGTERM)

    async def back():
        async with FakeAri() as server, daemon(tmp_path, server.url, directory) as process:
            delivered = await asyncio.to_thread(rabbit.consume, vhost, len(wanted))
            return delivered, await process.end(signal.SIGINT)

    assert run(away()) == 0
    assert sorted(stored(tmp_path)) == sorted((message_id, "pending") for message_id, _ in wanted)
    servers.write_text(f"[mq1]\nurl = {rabbit.url}\n")
    delivered, status = run(back())
    assert of_calls(shown(delivered)) == of_calls(wanted)
    assert status == 0
    assert stored(tmp_path) == []


@pytest.mark.parametrize("kill_after", [1, 3])
def test_sigkill_in_the_middle_loses_no_decided_message(tmp_path, directory, rabbit, vhost, run, kill_after):
    """What was on disk is delivered by the next run; a repeat has the same message_id and the same body."""
    wanted = dict(expected(CAPTURE, vhost))

    async def killed():
        async with playing(CAPTURE) as (server, events), daemon(tmp_path, server.url, directory) as process:
            await server.when_subscribed()
            await server.send(*events)
            delivered = await asyncio.to_thread(rabbit.consume, vhost, kill_after)
            assert await process.end(signal.SIGKILL) == -signal.SIGKILL
            return delivered

    async def again():
        async with FakeAri() as server, daemon(tmp_path, server.url, directory) as process:
            await process.until_logged("ARI connection up")
            assert await process.end(signal.SIGTERM) == 0

    before = run(killed())
    held = stored(tmp_path)
    run(again())
    after = rabbit.consume(vhost, 10**6, timeout_s=0.5)
    assert stored(tmp_path) == []
    got = dict(shown(before) + shown(after))
    assert {message_id for message_id, _ in held} <= set(got)
    assert all(wanted[message_id] == body for message_id, body in got.items())


def test_a_successor_ends_it_with_3(tmp_path, directory, run):
    """A supervisor can be told not to start it again."""

    async def scenario():
        async with FakeAri() as server, daemon(tmp_path, server.url, directory) as process:
            await server.when_subscribed()
            await process.until_logged("ARI connection up")
            await server.send({"type": "ApplicationReplaced", "application": "arimonitor"})
            return await process.end(), len(server.handshakes)

    assert run(scenario()) == (3, 1)


@pytest.mark.parametrize("other", ["ari_application", "pid_file"])
def test_a_second_daemon_that_is_no_successor_refuses_to_start(tmp_path, directory, run, other):
    """On the folder of one that listens elsewhere, or with its PID file: status 4 and its process id."""
    options = {
        "ari_application": {"ari_application": "another"},
        "pid_file": {"journal_folder": str(tmp_path / "other"), "ari_application": "another"},
    }[other]

    async def scenario():
        async with FakeAri() as server, daemon(tmp_path, server.url, directory) as first:
            await server.when_subscribed()
            async with daemon(tmp_path, server.url, directory, **options) as second:
                status = await second.end()
            assert f"held by process {first.pid}" in second.log[-1]["reason"]
            return status, await first.end(signal.SIGTERM), len(server.handshakes)

    assert run(scenario()) == (4, 0, 1)


def test_an_unusable_directory_ends_it_with_2(tmp_path, run):
    """There is nothing to follow calls with; the log names the folder."""

    async def scenario():
        async with daemon(tmp_path, "http://127.0.0.1:1", tmp_path / "missing") as process:
            return await process.end(), process.log[-1]

    status, line = run(scenario())
    assert (status, line["folder"]) == (2, str(tmp_path / "missing"))


def test_an_unusable_outbox_ends_it_with_1(tmp_path, directory, run):
    """Its supervisor starts it again; the log names the file."""
    (tmp_path / "outbox.db").mkdir()

    async def scenario():
        async with daemon(tmp_path, "http://127.0.0.1:1", directory) as process:
            return await process.end(), process.log[-1]

    status, line = run(scenario())
    assert status == 1
    assert "outbox.db: [Errno 21] Is a directory" in line["reason"]


def test_a_part_that_fails_ends_it_with_1(tmp_path, directory, rabbit, vhost, run):
    """The outbox breaks while it runs: logged, and no daemon goes on without it."""

    async def scenario():
        async with playing(CAPTURE) as (server, events), daemon(tmp_path, server.url, directory) as process:
            await server.when_subscribed()
            await process.until_logged("ARI connection up")
            with sqlite3.connect(tmp_path / "outbox.db") as connection:
                connection.execute("DROP TABLE messages")
            connection.close()
            await server.send(*events)
            status = await process.end()
            return status, [line for line in process.log if line["event"] == "a part of the daemon crashed"]

    status, crashes = run(scenario())
    assert status == 1
    assert "no such table: messages" in crashes[0]["exception"]


def test_it_waits_for_asterisk(tmp_path, directory, run):
    """Started before Asterisk is there: said, waited for, connected; SIGTERM ends the wait as well."""

    async def scenario():
        with socket.socket() as plug:
            plug.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{plug.getsockname()[1]}"
        async with daemon(tmp_path, url, directory) as process:
            await process.until_logged("waiting for ARI")
            return await process.end(signal.SIGTERM)

    assert run(scenario()) == 0


def test_without_mq_servers_messages_are_only_logged(tmp_path, directory, vhost, run):
    """Said loudly at the start; then each message is a line of the log."""
    (directory / "mqservers.def").unlink()
    wanted = expected(CAPTURE, vhost)

    async def scenario():
        async with playing(CAPTURE) as (server, events), daemon(tmp_path, server.url, directory) as process:
            await server.when_subscribed()
            await server.send(*events)
            await process.until_logged("message", message_id=wanted[-1][0])
            status = await process.end(signal.SIGTERM)
            return status, process.log

    status, log = run(scenario())
    assert status == 0
    assert any(line["event"].startswith("no MQ server") for line in log)
    told = [(line["message_id"], json.loads(line["body"])) for line in log if line["event"] == "message"]
    assert of_calls(told) == of_calls(wanted)
    assert stored(tmp_path) == []


def test_a_lost_connection_is_recovered_by_the_core(tmp_path, directory, rabbit, vhost, run):
    """The call is gone when the connection comes back: it is force-closed, with the same guid."""

    async def scenario():
        async with playing(CAPTURE) as (server, events), daemon(tmp_path, server.url, directory) as process:
            await server.when_subscribed()
            answered = next(n for n, event in enumerate(events) if event.get("dialstatus") == "ANSWER")
            bridged = next(
                n for n, event in enumerate(events) if event["type"] == "ChannelEnteredBridge" and n > answered
            )
            await server.send(*events[: bridged + 2])
            before = await asyncio.to_thread(rabbit.consume, vhost, 2)
            await server.drop()
            after = await asyncio.to_thread(rabbit.consume, vhost, 1)
            await process.end(signal.SIGTERM)
            return shown(before), shown(after)

    before, after = run(scenario())
    statuses = [body["data"]["channelstatus"] for _, body in before + after]
    assert statuses == ["open", "oncall", "FORCECLOSE"]
    assert len({body["data"]["guid"] for _, body in before + after}) == 1


def test_the_password_is_in_no_line_of_the_log(tmp_path, directory, run):
    """Neither when it is right nor when it is wrong, at the finest level."""

    async def scenario():
        async with FakeAri() as server:
            arguments = daemon_arguments(server.url, str(tmp_path), str(directory), logs_level="debug")
            process = await Process.start("arimonitor_runner.daemon", *arguments, password="guessed-wrong")
            await process.until_logged("Asterisk refuses us")
            await process.end(signal.SIGTERM)
            return process.log

    log = run(scenario())
    assert "guessed-wrong" not in json.dumps(log)
    assert Path(tmp_path / "outbox.db").exists()
