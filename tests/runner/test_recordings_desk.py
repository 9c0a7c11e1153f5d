"""The desk, with real audio servers: each recording is stored once and whole, or is told lost with the reason."""

import asyncio
import os
import shutil
from functools import partial

import pytest
from typed_settings import SecretStr

from arimonitor_runner.recordings import wav
from tests.runner.audio_servers import BASE_URL, FtpServer
from tests.runner.recording_desk import Clock, Station, fleet, working
from tests.runner.sounds import decoded_seconds, set_sizes, write_wav
from tests.runner.waiting import until

URL2 = "http://audio2.example/voip1/"


@pytest.fixture
def start_ftp(start_server):
    """Start FTP servers: `start_ftp(name, **options)`."""
    return partial(start_server, FtpServer)


def test_a_recording_is_converted_stored_and_linked(tmp_path, ftp, run):
    """The message goes out when its link works: a real decoder says how long the MP3 is."""

    async def scenario():
        async with working(tmp_path, fleet(ftp.server())) as station:
            write_wav(station.spool / "a.wav", 7.3)
            await station.end("a")
            (closed,) = await station.told(1)
            return closed, await station.entries()

    closed, (entry,) = run(scenario())
    assert closed == {"urlfilename": f"{BASE_URL}a.mp3", "recordings": [f"{BASE_URL}a.mp3"]}
    assert ftp.names() == ["a.mp3"]
    assert abs(decoded_seconds(ftp.files / "a.mp3") - 7.3) < 1
    assert (entry.step, entry.server, entry.mp3_bytes) == ("published", "audio", len(ftp.read("a.mp3")))


def test_a_wav_that_is_still_written_is_left_alone(tmp_path, ftp, run):
    """It is looked at again with growing pauses, and stored whole once it is closed."""

    async def scenario():
        async with working(tmp_path, fleet(ftp.server()), backoff_first_s=2.0) as station:
            whole = write_wav(tmp_path / "whole.wav", 3).read_bytes()
            with (station.spool / "a.wav").open("wb") as file:
                file.write(whole[:20_000])
                file.flush()
                await station.end("a")
                await station.waits(1)
                (first,) = await station.entries()
                await station.advance(2)
                await station.waits(2)
                (second,) = await station.entries()
                file.write(whole[20_000:])
            at = station.clock.now
            await station.advance(4)
            await station.told(1)
            return first, second, at

    first, second, at = run(scenario())
    assert (first.step, first.error.rpartition(": ")[2]) == ("found", "somebody is still writing to it")
    assert (at - first.next_try_at, second.next_try_at - at) == (0, 4)
    assert abs(decoded_seconds(ftp.files / "a.mp3") - 3) < 1


def test_a_truncated_wav_is_mended_and_stored(tmp_path, ftp, run):
    """Asterisk crashed: the header says nothing, the samples are there."""

    async def scenario():
        async with working(tmp_path, fleet(ftp.server())) as station:
            set_sizes(write_wav(station.spool / "a.wav", 4), riff=0, data=0)
            os.truncate(station.spool / "a.wav", 44 + 3 * 16_000 + 1)
            await station.end("a")
            await station.told(1)

    run(scenario())
    assert abs(decoded_seconds(ftp.files / "a.mp3") - 3) < 1


@pytest.mark.parametrize("kind", ["empty", "garbage", "outside", "odd name"])
def test_what_can_never_be_stored_is_lost_at_once(tmp_path, ftp, run, kind):
    """The message leaves the link out, and a second one says why."""
    reasons = {"empty": "44 bytes", "garbage": "no WAV", "outside": "outside", "odd name": "not plain"}

    async def scenario():
        async with working(tmp_path, fleet(ftp.server())) as station:
            folder = tmp_path if kind == "outside" else station.spool
            path = folder / ("a;b.wav" if kind == "odd name" else "a.wav")
            write_wav(path, 0 if kind == "empty" else 1)
            if kind == "garbage":
                path.write_bytes(b"x" * 5000)
            await station.end("a", str(path))
            told = await station.told(2)
            return told, path.exists(), station.desk.statistics()

    (closed, lost), is_there, counts = run(scenario())
    assert closed == {"urlfilename": "", "recordings": []}
    assert lost["status"] == "lost"
    assert reasons[kind] in lost["reason"]
    assert (is_there, counts["given_up"], counts["refused"]) == (True, 1, kind in ("outside", "odd name"))
    assert ftp.names() == []


