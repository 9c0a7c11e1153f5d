"""Restarts and takeovers of the daemon as a process: the calls go on, and every message is told once."""

import asyncio
import json
import os
import signal
import socket
from contextlib import asynccontextmanager

import pytest

from arimonitor_runner.control import send_command
from arimonitor_runner.journal import find_end, read_journal
from arimonitor_runner.state_lock import StateLock
from tests.runner.daemons import daemon, expected, of_calls, playing, shown, stored
from tests.runner.fake_ari import FakeAri
from tests.runner.processes import Process, daemon_arguments
from tests.runner.replays import messages_of
from tests.runner.waiting import until

CAPTURE = "answered_caller_hangs_up"


def halves(events):
    """A call's events up to the moment when both talk, and the rest."""
    entered = [n for n, event in enumerate(events) if event["type"] == "ChannelEnteredBridge"]
    return events[: entered[1] + 1], events[entered[1] + 1 :]


def channels_at(events):
    """What GET /channels and /bridges show after these events."""
    channels, bridges = {}, {}
    for event in events:
        for key in ("channel", "caller", "peer"):
            if "creationtime" in event.get(key, {}):
                channels[event[key]["id"]] = event[key]
        if event["type"] == "ChannelEnteredBridge":
            bridges[event["bridge"]["id"]] = event["bridge"]
        if event["type"] == "ChannelDestroyed":
            channels.pop(event["channel"]["id"], None)
    return list(channels.values()), list(bridges.values())


def consume_to_the_end(rabbit, vhost):
    """What is told until the call is over."""
    told = []
    while not any(message_id.endswith(":closed") for message_id, _ in told):
        told += shown(rabbit.consume(vhost, 1))
    return told


@asynccontextmanager
async def in_mid_call(tmp_path, directory):
    """An Asterisk, a daemon that heard the first half of a call, and the events of the other half, still to come."""
    async with playing(CAPTURE) as (server, events):
        before, after = halves(events)
        async with daemon(tmp_path, server.url, directory) as process:
            await process.until_logged("ARI connection up")
            await server.send(*before)
            server.answers["channels"], server.answers["bridges"] = channels_at(before)
            server.requests.clear()
            yield server, process, after


async def restarted_in_mid_call(tmp_path, directory, rabbit, vhost, how):
    """What is told where the daemon ends in this way in the middle of a call, and another one goes on later."""
    async with in_mid_call(tmp_path, directory) as (server, process, after):
        early = shown(await asyncio.to_thread(rabbit.consume, vhost, 2))
        await process.end(how)
        async with daemon(tmp_path, server.url, directory) as second:
            await second.until_logged("ARI connection up")
            await server.send(*after)
            late = await asyncio.to_thread(consume_to_the_end, rabbit, vhost)
            await second.end(signal.SIGTERM)
    # What the broker had, and a killed process had not yet noted as confirmed, comes again as it was.
    return early + [message for message in late if message not in early]


@asynccontextmanager
async def overtaken_while_stopped(tmp_path, directory):
    """An Asterisk, a daemon that does not get to run at the moment, and its successor, which is connected."""
    async with FakeAri() as server, daemon(tmp_path, server.url, directory) as old:
        await old.until_logged("ARI connection up")
        os.kill(old.pid, signal.SIGSTOP)
        async with daemon(tmp_path, server.url, directory) as new:
            await server.when(lambda: len(server.handshakes) == 2)
            yield server, old, new


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_in_mid_call_goes_on_where_it_was(tmp_path, directory, rabbit, vhost, run, how):
    """The call keeps its number; nothing is told twice; its end says that there was a gap."""
    wanted = expected(CAPTURE, vhost)
    told = run(restarted_in_mid_call(tmp_path, directory, rabbit, vhost, how))
    told[-1][1]["data"]["accuracy"] = "exact"
    assert rabbit.depth(vhost) == 0
    assert of_calls(told) == of_calls(wanted)
    assert stored(tmp_path) == []


