"""FTP and FTPS against a real pure-ftpd: what arrives is whole under its name, or is not there under it."""

import asyncio
import os
import signal
from itertools import count

import aioftp
import pytest
from attrs import evolve
from typed_settings import SecretStr

from arimonitor_runner.recordings import RecordingError
from arimonitor_runner.recordings.ftp import Ftp
from tests.runner.audio_servers import PASSWORD, FtpServer, free_port, make_certificate
from tests.runner.waiting import until

CONTENT = os.urandom(300_000)


@pytest.fixture
def start(start_server):
    """Start FTP servers: `start(tls=, disk_kb=)`."""
    names = (f"server{number}" for number in count())
    return lambda **options: start_server(FtpServer, next(names), **options)


@pytest.fixture
def local(tmp_path):
    """A file to upload."""
    path = tmp_path / "local.mp3"
    path.write_bytes(CONTENT)
    return path


async def upload(server, path, name="a.mp3"):
    """Upload one file with a new object."""
    ftp = Ftp(server)
    try:
        return await ftp.upload(path, name)
    finally:
        await ftp.close()


def error_of(run, coroutine):
    """What it fails with; the password is never in it."""
    with pytest.raises(RecordingError) as raised:
        run(coroutine)
    assert PASSWORD not in raised.value.reason
    return raised.value


@pytest.mark.parametrize("tls", [False, True])
def test_a_file_arrives_whole_under_its_name(run, start, local, tls):
    """Over what was there before, and over what an attempt left that was interrupted."""
    server = start(tls=tls)
    for name in ("a.mp3", "a.mp3.part"):
        (server.files / name).write_bytes(b"older" * 100_000)
        os.chown(server.files / name, 65534, 65534)

    async def story():
        ftp = Ftp(server.server())
        assert await ftp.size("a.mp3") == 500_000
        assert await ftp.upload(local, "a.mp3") == len(CONTENT)
        assert await ftp.size("a.mp3") == len(CONTENT)
        assert await ftp.size("b.mp3") is None
        await ftp.close()

    run(story())
    assert server.names() == ["a.mp3"]
    assert server.read("a.mp3") == CONTENT


def test_names_with_spaces_and_letters_of_any_script(run, start, local):
    """As Asterisk's dialplan makes them of what a caller's name is."""
    server = start()
    run(upload(server.server(), local, "20261122 São Paulo +5511#*.mp3"))
    assert server.names() == ["20261122 São Paulo +5511#*.mp3"]


@pytest.mark.parametrize("name", ["", "../a.mp3", "a\r\nDELE b", ".a.mp3", "-a.mp3", "a\x00", "é" * 101])
def test_a_name_that_is_more_than_a_name_is_refused(run, local, name):
    """Before anything is connected to."""
    error = error_of(run, upload(FtpServer(local.parent / "server").server(), local, name))
    assert error.is_final
    assert "is no name for a recording" in error.reason


@pytest.mark.parametrize("folder", ["voip1/2026/11", "/voip1/new"])
def test_folders_are_made_where_they_are_missing(run, start, local, folder):
    """Once; afterwards they are there."""
    server = start()

    async def story():
        ftp = Ftp(server.server(folder=folder))
        assert await ftp.size("a.mp3") is None
        await ftp.upload(local, "a.mp3")
        await ftp.upload(local, "b.mp3")
        await ftp.close()

    run(story())
    assert sorted(os.listdir(server.folder / folder.lstrip("/"))) == ["a.mp3", "b.mp3"]


def test_without_a_folder_files_go_where_the_login_begins(run, start, local):
    """It is the home of the user."""
    server = start()
    run(upload(server.server(folder=""), local))
    assert (server.folder / "a.mp3").read_bytes() == CONTENT


def test_many_at_a_time_share_the_connections(run, start, local):
    """Never more of them than the server is said to take."""
    server = start()

    async def story():
        ftp = Ftp(server.server(channels_max=3))
        await asyncio.gather(*(ftp.upload(local, f"{number}.mp3") for number in range(12)))
        assert len(ftp._idle) == 3
        await ftp.close()

    run(story())
    assert len(server.names()) == 12
    assert all(server.read(name) == CONTENT for name in server.names())