def test_a_wav_that_never_comes_is_lost_after_a_while(tmp_path, ftp, run):
    """The message does not wait for that."""

    async def scenario():
        async with working(tmp_path, fleet(ftp.server()), missing_after_s=60) as station:
            await station.end("a")
            await station.waits(1)
            await station.advance(30)
            (closed,) = await station.told(1)
            await station.waits(2)
            await station.advance(31)
            return closed, (await station.told(2))[1]

    closed, lost = run(scenario())
    assert closed["urlfilename"] == f"{BASE_URL}a.mp3"
    assert (lost["status"], lost["reason"].rpartition(": ")[2]) == ("lost", "there is no such file")


def test_lame_that_is_missing_is_waited_for(tmp_path, ftp, run):
    """With growing pauses. Somebody installs it; nothing is lost."""

    async def scenario():
        program = tmp_path / "bin" / "lame"
        program.parent.mkdir()
        async with working(tmp_path, fleet(ftp.server()), lame=str(program)) as station:
            write_wav(station.spool / "a.wav")
            await station.end("a")
            await station.waits(1)
            await station.advance(1)
            await station.waits(2)
            (entry,) = await station.entries()
            program.symlink_to(shutil.which("lame"))
            await station.advance(2)
            await station.told(1)
            return entry, station.clock.now

    entry, now = run(scenario())
    assert "cannot be run" in entry.error
    assert (entry.attempts, now - entry.next_try_at) == (2, 0)
    assert ftp.names() == ["a.mp3"]


def test_a_server_that_comes_back_after_an_hour_gets_what_waited(tmp_path, ftp, run):
    """The message has gone out long ago, with the link that works now."""

    async def scenario():
        async with working(tmp_path, fleet(ftp.server())) as station:
            ftp.kill()
            write_wav(station.spool / "a.wav")
            await station.end("a")
            await station.waits(1)
            await station.advance(30)
            (closed,) = await station.told(1)
            await station.waits(2)
            await station.advance(3600)
            await station.waits(3)
            ftp.start()
            await station.advance(60)
            return closed, (await station.told(2))[1]

    closed, late = run(scenario())
    assert closed["urlfilename"] == f"{BASE_URL}a.mp3"
    assert (late["status"], late["urlfilename"]) == ("stored-late", f"{BASE_URL}a.mp3")
    assert ftp.names() == ["a.mp3"]


@pytest.mark.parametrize("trouble", ["gone", "full", "refused"])
def test_another_server_takes_what_the_first_one_cannot(tmp_path, start_ftp, run, trouble):
    """It is away, its disk is full, or it does not let us in; the message has the right link."""
    first = start_ftp("first", disk_kb=16 if trouble == "full" else 0)
    second = start_ftp("second")
    known = first.server(**({"password": SecretStr("wrong")} if trouble == "refused" else {}))
    if trouble == "gone":
        first.kill()

    async def scenario():
        async with working(tmp_path, fleet(known, second.server("audio2", base_url=URL2, weight=0))) as station:
            write_wav(station.spool / "a.wav", 20)
            await station.end("a")
            return await station.told(1), await station.entries()

    (closed,), (entry,) = run(scenario())
    assert closed["urlfilename"] == f"{URL2}a.mp3"
    assert (entry.server, second.names()) == ("audio2", ["a.mp3"])
    assert "a.mp3" not in first.names()


def test_a_server_that_dies_in_the_middle_of_an_upload_is_left(tmp_path, start_ftp, run):
    """The message is out already: a second one says where the recording is. Nothing is under its name on the first."""
    first, second = start_ftp("first", kb_s=50), start_ftp("second")
    servers = fleet(first.server(), second.server("audio2", base_url=URL2, weight=0))

    def arrived():
        return (first.files / "a.mp3.part").stat().st_size if "a.mp3.part" in first.names() else 0

    async def scenario():
        async with working(tmp_path, servers) as station:
            write_wav(station.spool / "a.wav", 300)
            await station.end("a")
            await until(lambda: arrived() > 0)
            await station.advance(30)
            await station.told(1)
            first.kill()
            return await station.told(2)

    closed, elsewhere = run(scenario())
    assert closed["urlfilename"] == f"{BASE_URL}a.mp3"
    assert (elsewhere["status"], elsewhere["urlfilename"]) == ("stored-elsewhere", f"{URL2}a.mp3")
    assert first.names() == ["a.mp3.part"]
    assert arrived() < len(second.read("a.mp3"))
    assert abs(decoded_seconds(second.files / "a.mp3") - 300) < 1