def test_a_successor_goes_on_without_a_gap(tmp_path, directory, rabbit, vhost, run):
    """Started beside the running one: that one leaves with 3, nothing is asked of Asterisk, all is as if unbroken."""
    wanted = expected(CAPTURE, vhost)

    async def scenario():
        async with (
            in_mid_call(tmp_path, directory) as (server, old, after),
            daemon(tmp_path, server.url, directory) as new,
        ):
            status = await old.end()
            await server.send(*after)
            told = await asyncio.to_thread(rabbit.consume, vhost, len(wanted))
            await new.until_logged("ARI connection up")
            asked = [request for request in server.requests if request.startswith("GET channels")]
            owner = StateLock(tmp_path / "journal").read_owner()
            pid = int((tmp_path / "run" / "arimonitor.pid").read_text())
            return status, shown(told), asked, {owner.pid, pid} == {new.pid}, await new.end(signal.SIGTERM)

    status, told, asked, is_owner, end = run(scenario())
    assert (status, asked, is_owner, end) == (3, [], True, 0)
    assert of_calls(told) == of_calls(wanted)
    assert rabbit.depth(vhost) == 0
    problems = []
    kinds = [type(item).__name__ for _, item in read_journal(tmp_path / "journal", on_problem=problems.append)]
    assert problems == []
    assert [kinds.count(kind) for kind in ("ConnectionRestored", "ConnectionReplaced", "ConnectionLost")] == [1, 1, 1]
    assert kinds[-1] == "ConnectionLost"


def test_events_of_the_takeover_itself_are_kept(tmp_path, directory, rabbit, vhost, run):
    """What happens while the old one is still leaving waits in the new one's memory."""
    wanted = expected(CAPTURE, vhost)

    async def scenario():
        async with in_mid_call(tmp_path, directory) as (server, old, after):
            os.kill(old.pid, signal.SIGSTOP)
            async with daemon(tmp_path, server.url, directory) as new:
                await server.when(lambda: len(server.handshakes) == 2)
                await server.send(*after)
                os.kill(old.pid, signal.SIGCONT)
                status = await old.end()
                told = await asyncio.to_thread(rabbit.consume, vhost, len(wanted))
                return status, shown(told), await new.end(signal.SIGTERM)

    status, told, end = run(scenario())
    assert (status, end) == (3, 0)
    assert of_calls(told) == of_calls(wanted)
    assert rabbit.depth(vhost) == 0


def test_one_successor_waits_at_a_time(tmp_path, directory, run):
    """Of two, the later one could go on where the earlier one was to, and miss what that one heard: it is refused."""

    async def scenario():
        async with overtaken_while_stopped(tmp_path, directory) as (server, old, new):
            async with daemon(tmp_path, server.url, directory) as third:
                refused = await third.end()
                assert "another successor" in third.log[-1]["reason"]
            os.kill(old.pid, signal.SIGCONT)
            status = await old.end()
            await new.until_logged("ARI connection up")
            return refused, status, await new.end(signal.SIGTERM), len(server.handshakes)

    assert run(scenario()) == (4, 3, 0, 2)


def test_a_successor_whose_predecessor_connects_again_leaves(tmp_path, directory, run):
    """That one had lost its connection and heard of nobody; waiting for it to leave would be in vain."""

    async def scenario():
        async with overtaken_while_stopped(tmp_path, directory) as (server, old, new):
            await server.send({"type": "ApplicationReplaced", "application": "arimonitor"})
            status = await new.end()
            assert new.log[-2]["predecessor"] == old.pid
            return status

    assert run(scenario()) == 3


def test_a_predecessor_that_dies_in_the_takeover_is_a_gap(tmp_path, directory, rabbit, vhost, run):
    """Nobody knows what it had heard last: Asterisk is asked."""

    async def scenario():
        async with in_mid_call(tmp_path, directory) as (server, old, after):
            early = await asyncio.to_thread(rabbit.consume, vhost, 2)
            os.kill(old.pid, signal.SIGSTOP)
            async with daemon(tmp_path, server.url, directory) as new:
                await server.when(lambda: len(server.handshakes) == 2)
                await old.end(signal.SIGKILL)
                await new.until_logged("ARI connection up")
                await server.send(*after)
                late = await asyncio.to_thread(consume_to_the_end, rabbit, vhost)
                await new.end(signal.SIGTERM)
                return dict(shown(early) + late)  # what was not noted as confirmed in time comes again as it was

    calls = [body["data"] for body in run(scenario()).values() if "channelstatus" in body["data"]]
    assert [(data["channelstatus"], data["accuracy"]) for data in calls] == [
        ("open", "exact"),
        ("oncall", "exact"),
        ("closed", "gap"),
    ]


@asynccontextmanager
async def heir_of(process, tmp_path):
    """The process id of the successor that a daemon started; ended here, as it is nobody's child."""
    lock = StateLock(tmp_path / "journal")
    await until(lambda: lock.read_owner().pid not in (0, process.pid))
    pid = lock.read_owner().pid
    try:
        yield pid
    finally:
        ended = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(ended, gone.set)
        await gone.wait()
        asyncio.get_running_loop().remove_reader(ended)
        os.close(ended)


