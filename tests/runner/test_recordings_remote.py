"""The desk with real audio servers that convert, behind a real sshd, and with several servers at a time."""

import asyncio
import os
import shutil
import signal

import pytest

from tests.runner.audio_servers import BASE_URL, FtpServer, SshServer
from tests.runner.recording_desk import Clock, Station, fleet, working
from tests.runner.sounds import decoded_seconds, set_sizes, write_wav
from tests.runner.waiting import until

CLIENT = "113"
"""Its recordings are converted on an audio server."""
NO_LAME = {"lame": "/no/lame/here"}
"""What is converted with these settings was converted elsewhere."""
URL2 = "http://audio2.example/voip1/"
URL3 = "http://audio3.example/voip1/"


def test_a_recording_is_converted_where_it_will_be(tmp_path, sshd, run):
    """Nothing is left there but the MP3, and nothing was made here."""

    async def scenario():
        async with working(tmp_path, fleet(sshd.server()), **NO_LAME) as station:
            write_wav(station.spool / "a.wav", 7.3)
            await station.end("a", client=CLIENT)
            return await station.told(1), await station.entries()

    (closed,), (entry,) = run(scenario())
    assert closed == {"urlfilename": f"{BASE_URL}a.mp3", "recordings": [f"{BASE_URL}a.mp3"]}
    assert sshd.names() == ["a.mp3"]
    assert abs(decoded_seconds(sshd.files / "a.mp3") - 7.3) < 1
    assert (entry.step, entry.mp3_bytes, entry.sha256) == ("published", len(sshd.read("a.mp3")), "")
    assert not (tmp_path / "work").exists()


def test_where_no_server_converts_it_is_done_here(tmp_path, start_server, run):
    """The client wants it otherwise, but an FTP server runs no LAME."""
    ftp = start_server(FtpServer)

    async def scenario():
        async with working(tmp_path, fleet(ftp.server())) as station:
            write_wav(station.spool / "a.wav", 2)
            await station.end("a", client=CLIENT)
            await station.told(1)

    run(scenario())
    assert abs(decoded_seconds(ftp.files / "a.mp3") - 2) < 1


@pytest.mark.parametrize("kind", ["open", "truncated"])
def test_a_wav_in_trouble_is_not_sent_before_it_is_whole(tmp_path, sshd, run, kind):
    """It is waited for, or mended here."""

    async def scenario():
        async with working(tmp_path, fleet(sshd.server()), **NO_LAME) as station:
            path = set_sizes(write_wav(station.spool / "a.wav", 4), riff=0, data=0)
            os.truncate(path, 44 + 3 * 16_000 + 1)
            if kind == "open":
                with path.open("ab"):
                    await station.end("a", client=CLIENT)
                    await station.waits(1)
                    assert sshd.names() == []
                await station.advance(1)
            else:
                await station.end("a", client=CLIENT)
            await station.told(1)

    run(scenario())
    assert abs(decoded_seconds(sshd.files / "a.mp3") - 3) < 1


@pytest.mark.parametrize("trouble", ["gone", "full", "refused", "unknown host", "without LAME"])
def test_another_server_converts_what_the_first_one_cannot(tmp_path, start_server, run, trouble):
    """Nothing is left on the first one, and the message has the right link."""
    first = start_server(SshServer, "first", disk_kb=200 if trouble == "full" else 0)
    second = start_server(SshServer, "second")
    changes = {
        "refused": {"key_file": second.folder / "client_key"},
        "unknown host": {"known_hosts": second.folder / "known_hosts"},
        "without LAME": {"lame": "/no/lame/here"},
    }
    known = first.server(**changes.get(trouble, {}))
    if trouble == "gone":
        first.kill()

    async def scenario():
        servers = fleet(known, second.server("audio2", base_url=URL2, weight=0))
        async with working(tmp_path, servers, **NO_LAME) as station:
            write_wav(station.spool / "a.wav", 20)
            await station.end("a", client=CLIENT)
            return await station.told(1), await station.entries()

    (closed,), (entry,) = run(scenario())
    assert closed["urlfilename"] == f"{URL2}a.mp3"
    assert (entry.server, second.names()) == ("audio2", ["a.mp3"])
    assert abs(decoded_seconds(second.files / "a.mp3") - 20) < 1
    assert first.names() == []


def test_lame_that_is_missing_there_is_waited_for(tmp_path, sshd, run):
    """Somebody installs it; the ledger says meanwhile what is wrong."""
    program = tmp_path / "lame-there"

    async def scenario():
        async with working(tmp_path, fleet(sshd.server(lame=str(program))), **NO_LAME) as station:
            write_wav(station.spool / "a.wav")
            await station.end("a", client=CLIENT)
            await station.waits(1)
            (entry,) = await station.entries()
            program.symlink_to(shutil.which("lame"))
            await station.advance(1)
            await station.told(1)
            return entry.error

    assert f"{program} failed (127)" in run(scenario())
    assert sshd.names() == ["a.mp3"]


