"""SSH against a real sshd: files arrive whole or not at all, LAME runs there, and no unknown host is spoken to."""

import asyncio
import os
import signal
import subprocess
from itertools import count

import asyncssh
import pytest
from attrs import evolve
from typed_settings import SecretStr

from arimonitor_runner.recordings import Lame, RecordingError, Tags
from arimonitor_runner.recordings.ftp import Ftp
from arimonitor_runner.recordings.ssh import Ssh
from arimonitor_runner.recordings.transports import Transports
from tests.runner.audio_servers import FtpServer, SshServer, free_port
from tests.runner.sounds import decoded_seconds, write_wav
from tests.runner.waiting import until

CONTENT = os.urandom(300_000)
TAGS = Tags(callnumber=8017, origin="1121", destiny="1122", started_at=1_795_338_481.5)
LAME = Lame(timeout_s=60.0)


@pytest.fixture
def start(start_server):
    """Start SSH servers: `start(disk_kb=)`."""
    names = (f"server{number}" for number in count())
    return lambda **options: start_server(SshServer, next(names), **options)


@pytest.fixture
def local(tmp_path):
    """A file to upload."""
    path = tmp_path / "local.mp3"
    path.write_bytes(CONTENT)
    return path


async def upload(server, path, name="a.mp3"):
    """Upload one file with a new object."""
    ssh = Ssh(server)
    try:
        return await ssh.upload(path, name)
    finally:
        await ssh.close()


async def convert(server, path, name="a.mp3", tags=TAGS, lame=LAME):
    """Have one WAV converted with a new object."""
    ssh = Ssh(server)
    try:
        return await ssh.upload_and_convert(path, name, tags, lame)
    finally:
        await ssh.close()


def error_of(run, coroutine):
    """What it fails with."""
    with pytest.raises(RecordingError) as raised:
        run(coroutine)
    return raised.value


def test_a_file_arrives_whole_under_its_name(run, start, local):
    """Over what was there before, and over what an attempt left that was interrupted; one connection for all."""
    server = start()
    for name in ("a.mp3", "a.mp3.part"):
        (server.files / name).write_bytes(b"older" * 100_000)

    async def story():
        ssh = Ssh(server.server())
        assert await ssh.size("a.mp3") == 500_000
        assert await ssh.size("none.mp3") is None
        sizes = await asyncio.gather(*(ssh.upload(local, f"{letter}.mp3") for letter in "abcdefgh"))
        assert set(sizes) == {len(CONTENT)}
        assert await ssh.size("a.mp3") == len(CONTENT)
        await ssh.close()

    run(story())
    assert server.names() == [f"{letter}.mp3" for letter in "abcdefgh"]
    assert all(server.read(name) == CONTENT for name in server.names())
    assert (server.folder / "log").read_text().count("Accepted publickey") == 1


def test_folders_are_made_where_they_are_missing(run, start, local):
    """All of them."""
    server = start()
    run(upload(server.server(folder=f"{server.files}/2026/11"), local))
    assert (server.files / "2026" / "11" / "a.mp3").read_bytes() == CONTENT


def test_lame_runs_there(run, start, tmp_path):
    """The MP3 is as long as the WAV, which is not kept there."""
    server = start()
    size = run(convert(server.server(), write_wav(tmp_path / "a.wav", 5)))
    assert server.names() == ["a.mp3"]
    assert size == len(server.read("a.mp3"))
    assert decoded_seconds(server.files / "a.mp3") == pytest.approx(5, abs=0.5)


def test_an_abandoned_lame_there_does_no_harm(run, start, tmp_path):
    """We were killed while it wrote, and it goes on."""
    server = start()
    with (server.files / "a.mp3.part").open("wb") as abandoned:
        run(convert(server.server(), write_wav(tmp_path / "a.wav", 5)))
        abandoned.write(b"x" * 100_000)
    assert server.names() == ["a.mp3"]
    assert decoded_seconds(server.files / "a.mp3") == pytest.approx(5, abs=0.5)


def test_no_text_is_taken_for_a_command_there(run, start, tmp_path):
    """Names and tags are words, whatever is in them."""
    server = start()
    evil = f"a'b\"c $(touch {tmp_path}/evil) `touch {tmp_path}/evil`; touch {tmp_path}/evil & São"
    name = "x'; touch evil; $(touch evil) São.mp3"
    run(convert(server.server(), write_wav(tmp_path / "a.wav"), name, evolve(TAGS, origin=evil, destiny="--decode")))
    assert server.names() == [name]
    assert evil[:90].encode("utf-16-le") in server.read(name)
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("name", ["", "../a.mp3", "a\nb", ".a.mp3", "-a.mp3"])
def test_a_name_that_is_more_than_a_name_is_refused(run, local, tmp_path, name):
    """Before anything is connected to."""
    server = SshServer(tmp_path / "server").server()
    for attempt in (upload(server, local, name), convert(server, local, name)):
        assert error_of(run, attempt).is_final


