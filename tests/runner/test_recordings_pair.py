"""Two daemons for one Asterisk and one spool: who publishes stores the recordings, and the other one goes on there."""

import json
import signal
import sqlite3
from contextlib import closing

import pytest

from tests.runner.audio_servers import BASE_URL
from tests.runner.processes import Process, daemon_arguments
from tests.runner.recording_calls import Recorder, describe_ftp
from tests.runner.sounds import decoded_seconds
from tests.runner.test_pair_daemons import LEADS, is_empty, led_by_a
from tests.runner.waiting import until

CALLS = 5


class Pair:
    """Both daemons, each with an ARI of its own that says the same, and the spool of both."""

    def __init__(self, folder, directory, meeting, servers):
        self.folder, self.directory, self.meeting, self.servers = folder, directory, meeting, servers
        self.recorder = Recorder(folder / "spool")
        self.daemons = {}

    async def start(self, name):
        """Start a member."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        arguments = daemon_arguments(
            self.servers[name].url, str(folder), str(self.directory), pair_member=name, pair_vhost=self.meeting,
            **self.recorder.options(folder),
        )  # fmt: skip
        self.daemons[name] = await Process.start("arimonitor_runner.daemon", *arguments)
        await self.daemons[name].until_logged("ARI connection up")
        await self.daemons[name].until_logged("the pair's connection to RabbitMQ is up")

    async def end_calls(self):
        """Let some calls begin and end, for both."""
        for _ in range(CALLS):
            call = self.recorder.make(3)
            for name in self.daemons:
                await self.servers[name].send(*call.events)

    def entries(self, name, columns="guid, step"):
        """What a member knows of recordings."""
        with closing(sqlite3.connect(self.folder / name / "outbox.db")) as connection:
            return connection.execute(f"SELECT {columns} FROM recordings ORDER BY id").fetchall()

    def count(self, name, step):
        """How many recordings of a member are at a step."""
        return [found for _, found in self.entries(name)].count(step)

    async def until_told(self):
        """Wait until nobody has anything left to publish."""
        await until(lambda: all(is_empty(self.folder / name / "outbox.db") for name in self.daemons))


@pytest.fixture
def pair(tmp_path, directory, rabbit, ftp):
    """Run a scenario with `a` leading and `b` standing by."""
    (directory / "audioservers.def").write_text(describe_ftp(ftp, BASE_URL))

    async def runner(scenario):
        async with led_by_a(lambda servers: Pair(tmp_path, directory, rabbit.new_vhost(), servers)) as both:
            return await scenario(both)

    return runner


def test_who_does_not_lead_touches_no_recording_until_it_leads(pair, ftp, rabbit, vhost, run):
    """The leader dies while its audio server is away; what it could not store is stored by the other one."""

    async def scenario(both):
        await both.end_calls()
        await until(lambda: both.count("a", "published") == CALLS)
        await both.until_told()
        stored = ftp.names()
        ftp.kill()
        await both.end_calls()
        await until(lambda: both.count("a", "converted") == CALLS and len(both.entries("b")) == 2 * CALLS)
        untouched = both.entries("b", "server, attempts, wav_bytes"), (both.folder / "b" / "work").exists()
        await both.daemons["a"].end(signal.SIGKILL)
        await both.daemons["b"].until_logged(LEADS)
        await both.start("a")
        ftp.start()
        await until(lambda: both.count("b", "published") == 2 * CALLS)
        await both.until_told()
        left = both.entries("a")
        return (
            both.recorder.calls,
            stored,
            untouched,
            left,
            [await both.daemons[name].end(signal.SIGTERM) for name in ("a", "b")],
        )

    calls, stored, untouched, left, exit_statuses = run(pair(scenario))
    assert exit_statuses == [0, 0]
    assert stored == sorted(call.name for call in calls[:CALLS])
    assert untouched == ([("", 0, 0)] * 2 * CALLS, False)
    assert [step for _, step in left] == ["published"] * CALLS + ["converted"] * CALLS
    assert ftp.names() == sorted(call.name for call in calls)
    assert all(abs(decoded_seconds(ftp.files / call.name) - call.seconds) < 1 for call in calls)
    told = {}
    for _, properties, body in rabbit.consume(vhost, 10**6, timeout_s=1):
        assert told.setdefault(properties.message_id, body) == body
    links = {data["guid"]: data["recordings"] for data in (json.loads(body)["data"] for body in told.values())
             if data.get("channelstatus") == "closed"}  # fmt: skip
    assert links == {call.guid: [BASE_URL + call.name] for call in calls}
    assert not any(":recording:" in message_id for message_id in told)