def test_a_connection_is_kept_for_the_next_file(run, start, local):
    """A login may cost seconds. One that the server gave up meanwhile is replaced without a word, others in time."""
    server = start()

    async def story():
        ftp = Ftp(server.server())
        await ftp.upload(local, "a.mp3")
        kept = list(ftp._idle)
        await ftp.upload(local, "b.mp3")
        assert list(ftp._idle) == kept
        server.kill()
        server.start()
        await ftp.upload(local, "c.mp3")
        assert list(ftp._idle) != kept
        # As when nobody needs it for long.
        [last] = ftp._idle
        ftp._idle[last].cancel()
        ftp._expire(last)
        await last.stream.writer.wait_closed()
        assert not ftp._idle
        await ftp.upload(local, "d.mp3")
        await ftp.close()

    run(story())
    assert server.names() == ["a.mp3", "b.mp3", "c.mp3", "d.mp3"]


def test_a_server_that_is_away_and_comes_back(run, start, local):
    """Nobody is at fault but the server; the same object goes on when it is back."""
    server = start()

    async def story():
        ftp = Ftp(server.server())
        server.kill()
        for attempt in (ftp.upload(local, "a.mp3"), ftp.size("a.mp3")):
            with pytest.raises(RecordingError, match="Connect call failed") as raised:
                await attempt
            assert raised.value.is_server
        server.start()
        await ftp.upload(local, "a.mp3")
        await ftp.close()

    run(story())
    assert server.read("a.mp3") == CONTENT


def test_a_wrong_password(run, start, local):
    """The server's words, and that it is the server."""
    server = start()
    error = error_of(run, upload(server.server(password=SecretStr("wrong")), local))
    assert error.reason == f"audio (ftp://127.0.0.1:{server.port}): it says 530 Login authentication failed"
    assert (error.is_server, error.is_final) == (True, False)


@pytest.mark.parametrize("tls", [False, True])
def test_a_server_that_dies_in_the_middle(run, start, local, tls):
    """What arrived of the file is not under its name; the next attempt is whole."""
    server = start(tls=tls)
    size = 400_000_000
    os.truncate(local, size)

    async def story():
        task = asyncio.create_task(upload(server.server(), local))
        await until(lambda: "a.mp3.part" in server.names())
        server.kill()
        await task

    assert error_of(run, story()).is_server
    assert server.names() == ["a.mp3.part"]
    assert (server.files / "a.mp3.part").stat().st_size < size
    server.start()
    local.write_bytes(CONTENT)
    run(upload(server.server(), local))
    assert server.names() == ["a.mp3"]
    assert server.read("a.mp3") == CONTENT


def test_an_upload_that_is_cancelled(run, start, local):
    """Nothing under its name, and no connection left open."""
    server = start()
    os.truncate(local, 400_000_000)

    async def story():
        task = asyncio.create_task(upload(server.server(), local))
        await until(lambda: "a.mp3.part" in server.names())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(story())
    assert "a.mp3" not in server.names()


def test_a_disk_without_room(run, start, local):
    """Its words, nothing left on it, and with room it works."""
    server = start(disk_kb=200)
    error = error_of(run, upload(server.server(), local))
    assert error.is_server
    assert "Error during write" in error.reason
    assert server.names() == []
    os.truncate(local, 100_000)
    assert run(upload(server.server(), local)) == 100_000


def test_a_server_that_answers_nothing(run, start, local):
    """It has its time, and not more."""
    server = start()
    server.signal(signal.SIGSTOP)
    error = error_of(run, upload(server.server(connect_timeout_s=0.3), local))
    assert (error.is_server, "does not answer in time" in error.reason) == (True, True)
    server.signal(signal.SIGCONT)