def test_an_empty_recording_goes_nowhere(run, start, tmp_path):
    """Final: no server can do better."""
    error = error_of(run, convert(start().server(), write_wav(tmp_path / "a.wav", 0)))
    assert (error.is_final, error.is_server) == (True, False)


def test_lames_own_words_from_there(run, start, tmp_path):
    """Its status and its words; nothing is left."""
    server = start()
    wav = write_wav(tmp_path / "a.wav")
    error = error_of(run, convert(server.server(lame="no-such-lame"), wav))
    assert error.is_server
    assert error.reason.startswith(f"audio (ssh://127.0.0.1:{server.port}): no-such-lame failed (127): ")
    script = tmp_path / "lame"
    script.write_text("#!/bin/sh\necho 'it is broken' >&2; exit 3\n")
    script.chmod(0o755)
    assert error_of(run, convert(server.server(lame=str(script)), wav)).reason.endswith("failed (3): it is broken")
    assert server.names() == []


def test_an_mp3_that_is_too_short_is_no_success_there(run, start, tmp_path):
    """As here: LAME ends with success and half of it is missing."""
    server = start()
    write_wav(tmp_path / "half.wav", 2)
    script = tmp_path / "lame"
    script.write_text(
        f'#!/bin/sh\nfor target; do :; done\nexec lame --quiet --cbr -b 24 {tmp_path}/half.wav "$target"\n'
    )
    script.chmod(0o755)
    error = error_of(run, convert(server.server(lame=str(script)), write_wav(tmp_path / "a.wav", 4)))
    assert "lasts 2.2 s, its WAV 4.0 s" in error.reason
    assert server.names() == []


def test_a_conversion_there_that_hangs_is_ended_there(run, start, tmp_path):
    """No process of ours stays on a server."""
    server = start()
    script = tmp_path / "lame"
    script.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 1000\n")
    script.chmod(0o755)
    lame = evolve(LAME, timeout_s=0.3)
    error = error_of(run, convert(server.server(lame=str(script)), write_wav(tmp_path / "a.wav"), lame=lame))
    assert "failed (124)" in error.reason
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_an_unknown_host_is_not_spoken_to(run, start, local, tmp_path):
    """No known_hosts, another key in it, an empty one: nothing is sent."""
    server = start()
    (tmp_path / "empty").touch()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    key = (tmp_path / "other.pub").read_text()
    (tmp_path / "changed").write_text(f"[127.0.0.1]:{server.port} {key}")
    for known_hosts in (None, tmp_path / "empty", tmp_path / "changed"):
        error = error_of(run, upload(server.server(known_hosts=known_hosts), local))
        assert error.is_server
        assert "host key is not in known_hosts" in error.reason
    error = error_of(run, upload(server.server(known_hosts=tmp_path / "none"), local))
    assert "No such file" in error.reason
    assert server.names() == []


def test_a_key_that_is_not_taken(run, start, local, tmp_path):
    """It is the server's to say, and an operator reads it."""
    server = start()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    error = error_of(run, upload(server.server(key_file=tmp_path / "other"), local))
    assert (error.is_server, "Permission denied" in error.reason) == (True, True)


