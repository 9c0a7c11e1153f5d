"""Trouble of Asterisk's event system is told once, again where it lasts, and when it is over."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import structlog
import typed_settings as ts
from attrs import evolve

from arimonitor_runner import pbx_watch
from arimonitor_runner.ami import AmiError, ami_session
from arimonitor_runner.ari.rest import AriRest
from arimonitor_runner.pbx_watch import PbxWatch, parse_queues
from arimonitor_runner.settings import AmiSettings
from tests.runner.fake_ari import FakeAri
from tests.runner.test_ari import SETTINGS
from tests.runner.waiting import until

APPLICATION = "applications/arimonitor"
HEADER = "Processor      Processed   In Queue  Max Depth  Low water High water"
SECRET = "s3gredo"


def line(length, name="stasis/m:ari:application/arimonitor-000000a3", times=""):
    return f"{name}    1025    {length}    29    450    500{times}"


class FakeAmi:
    """A manager interface that knows one user and shows the queues that a test wants."""

    def __init__(self):
        self.lines = [HEADER, "", "0 taskprocessors"]
        self.commands = []
        self.port = 0
        self.instead = None
        """Bytes to answer a command with."""

    async def serve(self, reader, writer):
        """Greet, and answer one action after the other, each behind an event that nobody asked for."""
        writer.write(b"Asterisk Call Manager/11.0.0\r\n")
        while packet := await self._read(reader):
            answer = f"ActionID: {packet['ActionID']}\r\n"
            writer.write(b"Event: FullyBooted\r\nStatus: Fully Booted\r\n\r\n")
            if packet["Action"] == "Login" and packet["Secret"] != SECRET:
                writer.write(f"Response: Error\r\n{answer}Message: Authentication failed\r\n\r\n".encode())
            elif packet["Action"] == "Command" and self.instead is not None:
                writer.write(self.instead)
                break
            elif packet["Action"] == "Command":
                self.commands.append(packet["Command"])
                output = "".join(f"Output: {one}\r\n" for one in self.lines)
                writer.write(f"Response: Success\r\n{answer}Message: follows\r\n{output}\r\n".encode())
            else:
                writer.write(f"Response: Success\r\n{answer}\r\n".encode())
        writer.close()

    async def _read(self, reader):
        packet = {}
        while (text := (await reader.readline()).decode().strip()) or not packet:
            if reader.at_eof():
                return None
            name, _, packet_value = text.partition(": ")
            packet[name] = packet_value
        return packet


@asynccontextmanager
async def fake_ami():
    ami = FakeAmi()
    server = await asyncio.start_server(ami.serve, "127.0.0.1", 0)
    ami.port = server.sockets[0].getsockname()[1]
    try:
        yield ami
    finally:
        server.close()
        await server.wait_closed()


def user_of(ami, **changes):
    return AmiSettings(host="127.0.0.1", port=ami.port, user="watch", password=ts.SecretStr(SECRET), **changes)


@asynccontextmanager
async def watching(server, ami=None, **changes):
    """A watch whose looks the test takes one by one."""
    settings = evolve(SETTINGS, url=server.url, **changes)
    async with AriRest(settings) as rest:
        watch = PbxWatch(settings, user_of(ami) if ami else AmiSettings())

        async def look():
            with structlog.testing.capture_logs() as logs:
                await watch.look(rest)
            return [(log["log_level"], log["event"].partition(":")[0]) for log in logs]

        yield look


DEADLOCK = ("error", "ARI is deadlocked, only a restart of Asterisk helps")


def test_a_healthy_asterisk_is_no_news(run):
    """Nor is one that does not know our application at the moment."""

    async def scenario():
        async with FakeAri() as server, watching(server) as look:
            server.dials_out = True
            told = await look()
            server.dials_out = False
            return told + await look()

    assert run(scenario()) == []


def test_a_deadlock_is_told_once_and_then_left_alone(run, monkeypatch):
    """Applications hang while the rest answers: an alarm, no further probe for ten minutes, then the alarm again."""

    async def scenario():
        async with FakeAri() as server, watching(server, request_timeout_s=0.3) as look:
            server.dials_out = True
            server.hang_rest = {APPLICATION}
            first = await look()
            server.requests.clear()
            second, asked = await look(), list(server.requests)
            monkeypatch.setattr(pbx_watch, "REMIND_S", 0.0)
            return first, second, asked, await look()

    assert run(scenario()) == ([DEADLOCK], [], ["GET asterisk/info"], [DEADLOCK])


def test_another_text_of_the_same_instant_is_no_new_asterisk(run):
    """The zone's offset changed: no further probe, which would leave one more thread hanging."""

    async def scenario():
        async with FakeAri() as server, watching(server, request_timeout_s=0.3) as look:
            server.dials_out = True
            server.hang_rest = {APPLICATION}
            await look()
            server.startup_time = "2026-11-22T06:59:21.339-0300"
            server.requests.clear()
            return await look(), list(server.requests)

    assert run(scenario()) == ([], ["GET asterisk/info"])


def test_the_end_of_a_deadlock_is_told(run):
    """Asterisk was restarted: its start-up time says so at the next look."""

    async def scenario():
        async with FakeAri() as server, watching(server, request_timeout_s=0.3) as look:
            server.dials_out = True
            server.hang_rest = {APPLICATION}
            await look()
            server.hang_rest = {APPLICATION, "asterisk/info"}
            away = await look()
            server.hang_rest = set()
            server.startup_time = "2026-11-22T11:00:00.000+0000"
            return away, await look(), await look()

    assert run(scenario()) == ([], [("info", "ARI answers again")], [])


