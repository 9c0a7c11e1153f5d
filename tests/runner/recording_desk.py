"""A desk at work in a test: a spool, an outbox, audio servers that are really there, and a clock that is set."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import asynccontextmanager

import msgspec
from attrs import evolve

from arimonitor_core.directory import Client, Directory
from arimonitor_core.effects import RecordedFile, StoreRecordings
from arimonitor_runner.outbox import Outbox
from arimonitor_runner.recordings.audio import Audio
from arimonitor_runner.recordings.desk import Desk
from arimonitor_runner.recordings.ledger import Ledger, read_entries
from arimonitor_runner.recordings.servers import AudioServers
from arimonitor_runner.recordings.transports import Transports
from arimonitor_runner.settings import RecordingsSettings
from tests.runner.audio_servers import BASE_URL
from tests.runner.conftest import build_message
from tests.runner.waiting import until


def fleet(*known):
    """Make the audio servers and what moves files there, as often as a station starts. Chance is the same each time."""
    return lambda clock: Audio(AudioServers(known, chance=random.Random(8017), clock=clock), Transports())


DIRECTORY = Directory.of(
    clients=[Client(code="112", vhost="t"), Client(code="113", vhost="t", ftp_wav=True)],
)


class Clock:
    """Unix seconds, as they are set."""

    def __init__(self) -> None:
        self.now = 1_795_338_500.0

    def __call__(self) -> float:
        """Give them."""
        return self.now


class Station:
    """One daemon's part in it, which can be stopped and started again on the same files."""

    def __init__(self, folder, make_audio, clock, **settings):
        self.folder = folder
        self.spool = folder / "spool"
        self.spool.mkdir(exist_ok=True)
        self.clock = clock
        self.settings = evolve(RecordingsSettings(folders=(str(self.spool),), work_folder=folder / "work"), **settings)
        self.make_audio = make_audio
        self.messages = []
        self.is_leading = True

    async def open(self):
        """Open the files."""
        self.outbox = Outbox(self.folder / "outbox.db")
        await self.outbox.open()
        self.ledger = Ledger(self.outbox, clock=self.clock, max_wait_s=self.settings.max_wait_s)
        self.ledger.open()

    def start(self):
        """Begin to work."""
        self.desk = Desk(
            self.ledger,
            self.settings,
            directory=DIRECTORY,
            audio=self.make_audio(self.clock),
            offer=self.messages.extend,
            clock=self.clock,
            is_active=lambda: self.is_leading,
        )
        self.task = asyncio.create_task(self.desk.run())

    async def stop(self):
        """Abandon what is under way."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def end(self, guid, *paths, client="112"):
        """A call with these recordings is over."""
        paths = paths or (str(self.spool / f"{guid}.wav"),)
        names = [path.rpartition("/")[2].rpartition(".")[0] for path in paths]
        files = [
            RecordedFile(path, f"{BASE_URL}{name}.mp3", not number)
            for number, (path, name) in enumerate(zip(paths, names, strict=True))
        ]
        links = {"urlfilename": files[0].url, "recordings": [file.url for file in files]}
        closed = build_message(guid, "closed", body=msgspec.json.encode({"data": links}))
        now_ms = round(self.clock() * 1000)
        store = StoreRecordings(
            message_id=closed.message_id, guid=guid, callnumber=1, vhost="t", client=client, origin="1121",
            destiny="1122", created_ms=now_ms - 9_000, answered_ms=now_ms - 5_000, ended_ms=now_ms,
            files=tuple(files),
        )  # fmt: skip
        await self.outbox.append([store, closed])
        self.desk.nudge()

    async def advance(self, seconds):
        """Time goes on."""
        self.clock.now += seconds
        self.desk.nudge()

    async def told(self, count):
        """The data of so many messages, once they are there."""
        await until(lambda: len(self.messages) >= count)
        return [json.loads(message.body)["data"] for message in self.messages]

    async def waits(self, failures):
        """So many attempts have failed, and that is written down."""
        await until(lambda: self.desk.counts.failures >= failures and not self.desk.busy)

    async def entries(self):
        """All that the ledger knows."""
        return await self.outbox.transact(read_entries)


@asynccontextmanager
async def working(folder, make_audio, **settings):
    """A station that works until the end."""
    station = Station(folder, make_audio, Clock(), **settings)
    await station.open()
    station.start()
    try:
        yield station
    finally:
        await station.stop()
        await station.outbox.close()
