"""Recordings in the daemon: from Asterisk's events to a link that works."""

import asyncio
import json
import sqlite3
import time
from contextlib import closing

from attrs import evolve
from typed_settings import SecretStr

from arimonitor_core.effects import StoreRecordings
from arimonitor_core.monitor import Monitor
from arimonitor_runner.control import CommandError, send_command
from arimonitor_runner.directory_sources.text import load_directory
from arimonitor_runner.settings import (
    AriSettings,
    DirectorySettings,
    JournalSettings,
    OutboxSettings,
    RecordingsSettings,
    Settings,
)
from arimonitor_runner.sinks import LocalSink
from arimonitor_runner.wiring import ExitStatus, Seams, run_daemon
from tests.runner.audio_servers import FtpServer
from tests.runner.daemons import playing
from tests.runner.fake_ari import PASSWORD, USER
from tests.runner.recording_desk import fleet
from tests.runner.replays import DIRECTORY, capture
from tests.runner.sounds import decoded_seconds, write_wav
from tests.runner.waiting import until

CAPTURE = "answered_caller_hangs_up"


def stores():
    """What a replay of the capture wants to be stored."""
    monitor = Monitor(server="pbx", directory=load_directory(DIRECTORY, {}).directory)
    effects = [effect for record in capture(CAPTURE) for effect in monitor.handle(record)]
    return [effect for effect in effects if isinstance(effect, StoreRecordings)]


def settings_of(tmp_path, url):
    """A daemon on this folder, whose Asterisk sees another spool than it does."""
    (spool,) = {file.path.rpartition("/")[0] for store in stores() for file in store.files}
    return Settings(
        server="pbx",
        drain_timeout_s=1.0,
        ari=AriSettings(url=url, user=USER, password=SecretStr(PASSWORD)),
        directory=DirectorySettings(folder=DIRECTORY),
        outbox=OutboxSettings(path=tmp_path / "outbox.db"),
        journal=JournalSettings(folder=tmp_path / "journal"),
        recordings=RecordingsSettings(
            folders=(str(tmp_path / "spool"),),
            path_map=(f"{spool}={tmp_path}/spool",),
            work_folder=tmp_path / "work",
            missing_after_s=1e9,
            give_up_after_s=1e9,
        ),
    )


class Daemon:
    """One run in this process, and what it says."""

    def __init__(self, settings, audio):
        self.stop = asyncio.Event()
        self.messages = []
        seams = Seams(
            make_sink=lambda store: LocalSink(store, self.messages.append),
            audio=audio,
            stop=self.stop,
            handle_signals=False,
        )
        self.task = asyncio.create_task(run_daemon(settings, seams))

    def ends(self):
        """The data of each message that has links."""
        told = [json.loads(message.body)["data"] for message in self.messages]
        return [data for data in told if "urlfilename" in data]

    async def end(self):
        """Stop it; gives its exit status."""
        self.stop.set()
        return await self.task


def test_a_call_ends_with_a_link_that_works(tmp_path, run):
    """Its WAV is found where the daemon sees it, and the control socket knows the desk."""
    ftp = FtpServer(tmp_path / "audio")
    ftp.start()
    wanted = stores()

    async def scenario():
        async with playing(CAPTURE) as (server, events):
            for store in wanted:
                for file in store.files:
                    write_wav(tmp_path / "spool" / file.path.rpartition("/")[2], 2)
            audio = fleet(ftp.server(base_url="http://audio2.example/voip1/"))(time.monotonic)
            daemon = Daemon(settings_of(tmp_path, server.url), audio)
            await server.when_subscribed()
            await server.send(*events)
            await until(lambda: len(daemon.ends()) == len(wanted))
            answer = await send_command(tmp_path / "journal", {"command": "retry-recordings"})
            return daemon.ends(), answer, await daemon.end()

    try:
        ends, answer, status = run(scenario())
    finally:
        ftp.kill()
    assert (answer, status) == ({}, ExitStatus.STOPPED)
    names = [file.path.rpartition("/")[2].replace(".wav", ".mp3") for store in wanted for file in store.files]
    assert [data["urlfilename"] for data in ends] == [f"http://audio2.example/voip1/{name}" for name in names]
    assert ftp.names() == sorted(names)
    assert all(abs(decoded_seconds(ftp.files / name) - 2) < 1 for name in names)


def test_without_an_audio_server_nothing_waits_and_what_waited_goes_out(tmp_path, run):
    """Links are as the settings say. A message that an earlier run left waiting is told as it was decided."""
    wanted = stores()

    async def scenario():
        async with playing(CAPTURE) as (server, events):
            settings = settings_of(tmp_path, server.url)
            # No server lets anything in: the messages still wait when this run ends.
            first = Daemon(
                evolve(settings, recordings=evolve(settings.recordings, max_wait_s=1e6)), fleet()(time.monotonic)
            )
            await server.when_subscribed()
            await server.send(*events)
            await until(lambda: _steps(tmp_path))
            status = await first.end()
        async with playing(CAPTURE) as (server, _):
            second = Daemon(settings_of(tmp_path, server.url), None)
            await server.when_subscribed()
            await until(lambda: len(second.ends()) == len(wanted))
            try:
                answer = await send_command(tmp_path / "journal", {"command": "retry-recordings"})
            except CommandError as error:
                answer = str(error)
            await second.end()
            return first.ends(), status, second.ends(), answer

    before, status, ends, answer = run(scenario())
    assert (before, status) == ([], ExitStatus.STOPPED)
    assert [data["recordings"] for data in ends] == [[file.url for file in store.files] for store in wanted]
    assert "no audio server" in answer


def _steps(tmp_path):
    if not (tmp_path / "outbox.db").exists():
        return []
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'recordings'").fetchone() is None:
            return []
        return connection.execute("SELECT guid, step FROM recordings ORDER BY id").fetchall()