def test_a_server_that_comes_back_after_an_hour_gets_what_waited(tmp_path, sshd, run):
    """The message has gone out long ago, with the link that works now."""

    async def scenario():
        async with working(tmp_path, fleet(sshd.server()), **NO_LAME) as station:
            sshd.kill()
            write_wav(station.spool / "a.wav")
            await station.end("a", client=CLIENT)
            await station.waits(1)
            await station.advance(30)
            (closed,) = await station.told(1)
            await station.waits(2)
            await station.advance(3600)
            await station.waits(3)
            sshd.start()
            await station.advance(60)
            return closed, (await station.told(2))[1]

    closed, late = run(scenario())
    assert closed["urlfilename"] == f"{BASE_URL}a.mp3"
    assert (late["status"], late["urlfilename"]) == ("stored-late", f"{BASE_URL}a.mp3")
    assert sshd.names() == ["a.mp3"]


def test_a_server_that_dies_in_the_middle_of_a_wav_is_left(tmp_path, start_server, run):
    """The first one has a part of the WAV and no MP3; the other one has all of it."""
    first, second = start_server(SshServer, "first"), start_server(SshServer, "second")
    servers = fleet(first.server(), second.server("audio2", base_url=URL2, weight=0))

    async def scenario():
        async with working(tmp_path, servers, **NO_LAME) as station:
            size = write_wav(station.spool / "a.wav", 1800).stat().st_size
            await station.end("a", client=CLIENT)
            await until(lambda: first.names() == ["a.mp3.wav.part"])
            first.signal(signal.SIGSTOP)
            assert (first.files / "a.mp3.wav.part").stat().st_size < size
            first.kill()
            return await station.told(1)

    (closed,) = run(scenario())
    assert closed["urlfilename"] == f"{URL2}a.mp3"
    assert (first.names(), second.names()) == (["a.mp3.wav.part"], ["a.mp3"])
    assert abs(decoded_seconds(second.files / "a.mp3") - 1800) < 1


@pytest.mark.parametrize("step", ["found", "finished", "uploaded"])
def test_it_goes_on_after_a_restart_at_any_step(tmp_path, sshd, run, step):
    """What is converted there is not converted again."""

    async def scenario():
        station = Station(tmp_path, fleet(sshd.server()), Clock(), **NO_LAME)
        await station.open()
        write_wav(station.spool / "a.wav", 2)
        stopped = asyncio.Event()
        update = station.ledger.update

        async def update_until(entry, **changes):
            entry = await update(entry, **changes)
            if entry.step == step:
                stopped.set()
                await asyncio.Event().wait()
            return entry

        station.ledger.update = update_until
        station.start()
        if step == "found":
            await station.stop()
        await station.end("a", client=CLIENT)
        if step != "found":
            await stopped.wait()
            await station.stop()
        await station.outbox.close()
        before = {name: os.stat(sshd.files / name).st_ino for name in sshd.names()}
        await station.open()
        station.start()
        told = await station.told(1)
        await station.stop()
        await station.outbox.close()
        return before, told

    before, told = run(scenario())
    assert told[0]["urlfilename"] == f"{BASE_URL}a.mp3"
    after = {name: os.stat(sshd.files / name).st_ino for name in sshd.names()}
    assert list(after) == ["a.mp3"]
    assert before == (after if step == "uploaded" else {})
    assert abs(decoded_seconds(sshd.files / "a.mp3") - 2) < 1


def test_several_servers_share_the_recordings_and_stand_in_for_one_another(tmp_path, start_server, run):
    """Each is stored once, for clients of both kinds, over both ways; when one dies, what follows is on the others."""
    first, second, third = (
        start_server(FtpServer, "first"),
        start_server(SshServer, "second"),
        start_server(FtpServer, "third"),
    )
    servers = {BASE_URL: first, URL2: second, URL3: third}
    known = [server.server(f"audio{n}", base_url=url) for n, (url, server) in enumerate(servers.items())]

    async def scenario():
        async with working(tmp_path, fleet(*known), workers=2) as station:

            async def end(letter):
                for number in range(12):
                    write_wav(station.spool / f"{letter}{number}.wav", 1 + number % 3)
                    await station.end(f"{letter}{number}", client=CLIENT if number % 2 else "112")

            await end("a")
            await station.told(12)
            third.kill()
            await end("b")
            return await station.told(24), await station.entries()

    told, entries = run(scenario())
    links = {data["urlfilename"].rpartition("/")[2]: data["urlfilename"] for data in told}
    assert len(links) == len(entries) == 24
    stored = {base + name: server.files / name for base, server in servers.items() for name in server.names()}
    assert sorted(stored) == sorted(links.values())
    shares = [sum(url.startswith(base) and "/voip1/a" in url for url in stored) for base in servers]
    assert sum(shares) == 12
    assert min(shares) > 0
    assert not any(name.startswith("b") for name in third.names())
    for url, path in stored.items():
        number = int(url.rpartition("/")[2][1:].removesuffix(".mp3"))
        assert abs(decoded_seconds(path) - (1 + number % 3)) < 1