def test_lame_works_on_the_next_recording_while_one_is_uploaded(tmp_path, start_ftp, run):
    """And never on more of them than there are workers."""
    ftp = start_ftp(kb_s=50)
    program = tmp_path / "lame-alone"
    program.write_text(
        f'#!/bin/sh\nmkdir {tmp_path}/busy || exit 9\nlame "$@"\nstatus=$?\nrmdir {tmp_path}/busy\nexit $status\n'
    )
    program.chmod(0o755)

    async def scenario():
        async with working(tmp_path, fleet(ftp.server()), lame=str(program), workers=1) as station:
            for letter in "abc":
                write_wav(station.spool / f"{letter}.wav", 60)
                await station.end(letter)
            await until(lambda: len(list((tmp_path / "work").glob("*.mp3"))) == 3)
            names = ftp.names()
            await station.told(3)
            return names, station.desk.counts.failures

    names, failures = run(scenario())
    assert not any(name.endswith(".mp3") for name in names)
    assert (ftp.names(), failures) == (["a.mp3", "b.mp3", "c.mp3"], 0)


def test_who_leads_no_more_leaves_an_upload_at_once(tmp_path, start_ftp, run):
    """Another member begins with it now; where it is our turn again, it goes on."""
    ftp = start_ftp(kb_s=50)

    async def scenario():
        async with working(tmp_path, fleet(ftp.server())) as station:
            write_wav(station.spool / "a.wav", 60)
            await station.end("a")
            await until(lambda: "a.mp3.part" in ftp.names())
            station.is_leading = False
            station.desk.nudge()
            await until(lambda: not station.desk.busy)
            (left,) = await station.entries()
            names = ftp.names()
            station.is_leading = True
            station.desk.nudge()
            await station.told(1)
            return left, names

    left, names = run(scenario())
    assert (left.step, left.attempts) == ("converted", 0)
    assert "a.mp3" not in names
    assert ftp.names() == ["a.mp3"]
    assert abs(decoded_seconds(ftp.files / "a.mp3") - 60) < 1


def test_a_recording_that_cannot_be_stored_for_days_is_given_up(tmp_path, ftp, run):
    """Its WAV stays."""

    async def scenario():
        async with working(tmp_path, fleet(ftp.server()), give_up_after_s=1000) as station:
            ftp.kill()
            write_wav(station.spool / "a.wav")
            await station.end("a")
            await station.waits(1)
            await station.advance(1001)
            return (await station.told(2))[1], (station.spool / "a.wav").exists()

    lost, is_there = run(scenario())
    assert (lost["status"], is_there) == ("lost", True)


@pytest.mark.parametrize("step", ["found", "finished", "converted", "uploaded"])
def test_it_goes_on_after_a_restart_at_any_step(tmp_path, ftp, run, step):
    """What is done is not done again; an upload that was whole is seen to be."""

    async def scenario():
        station = Station(tmp_path, fleet(ftp.server()), Clock())
        await station.open()
        station.start()
        stopped = asyncio.Event()
        update = station.ledger.update

        async def update_until(entry, **changes):
            entry = await update(entry, **changes)
            if entry.step == step:
                stopped.set()
                await asyncio.Event().wait()
            return entry

        write_wav(station.spool / "a.wav", 2)
        if step == "found":
            await station.stop()
        else:
            station.ledger.update = update_until
        await station.end("a")
        if step != "found":
            await stopped.wait()
            await station.stop()
        await station.outbox.close()
        before = {name: os.stat(ftp.files / name).st_ino for name in ftp.names()}
        await station.open()
        station.start()
        told = await station.told(1)
        await station.stop()
        await station.outbox.close()
        return before, told

    before, told = run(scenario())
    assert told[0]["urlfilename"] == f"{BASE_URL}a.mp3"
    assert ftp.names() == ["a.mp3"]
    assert list(before) == (["a.mp3"] if step == "uploaded" else [])
    assert before.get("a.mp3", os.stat(ftp.files / "a.mp3").st_ino) == os.stat(ftp.files / "a.mp3").st_ino
    assert abs(decoded_seconds(ftp.files / "a.mp3") - 2) < 1


