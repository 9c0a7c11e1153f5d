"""A daemon whose directory names audio servers: an ended call's link is to an MP3 that lasts as long as the call."""

import pytest
from attrs import evolve

from arimonitor_runner.settings import DirectorySettings
from tests.runner.audio_servers import PASSWORD, FtpServer, SshServer
from tests.runner.daemons import playing
from tests.runner.replays import DIRECTORY
from tests.runner.sounds import decoded_seconds, set_sizes, write_wav
from tests.runner.test_recordings_daemon import CAPTURE, Daemon, settings_of, stores
from tests.runner.waiting import until

SECTIONS = {
    "ftp": "[audio]\nurl = ftp://voip:${AUDIO_PASSWORD}@127.0.0.1:%(port)d/voip1\n",
    "ftps": "[audio]\nurl = ftps://voip:${AUDIO_PASSWORD}@127.0.0.1:%(port)d/voip1\nca = %(folder)s/certificate.pem\n",
    "ssh": "[audio]\nurl = ssh://root@127.0.0.1:%(port)d%(folder)s/voip1\nkey = %(folder)s/client_key\n"
    "known_hosts = %(folder)s/known_hosts\n",
}


def make_directory(folder, server, kind, ftp_wav):
    """The fixtures' directory, with an audio server beside another one that is away."""
    folder.mkdir()
    for path in DIRECTORY.iterdir():
        (folder / path.name).write_text(path.read_text())
    clients = (folder / "__CLIENTES__.DEF").read_text()
    clients = clients.replace("ftpwav = N", f"ftpwav = {ftp_wav}\naudio = audio,away", 1)
    (folder / "__CLIENTES__.DEF").write_text(clients)
    text = SECTIONS[kind] % {"port": server.port, "folder": server.folder}
    (folder / "audioservers.def").write_text(
        f"{text}base_url = http://one.example/voip1\n"
        "[away]\nurl = ftp://voip:x@127.0.0.1:1/\nbase_url = http://away.example/\nweight = 1000\n"
    )


@pytest.mark.parametrize(("kind", "ftp_wav"), [("ftp", "N"), ("ftps", "N"), ("ssh", "N"), ("ssh", "Y")])
def test_a_link_works_whatever_way_its_file_goes(tmp_path, run, monkeypatch, kind, ftp_wav):
    """Converted here or there, over every transport, past a server that is away and a header left open."""
    monkeypatch.setenv("AUDIO_PASSWORD", PASSWORD)
    server = SshServer(tmp_path / "audio") if kind == "ssh" else FtpServer(tmp_path / "audio", tls=kind == "ftps")
    server.start()
    make_directory(tmp_path / "directory", server, kind, ftp_wav)
    wanted = stores()

    async def scenario():
        async with playing(CAPTURE) as (asterisk, events):
            for store in wanted:
                for file in store.files:
                    wav = write_wav(tmp_path / "spool" / file.path.rpartition("/")[2], 3)
                    set_sizes(wav, riff=0, data=0)
            settings = settings_of(tmp_path, asterisk.url)
            settings = evolve(settings, directory=DirectorySettings(folder=tmp_path / "directory"))
            daemon = Daemon(evolve(settings, recordings=evolve(settings.recordings, backoff_first_s=0.01)), None)
            await asterisk.when_subscribed()
            await asterisk.send(*events)
            await until(lambda: len(daemon.ends()) == len(wanted))
            await until(lambda: len(server.names()) == len(wanted) and all(".part" not in n for n in server.names()))
            await daemon.end()
            return [message.body for message in daemon.messages]

    try:
        bodies = run(scenario())
    finally:
        server.kill()
    names = [file.path.rpartition("/")[2].replace(".wav", ".mp3") for store in wanted for file in store.files]
    assert server.names() == sorted(names)
    assert all(decoded_seconds(server.files / name) == pytest.approx(3, abs=0.5) for name in names)
    # Where it went was told: in the call's last message, or, when that had named the other server, in one of its own.
    for name in names:
        assert any(f"http://one.example/voip1/{name}".encode() in body for body in bodies)
