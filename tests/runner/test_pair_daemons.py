"""Two daemons as processes, each with an ARI of its own that shows both the same Asterisk."""

import asyncio
import json
import signal
import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager, closing

import pytest

from tests.runner.fake_ari import FakeAri
from tests.runner.pair_station import build_events
from tests.runner.processes import Process, daemon_arguments
from tests.runner.test_pair import check
from tests.runner.waiting import until

LEADS = "this member leads: it publishes from now on"


@pytest.fixture
def directory(tmp_path, rabbit, vhost):
    """One client, and the RabbitMQ server of its vhost."""
    rabbit.declare(vhost)
    folder = tmp_path / "directory"
    folder.mkdir()
    (folder / "__CLIENTES__.DEF").write_text(f"[112]\nvhost = {vhost}\n")
    (folder / "mqservers.def").write_text(f"[mq1]\nurl = {rabbit.url}\n")
    return folder


def is_empty(path):
    """Look into the outbox of another process."""
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM messages").fetchone()
    return count == 0


class Pair:
    """Both daemons and what they listen to."""

    def __init__(self, tmp_path, directory, meeting, servers):
        self.folder, self.directory, self.meeting, self.servers = tmp_path, directory, meeting, servers
        self.daemons = {}

    async def start(self, name):
        """Start a member."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        arguments = daemon_arguments(
            self.servers[name].url, str(folder), str(self.directory), pair_member=name, pair_vhost=self.meeting
        )
        self.daemons[name] = await Process.start("arimonitor_runner.daemon", *arguments)
        await self.daemons[name].until_logged("ARI connection up")
        await self.daemons[name].until_logged("the pair's connection to RabbitMQ is up")

    async def send(self, events):
        """Let the same happen for both."""
        raw = [json.loads(event) for _, event in events]
        await asyncio.gather(*(self.servers[name].send(*raw) for name in self.daemons))

    async def until_empty(self):
        """Wait until nobody has anything left to publish."""
        await until(lambda: all(is_empty(self.folder / name / "outbox.db") for name in self.daemons))

    async def end(self, name, number):
        """End a member with a signal; gives its exit status."""
        return await self.daemons.pop(name).end(number)


@asynccontextmanager
async def led_by_a(make_pair):
    """Two daemons, each with a websocket of its own: `a` leads, `b` stands by. `make_pair(servers)` says which."""
    async with AsyncExitStack() as stack:
        both = make_pair({name: await stack.enter_async_context(FakeAri()) for name in ("a", "b")})
        try:
            await both.start("a")
            await both.daemons["a"].until_logged(LEADS)
            await both.start("b")
            yield both
        finally:
            for daemon in both.daemons.values():
                await daemon.end(signal.SIGKILL)


@pytest.fixture
def pair(tmp_path, directory, rabbit):
    """Run a scenario with `a` leading and `b` standing by."""

    async def runner(scenario):
        async with led_by_a(lambda servers: Pair(tmp_path, directory, rabbit.new_vhost(), servers)) as both:
            return await scenario(both)

    return runner


def test_the_other_daemon_goes_on_where_a_killed_one_ended(pair, rabbit, vhost, run):
    """In the middle of calls; who was killed comes back, and its own view of what it missed is never published."""
    events = build_events(20, wave=20)
    third = len(events) // 3

    async def scenario(both):
        await both.send(events[:third])
        await both.until_empty()
        await both.send(events[third : third + 100])
        await both.end("a", signal.SIGKILL)
        await both.daemons["b"].until_logged(LEADS)
        await both.send(events[third + 100 : 2 * third])
        await both.start("a")  # its Asterisk shows no channels: it takes all its calls for lost
        await both.send(events[2 * third :])
        await both.until_empty()
        return [await both.end(name, signal.SIGTERM) for name in ("a", "b")]

    assert run(pair(scenario)) == [0, 0]
    check(rabbit.consume(vhost, 10**6, timeout_s=1), 20)


def test_a_planned_stop_repeats_nothing(pair, rabbit, vhost, run):
    """SIGTERM of the leader in the middle of calls, and of its follower after them."""
    events = build_events(20, wave=20)
    half = len(events) // 2

    async def scenario(both):
        await both.send(events[:half])
        assert await both.end("a", signal.SIGTERM) == 0
        assert is_empty(both.folder / "a" / "outbox.db")
        await both.daemons["b"].until_logged(LEADS)
        await both.send(events[half:])
        await both.until_empty()
        return await both.end("b", signal.SIGTERM)

    assert run(pair(scenario)) == 0
    assert check(rabbit.consume(vhost, 10**6, timeout_s=1), 20) == 0


def test_a_pair_without_a_broker_is_a_wrong_setting(tmp_path, directory, run):
    """It could neither meet nor know who publishes."""
    (directory / "mqservers.def").write_text("")

    async def scenario():
        arguments = daemon_arguments("http://127.0.0.1:1", str(tmp_path), str(directory), pair_member="a")
        daemon = await Process.start("arimonitor_runner.daemon", *arguments)
        await daemon.until_logged("a pair needs RabbitMQ")
        return await daemon.end()

    assert run(scenario()) == 2