def test_sighup_hands_over_to_a_fresh_process(tmp_path, directory, rabbit, vhost, run):
    """What `systemctl reload` does: the old process starts its successor and leaves; nothing is lost."""
    wanted = expected(CAPTURE, vhost)

    async def scenario():
        async with in_mid_call(tmp_path, directory) as (server, old, after):
            os.kill(old.pid, signal.SIGHUP)
            async with heir_of(old, tmp_path):
                await server.send(*after)
                told = await asyncio.to_thread(rabbit.consume, vhost, len(wanted))
            status = await old.end()
            await old.output()  # the successor held it open as well
            return status, shown(told)

    status, told = run(scenario())
    assert status == 3
    assert of_calls(told) == of_calls(wanted)


def test_the_service_goes_on_in_the_successor(tmp_path, directory, run, monkeypatch):
    """The old process never says that the service stops, or systemd would end the new one: it says who is next."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name)

        async def hear(count):
            loop = asyncio.get_running_loop()
            return [(await loop.sock_recv(systemd, 1000)).decode() for _ in range(count)]

        async def scenario():
            async with in_mid_call(tmp_path, directory) as (_server, old, _after):
                os.kill(old.pid, signal.SIGHUP)
                async with heir_of(old, tmp_path) as new:
                    told = await hear(3)
                await old.end()
                await old.output()
                return old.pid, new, told + await hear(1)

        old, new, told = run(scenario())
    assert told == [f"READY=1\nMAINPID={old}", f"MAINPID={new}", f"READY=1\nMAINPID={new}", "STOPPING=1"]


def test_a_successor_that_cannot_start_changes_nothing(tmp_path, directory, run):
    """Its settings are wrong by now: said, and the old process goes on."""

    async def scenario():
        async with FakeAri() as server:
            config = tmp_path / "arimonitor.toml"
            config.write_text("[arimonitor]\nserver = 'pbx'\n")
            arguments = daemon_arguments(server.url, str(tmp_path), str(directory))
            old = await Process.start("arimonitor_runner.daemon", f"--config={config}", *arguments)
            try:
                await old.until_logged("ARI connection up")
                config.write_text("nonsense")
                os.kill(old.pid, signal.SIGHUP)
                line = await old.until_logged("the successor ended before it took over")
                answer = await send_command(tmp_path / "journal", {"command": "snapshot"})
                return line["status"], answer, await old.end(signal.SIGTERM)
            finally:
                await old.end(signal.SIGKILL)

    failed, answer, status = run(scenario())
    assert (failed, status) == (2, 0)
    assert answer["position"] > 0


def test_operators_order_a_comparison_and_a_snapshot(tmp_path, directory, rabbit, vhost, run):
    """`recover` closes a call that Asterisk does not know; both say what they did, and refuse without Asterisk."""

    async def scenario():
        async with in_mid_call(tmp_path, directory) as (server, process, _after):
            server.answers["channels"], server.answers["bridges"] = [], []
            early = await asyncio.to_thread(rabbit.consume, vhost, 2)
            folder = str(tmp_path / "journal")
            orders = [
                await Process.start("arimonitor_runner.cli", order, f"--folder={folder}")
                for order in ("recover", "snapshot")
            ]
            statuses = [await order.end() for order in orders]
            outputs = [await order.output() for order in orders]
            late = await asyncio.to_thread(rabbit.consume, vhost, 1)
            await process.end(signal.SIGTERM)
            return statuses, outputs, shown(early) + shown(late)

    statuses, outputs, told = run(scenario())
    assert statuses == [0, 0]
    assert b"compared with Asterisk" in outputs[0]
    assert b"journal position" in outputs[1]
    assert [body["data"]["channelstatus"] for _, body in told] == ["open", "oncall", "FORCECLOSE"]


def test_replaying_what_the_journal_holds_gives_what_was_told(tmp_path, directory, rabbit, vhost, run):
    """Byte for byte, over a restart."""
    told = run(restarted_in_mid_call(tmp_path, directory, rabbit, vhost, signal.SIGKILL))
    problems = []
    records = [item for _, item in read_journal(tmp_path / "journal", on_problem=problems.append)]
    assert problems == []
    assert find_end(tmp_path / "journal").position == len(records)
    again = [(message.message_id, json.loads(message.body)) for message in messages_of(records, "pbx")]
    assert of_calls(told) == of_calls(again)