def test_an_upload_that_ended_unnoticed_is_not_repeated(tmp_path, ftp, run):
    """The file is there in full: the process died before it could write that down."""

    async def scenario():
        station = Station(tmp_path, fleet(ftp.server()), Clock())
        await station.open()
        station.start()
        update = station.ledger.update
        lost = asyncio.Event()

        async def update_but(entry, **changes):
            if changes.get("step") == "uploaded":
                lost.set()
                await asyncio.Event().wait()
            return await update(entry, **changes)

        station.ledger.update = update_but
        write_wav(station.spool / "a.wav", 2)
        await station.end("a")
        await lost.wait()
        await station.stop()
        inode = os.stat(ftp.files / "a.mp3").st_ino
        station.ledger.update = update
        station.start()
        await station.told(1)
        await station.stop()
        await station.outbox.close()
        return inode

    assert run(scenario()) == os.stat(ftp.files / "a.mp3").st_ino


def test_a_file_that_changes_on_the_server_is_seen_and_sent_again(tmp_path, ftp, run):
    """Before anything is told of it."""

    async def scenario():
        station = Station(tmp_path, fleet(ftp.server()), Clock())
        await station.open()
        station.start()
        update = station.ledger.update
        spoilt = []

        async def spoil(entry, **changes):
            entry = await update(entry, **changes)
            if entry.step == "uploaded" and not spoilt:
                spoilt.append(entry)
                os.truncate(ftp.files / "a.mp3", 100)
            return entry

        station.ledger.update = spoil
        write_wav(station.spool / "a.wav", 2)
        await station.end("a")
        await station.waits(1)
        await station.advance(1)
        await station.told(1)
        await station.stop()
        await station.outbox.close()

    run(scenario())
    assert abs(decoded_seconds(ftp.files / "a.mp3") - 2) < 1


def test_two_calls_with_one_recording_both_get_their_link(tmp_path, ftp, run):
    """It is stored for each, one after the other."""

    async def scenario():
        async with working(tmp_path, fleet(ftp.server())) as station:
            path = str(write_wav(station.spool / "x.wav"))
            await station.end("a", path)
            await station.end("b", path)
            return await station.told(2)

    assert [data["urlfilename"] for data in run(scenario())] == [f"{BASE_URL}x.mp3"] * 2
    assert ftp.names() == ["x.mp3"]


@pytest.mark.parametrize("keep_days", [-1, 0, 1])
def test_files_go_when_they_may_and_not_before(tmp_path, ftp, run, keep_days):
    """After some days, or never; what is not stored stays in any case."""

    async def scenario():
        async with working(tmp_path, fleet(ftp.server()), keep_days=keep_days, keep_free_bytes=0) as station:
            write_wav(station.spool / "a.wav")
            write_wav(station.spool / "b.wav", 0)
            await station.end("a")
            await station.end("b")
            await station.told(3)
            found = []
            for pause_s in (700, 86_400):
                tidied = asyncio.Event()
                prune = station.ledger.prune

                async def pruned(before, prune=prune, tidied=tidied):
                    await prune(before)
                    tidied.set()

                station.ledger.prune = pruned
                await station.advance(pause_s)
                await tidied.wait()
                station.ledger.prune = prune
                folders = (tmp_path / "spool", tmp_path / "work")
                found.append([path.name for folder in folders for path in sorted(folder.iterdir())])
            return found

    kept, gone = ["a.wav", "b.wav", "1.mp3"], ["b.wav"]
    assert run(scenario()) == {-1: [kept, kept], 0: [gone, gone], 1: [kept, gone]}[keep_days]


def test_a_full_disk_makes_stored_files_go_early(tmp_path, ftp, run):
    """Those that are stored, and no other."""

    async def scenario():
        async with working(tmp_path, fleet(ftp.server()), keep_free_bytes=2**62) as station:
            write_wav(station.spool / "a.wav")
            write_wav(station.spool / "b.wav", 0)
            await station.end("a")
            await station.end("b")
            await station.told(3)
            await station.advance(700)
            await until(lambda: not (station.spool / "a.wav").exists())
            return (station.spool / "b.wav").exists()

    assert run(scenario())
    assert wav.examine(tmp_path / "spool" / "a.wav").status == "missing"