def test_a_password(run, tmp_path, local):
    """A server that takes no keys; a wrong password is an error without the password in it."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    port = free_port()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}")
    (tmp_path / "root" / "voip1").mkdir(parents=True)

    class Passwords(asyncssh.SSHServer):
        def begin_auth(self, username):
            return True

        def password_auth_supported(self):
            return True

        def validate_password(self, username, password):
            return (username, password) == ("voip", "secret")

    async def story():
        acceptor = await asyncssh.listen(
            "127.0.0.1", port, server_factory=Passwords, server_host_keys=[host_key],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(tmp_path / "root").encode()),
        )  # fmt: skip
        server = evolve(
            SshServer(tmp_path / "unused").server(), port=port, user="voip", key_file=None, folder="/voip1",
            password=SecretStr("secret"), known_hosts=tmp_path / "known_hosts",
        )  # fmt: skip
        try:
            await upload(server, local)
            with pytest.raises(RecordingError, match="Permission denied") as raised:
                await upload(evolve(server, password=SecretStr("hush hush")), local)
            assert "hush" not in raised.value.reason
        finally:
            acceptor.close()
            await acceptor.wait_closed()

    run(story())
    assert (tmp_path / "root" / "voip1" / "a.mp3").read_bytes() == CONTENT


def test_a_server_that_is_away_and_comes_back(run, start, local):
    """The same object connects anew."""
    server = start()

    async def story():
        ssh = Ssh(server.server())
        await ssh.upload(local, "a.mp3")
        server.kill()
        for _ in range(2):
            with pytest.raises(RecordingError) as raised:
                await ssh.upload(local, "b.mp3")
            assert raised.value.is_server
        server.start()
        await ssh.upload(local, "b.mp3")
        await ssh.close()

    run(story())
    assert server.names() == ["a.mp3", "b.mp3"]


def test_a_server_that_dies_in_the_middle(run, start, local):
    """What arrived is not under its name; the next attempt is whole."""
    server = start()
    os.truncate(local, 400_000_000)

    async def story():
        ssh = Ssh(server.server())
        task = asyncio.create_task(ssh.upload(local, "a.mp3"))
        await until(lambda: "a.mp3.part" in server.names())
        server.kill()
        with pytest.raises(RecordingError) as raised:
            await task
        assert raised.value.is_server
        assert server.names() == ["a.mp3.part"]
        server.start()
        local.write_bytes(CONTENT)
        await ssh.upload(local, "a.mp3")
        await ssh.close()

    run(story())
    assert server.names() == ["a.mp3"]
    assert server.read("a.mp3") == CONTENT


def test_a_server_that_stops_in_the_middle(run, start, local):
    """A connection that stands still is given up, and made anew."""
    server = start()
    os.truncate(local, 400_000_000)

    async def story():
        ssh = Ssh(server.server(transfer_timeout_s=0.5))
        task = asyncio.create_task(ssh.upload(local, "a.mp3"))
        await until(lambda: "a.mp3.part" in server.names())
        server.signal(signal.SIGSTOP)
        with pytest.raises(RecordingError, match="does not answer in time"):
            await task
        server.signal(signal.SIGCONT)
        local.write_bytes(CONTENT)
        await ssh.upload(local, "a.mp3")
        await ssh.close()

    run(story())
    assert server.read("a.mp3") == CONTENT


def test_a_cancelled_upload_leaves_nothing(run, start, local):
    """And the connection serves the next one."""
    server = start()
    os.truncate(local, 400_000_000)

    async def story():
        ssh = Ssh(server.server())
        task = asyncio.create_task(ssh.upload(local, "a.mp3"))
        await until(lambda: "a.mp3.part" in server.names())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.names() == []
        local.write_bytes(CONTENT)
        await ssh.upload(local, "a.mp3")
        await ssh.close()

    run(story())
    assert (server.folder / "log").read_text().count("Accepted publickey") == 1


def test_a_disk_without_room(run, start, local, tmp_path):
    """Nothing is left on it, neither of an MP3 nor of a WAV; with room it works."""
    server = start(disk_kb=200)
    assert error_of(run, upload(server.server(), local)).is_server
    assert error_of(run, convert(server.server(), write_wav(tmp_path / "long.wav", 60))).is_server
    # The WAV has room, the MP3 has none.
    error = error_of(run, convert(server.server(), write_wav(tmp_path / "b.wav", 12)))
    assert error.is_server
    assert server.names() == []
    run(convert(server.server(), write_wav(tmp_path / "a.wav", 3)))
    assert server.names() == ["a.mp3"]


def test_a_server_that_answers_nothing(run, start, local):
    """It has its time, and not more."""
    server = start()
    server.signal(signal.SIGSTOP)
    error = error_of(run, upload(server.server(connect_timeout_s=0.3), local))
    assert (error.is_server, "does not answer in time" in error.reason) == (True, True)
    server.signal(signal.SIGCONT)


def test_a_local_file_that_is_gone(run, start, local):
    """No server is at fault."""
    local.unlink()
    error = error_of(run, upload(start().server(), local))
    assert (error.is_server, error.reason) == (False, f"{local} cannot be read: No such file or directory")


def test_one_object_for_each_server(run, start, local, tmp_path):
    """Of the kind that it needs; when anything of the server is changed, another one."""
    ssh = start().server()
    ftp = FtpServer(tmp_path / "ftp").server()

    async def story():
        transports = Transports()
        assert isinstance(transports.of(ftp), Ftp)
        assert isinstance(transports.of(ssh), Ssh)
        assert transports.of(ssh) is transports.of(evolve(ssh)) is not transports.of(evolve(ssh, weight=5))
        await transports.of(ssh).upload(local, "a.mp3")
        await transports.close()

    run(story())
