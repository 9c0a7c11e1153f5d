"""The whole daemon, killed again and again while it stores recordings: between Asterisk, RabbitMQ and an FTP server."""

import asyncio
import json
import random
import signal
import sqlite3
from contextlib import closing

import pytest

from tests.runner.audio_servers import BASE_URL
from tests.runner.fake_ari import FakeAri
from tests.runner.processes import Process, daemon_arguments
from tests.runner.recording_calls import Recorder, describe_ftp
from tests.runner.sounds import decoded_seconds
from tests.runner.waiting import until

LIVES = 30
CALLS = 2
"""In each life."""
EMPTY = 10
"""Every so many recordings nothing was recorded: Asterisk's header and no sample."""
TIME_LIMIT_S = 240
"""Thirty starts of a daemon, on a machine that does other things as well."""


class Scene:
    """What is on the disks of the daemon and of the audio server."""

    def __init__(self, folder, ftp):
        self.folder, self.ftp = folder, ftp
        self.seen = set()

    def entries(self):
        """(guid, step) of all recordings that the daemon knows."""
        return self.ask("SELECT guid, step FROM recordings")

    def ask(self, query):
        """Look into the daemon's outbox."""
        if not (self.folder / "outbox.db").exists():
            return []
        with closing(sqlite3.connect(self.folder / "outbox.db")) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'recordings'").fetchone() is None:
                return []
            return connection.execute(query).fetchall()

    def is_empty(self):
        """Has everything been told?"""
        return self.ask("SELECT 1 FROM recordings WHERE is_told = 0 UNION ALL SELECT 1 FROM messages") == []

    def files(self):
        """What lies in the work folder and on the server."""
        work = self.folder / "work"
        here = {f"work/{path.name}" for path in work.iterdir()} if work.exists() else set()
        return here | {f"server/{name}" for name in self.ftp.names()}

    def begin(self):
        """What is there from now on is new."""
        self.seen = self.files() | set(self.entries())

    def is_new(self, place, suffix):
        """Is there a new file of that kind?"""
        return any(name.startswith(place) and name.endswith(suffix) for name in self.files() - self.seen)

    def has_new(self, *steps):
        """Has a recording reached one of these steps?"""
        return any(entry[1] in steps for entry in set(self.entries()) - self.seen)


MOMENTS = {
    "heard": lambda _scene: True,
    "noted": lambda scene: scene.has_new("found", "finished"),
    "converting": lambda scene: scene.is_new("work/", ".part"),
    "converted": lambda scene: scene.is_new("work/", ".mp3"),
    "uploading": lambda scene: scene.is_new("server/", ".part"),
    "uploaded": lambda scene: scene.is_new("server/", ".mp3"),
    "published": lambda scene: scene.has_new("published"),
}
"""What a kill waits for, before it waits for a random time."""


class Story:
    """A daemon that is started again whenever it was killed."""

    def __init__(self, tmp_path, directory, ftp):
        self.scene = Scene(tmp_path, ftp)
        self.recorder = Recorder(tmp_path / "spool")
        self.chance = random.Random(8017)
        self.noted, self.struck = set(), set()
        self.folder, self.directory = tmp_path, directory

    async def start(self, asterisk):
        """Start it, and wait until it listens."""
        arguments = daemon_arguments(
            asterisk.url, str(self.folder), str(self.directory), **self.recorder.options(self.folder)
        )
        daemon = await Process.start("arimonitor_runner.daemon", *arguments)
        await daemon.until_logged("ARI connection up")
        return daemon

    async def live(self, asterisk, moment):
        """Have calls end, and kill it at that moment of their recordings."""
        self.scene.begin()
        daemon = await self.start(asterisk)
        for _ in range(CALLS):
            is_empty = len(self.recorder.calls) % EMPTY == EMPTY - 1
            call = self.recorder.make(0 if is_empty else self.chance.randint(20, 90))
            await asterisk.send(*call.events)
        await until(lambda: MOMENTS[moment](self.scene) or self.is_settled())
        await asyncio.sleep(self.chance.uniform(0, 0.02))
        assert await daemon.end(signal.SIGKILL) == -signal.SIGKILL
        entries = self.scene.entries()
        self.noted |= {guid for guid, _ in entries}
        self.struck |= {step for _, step in entries}

    def is_settled(self):
        """Has every call ended, and is everything known of its recording?"""
        entries = self.scene.entries()
        return len(entries) == len(self.recorder.calls) and all(s in ("published", "given-up") for _, s in entries)

    async def finish(self, asterisk):
        """Let it work off what is left."""
        daemon = await self.start(asterisk)
        await until(self.scene.is_empty)
        assert await daemon.end(signal.SIGTERM) == 0


def test_thirty_kills_lose_and_double_no_recording(tmp_path, directory, ftp, rabbit, vhost):
    """Each is on the server, once and whole, or lost with the reason; each message is told, always with equal words."""
    (directory / "audioservers.def").write_text(describe_ftp(ftp, BASE_URL))
    story = Story(tmp_path, directory, ftp)

    async def scenario():
        async with FakeAri() as asterisk, asyncio.timeout(TIME_LIMIT_S):
            for life in range(LIVES):
                await story.live(asterisk, list(MOMENTS)[life % len(MOMENTS)])
            await story.finish(asterisk)

    asyncio.run(scenario())
    calls = {call.guid: call for call in story.recorder.calls}
    rows = story.scene.ask("SELECT guid, step, name, mp3_bytes, error FROM recordings")
    known = {guid for guid, *_ in rows}
    told = {}
    for _, properties, body in rabbit.consume(vhost, 10**6, timeout_s=1):
        assert told.setdefault(properties.message_id, body) == body
    data = [json.loads(body)["data"] for body in told.values()]
    links = {one["guid"]: one["recordings"] for one in data if "recordings" in one}
    lost = {one["guid"]: one for one in data if one.get("status") == "lost"}
    assert story.struck >= {"found", "finished", "converted", "uploaded"}
    assert story.noted <= known == links.keys()
    assert len(known) == len(rows)
    for guid, step, name, mp3_bytes, error in rows:
        if calls[guid].seconds == 0:
            assert (step, links[guid]) == ("given-up", [])
            assert "nothing was recorded" in error
            assert lost[guid]["reason"] == error
        else:
            assert (step, links[guid]) == ("published", [BASE_URL + name])
            assert len(ftp.read(name)) == mp3_bytes
            assert decoded_seconds(ftp.files / name) == pytest.approx(calls[guid].seconds, abs=1)
    assert ftp.names() == sorted(calls[guid].name for guid in known if calls[guid].seconds)