def test_a_server_that_stops_in_the_middle(run, start, local):
    """A connection that stands still is given up."""
    server = start()
    os.truncate(local, 400_000_000)

    async def story():
        task = asyncio.create_task(upload(server.server(transfer_timeout_s=0.5), local))
        await until(lambda: "a.mp3.part" in server.names())
        server.signal(signal.SIGSTOP)
        await task

    error = error_of(run, story())
    assert (error.is_server, "does not answer in time" in error.reason) == (True, True)
    server.signal(signal.SIGCONT)


def test_a_certificate_that_nobody_vouches_for(run, start, local, tmp_path):
    """Refused, whoever it says to be; taken where an operator says so."""
    server = start(tls=True)
    error = error_of(run, upload(server.server(ca_file=None), local))
    assert (error.is_server, "CERTIFICATE_VERIFY_FAILED" in error.reason) == (True, True)
    make_certificate(tmp_path / "other.pem")
    error = error_of(run, upload(server.server(ca_file=tmp_path / "other.pem"), local))
    assert "CERTIFICATE_VERIFY_FAILED" in error.reason
    assert server.names() == []
    run(upload(server.server(ca_file=None, verify=False), local))
    assert server.names() == ["a.mp3"]


def test_a_certificate_for_another_host(run, start, local):
    """It is somebody's, but not this server's."""
    server = start(tls=True)
    server.kill()
    make_certificate(server.certificate, host="127.0.0.9")
    server.start()
    error = error_of(run, upload(server.server(), local))
    assert "CERTIFICATE_VERIFY_FAILED" in error.reason


def test_a_password_is_never_sent_without_tls(run, start, local):
    """Where the server has no TLS and shall have it, nobody logs in."""
    server = start()
    error = error_of(run, upload(server.server(transport="ftps"), local))
    assert error.is_server
    assert error_of(run, Ftp(server.server(transport="ftps", ca_file=local)).size("a.mp3")).is_server


def test_a_local_file_that_is_gone(run, local):
    """No server is at fault."""
    server = FtpServer(local.parent / "server").server()
    local.unlink()
    error = error_of(run, upload(server, local))
    assert (error.is_server, error.reason) == (False, f"{local} cannot be read: No such file or directory")


async def _serve(answers, story):
    """Run a server that says one line after another, whatever it hears, while a story goes on."""

    async def talk(reader, writer):
        for answer in answers:
            writer.write(answer)
            await reader.readline()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(talk, "127.0.0.1", port):
        await story(port)


@pytest.mark.parametrize(
    "answers", [[], [b"SSH-2.0-x\r\n"] * 9, [b"220 hi\r\n", b"\xff\xfe\r\n"], [b"220" + b"x" * 100_000 + b"\r\n"]]
)
def test_a_server_that_speaks_something_else(run, tmp_path, answers):
    """It is the server's fault, whatever it says."""
    server = FtpServer(tmp_path / "server").server(connect_timeout_s=2.0)

    async def story(port):
        await Ftp(evolve(server, port=port)).size("a.mp3")

    assert error_of(run, _serve(answers, story)).is_server


class _OldServer(aioftp.Server):
    """A server without SIZE, NOOP and EPSV, which renames over nothing: aioftp's own, with one command less."""

    def __init__(self, folder):
        super().__init__([aioftp.User("voip", PASSWORD, base_path=folder)])
        del self.commands_mapping["epsv"]


def test_a_server_that_knows_little(run, tmp_path, local):
    """Every command that it refuses has another one in its place."""
    folder = tmp_path / "old"
    folder.mkdir()

    async def story():
        old = _OldServer(folder)
        port = free_port()
        await old.start("127.0.0.1", port)
        ftp = Ftp(evolve(FtpServer(tmp_path / "server").server(), port=port))
        try:
            assert await ftp.size("a.mp3") is None
            for _ in range(2):
                assert await ftp.upload(local, "a.mp3") == len(CONTENT)
            assert await ftp.size("a.mp3") == len(CONTENT)
        finally:
            await ftp.close()
            await old.close()

    run(story())
    assert os.listdir(folder / "voip1") == ["a.mp3"]
    assert (folder / "voip1" / "a.mp3").read_bytes() == CONTENT