def test_an_asterisk_that_is_away_is_no_deadlock(run):
    """Nothing answers: the connection's own alarms tell that."""

    async def scenario():
        async with FakeAri() as server, watching(server, request_timeout_s=0.3) as look:
            server.hang_rest = {APPLICATION, "asterisk/info"}
            return await look()

    assert run(scenario()) == []


PILE = ("warning", "events pile up in Asterisk")
OVERLOAD = ("error", "Asterisk is overloaded by events and may ignore new calls")
OVER = ("info", "events pile up in Asterisk no longer")


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ([0, 100, 0], [[], [], []]),
        ([101, 150, 0], [[PILE], [], [OVER]]),
        ([10, 20, 30, 30], [[], [], [PILE], [OVER]]),
        ([1, 2, 3], [[], [], []]),
        ([499, 500, 400, 600, 90], [[PILE], [OVERLOAD], [], [], [OVER]]),
        ([700, None], [[OVERLOAD], [OVER]]),
    ],
)
def test_queues_that_grow_are_told(run, lengths, told):
    """Above 100, or longer from look to look: a warning. At the high water mark: an alarm. None: it is gone."""

    async def scenario():
        async with FakeAri() as server, fake_ami() as ami, watching(server, ami) as look:
            logs = []
            for length in lengths:
                ami.lines = [HEADER, "", "1 taskprocessors"] if length is None else [HEADER, line(length), ""]
                logs.append(await look())
            assert set(ami.commands) == {"core show taskprocessors like stasis/m:ari"}
            return logs

    assert run(scenario()) == told


def test_queues_that_cannot_be_asked_for_are_told_once(run):
    """And again when they can."""

    async def scenario():
        async with FakeAri() as server, fake_ami() as ami, watching(server, ami) as look:
            ami.instead = b"Response: "
            told = [await look(), await look()]
            ami.instead = None
            return [*told, await look()]

    broken, again = ("warning", "Asterisk's queues cannot be watched"), ("info", "Asterisk's queues are watched again")
    assert run(scenario()) == [[broken], [], [again]]


def test_both_versions_of_the_table_are_read():
    """Asterisk 22 shows two columns more than 16; headers, counts and odd lines are no queues."""
    lines = [
        HEADER + " Low time(us) High time(us)",
        line(7),
        line(8, times="          0        703"),
        "",
        "2 taskprocessors",
    ]
    assert [(queue.length, queue.high_water) for queue in parse_queues([*lines, "x 1 2", line("-3")])] == [
        (7, 500),
        (8, 500),
    ]


def session(run, prepare=lambda _ami: None, **changes):
    """What an AMI session ends with where a command is run in it."""

    async def scenario():
        async with fake_ami() as ami:
            prepare(ami)
            settings = evolve(user_of(ami), **changes)
            async with ami_session(settings, timeout_s=0.5) as opened:
                return await opened.run_command("core show version")

    return run(scenario())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": ts.SecretStr("guessed")}, "Login: Authentication failed"),
        ({"password": ts.SecretStr("x\r\nAction: Originate")}, "a line end is not allowed"),
        ({"port": 1}, "Connect call failed"),
    ],
)
def test_a_session_that_cannot_be_opened(run, changes, said):
    """The reason is told, the secret is not."""
    with pytest.raises(AmiError, match=said) as error:
        session(run, **changes)
    assert "guessed" not in str(error.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"Response: Success\r\nActionID: 2\r\n", "in mid-answer"),
        (b"Response: Error\r\nActionID: 2\r\nMessage: m\r\nOutput: No such command\r\n\r\n", "No such command"),
        (b"Response: Error\r\nActionID: 2\r\n\r\n", "Command: no success"),
        (b"a: b\r\n" * 20_000, "more than 10000 lines"),
        (b"a" * 100_000, "limit"),
    ],
)
def test_an_answer_that_is_none(run, answer, said):
    """Cut, refused, endless: an error, and never a hang."""
    with pytest.raises(AmiError, match=said):
        session(run, lambda ami: setattr(ami, "instead", answer))


def test_a_silent_manager_interface_is_given_up(run):
    """The whole session has a time limit."""

    async def scenario():
        ended = asyncio.Event()

        async def say_nothing(reader, writer):
            await reader.read()
            writer.close()
            ended.set()

        async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            settings = AmiSettings(host="127.0.0.1", port=port, user="watch")
            with pytest.raises(AmiError, match=r"no answer within 0\.05 s"):
                async with ami_session(settings, timeout_s=0.05):
                    pass
            await ended.wait()

    run(scenario())


def test_it_looks_at_intervals_or_not_at_all(run):
    """0 switches it off, and it is done at once."""

    async def scenario():
        async with FakeAri() as server:
            settings = evolve(SETTINGS, url=server.url)
            await PbxWatch(evolve(settings, watch_interval_s=0.0), AmiSettings()).run()
            assert server.requests == []
            watching = asyncio.create_task(PbxWatch(evolve(settings, watch_interval_s=0.01), AmiSettings()).run())
            await until(lambda: len(server.requests) >= 2)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            return set(server.requests)

    assert run(scenario()) == {f"GET {APPLICATION}"}
