"""Audio servers: who takes a recording, who rests after a failure, and what `audioservers.def` says."""

import random
from collections import Counter
from pathlib import Path

import pytest

from arimonitor_core.directory import Client
from arimonitor_runner.directory_sources.text import load_directory
from arimonitor_runner.recordings import AudioServer
from arimonitor_runner.recordings.servers import REST_FIRST_S, REST_MAX_S, AudioServers, ServerHealth

FTP = "url = ftp://voip:x@10.0.0.7/voip1\n"
URLS = "ftp://user:password@host:port/folder, ftps:// or ssh://"
BASE = "base_url = http://audio.example/voip1/\n"


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        """The time that was set."""
        return self.now_s


def server(name, weight=1):
    """An audio server that nobody connects to."""
    return AudioServer(
        name=name, base_url=f"http://{name}.example/", transport="ftp", host="h", port=21, user="u", weight=weight
    )


def make(*servers, clock=None):
    """Audio servers that are chosen in the same way in every run."""
    return AudioServers(servers, chance=random.Random(7), clock=clock or Clock())


def shares(servers, client=None, **options):
    """How often each is chosen."""
    chosen = (servers.choose(client, **options) for _ in range(3000))
    return Counter(one.name for one in chosen if one is not None)


def test_each_takes_its_share():
    """In proportion to the weights; one of weight 0 takes nothing as long as another one can."""
    counted = shares(make(server("audio", 2), server("audio2", 1), server("spare", 0)))
    assert set(counted) == {"audio", "audio2"}
    assert counted["audio"] == pytest.approx(2000, abs=150)


def test_the_same_chance_gives_the_same_choice():
    """So that a test, and a simulation, can be repeated."""
    names = [[make(server("a"), server("b")).choose(None).name for _ in range(20)] for _ in range(2)]
    assert names[0] == names[1]


def test_a_client_has_its_own_servers():
    """Those it names; all where it names none."""
    servers = make(server("audio"), server("audio2"), server("audio3"))
    assert set(shares(servers, Client(code="112", audio=("audio2", "audio3", "gone")))) == {"audio2", "audio3"}
    assert set(shares(servers, Client(code="113"))) == {"audio", "audio2", "audio3"}
    assert set(shares(servers, Client(code="112", audio=("audio2", "audio3")), exclude={"audio3"})) == {"audio2"}
    assert servers.choose(Client(code="112", audio=("audio2",)), exclude=["audio2"]) is None
    assert make().choose(None) is None


def test_who_fails_rests_longer_each_time():
    """Failures of uploads that were under way together count once; success makes it as well as any."""
    clock = Clock()
    servers = make(server("audio"), server("audio2"), clock=clock)
    audio = servers.find("audio")
    for failures in range(1, 12):
        servers.failed(audio, "it does not answer")
        servers.failed(audio, "it does not answer in time")
        rest_s = min(REST_MAX_S, REST_FIRST_S * 2 ** (failures - 1))
        assert servers.health()[0] == ServerHealth(
            name="audio", failures=failures, rests_s=rest_s, reason="it does not answer in time"
        )
        assert set(shares(servers)) == {"audio2"}
        clock.now_s += rest_s
        assert set(shares(servers)) == {"audio", "audio2"}
    servers.worked(audio)
    assert servers.health() == [
        ServerHealth(name=name, failures=0, rests_s=0.0, reason="") for name in ("audio", "audio2")
    ]


def test_the_spare_one_takes_over():
    """Weight 0, while the others rest or are excluded."""
    servers = make(server("audio"), server("spare", 0))
    assert set(shares(servers, exclude={"audio"})) == {"spare"}
    servers.failed(servers.find("audio"), "gone")
    assert set(shares(servers)) == {"spare"}


def test_where_all_rest_the_best_one_is_tried():
    """Recordings wait for nobody's rest to end where there is nobody else."""
    clock = Clock()
    servers = make(server("audio"), server("audio2"), clock=clock)
    audio, audio2 = servers.find("audio"), servers.find("audio2")
    servers.failed(audio, "gone")
    clock.now_s += REST_FIRST_S
    servers.failed(audio, "gone")
    servers.failed(audio2, "gone")
    assert set(shares(servers)) == {"audio2"}
    assert set(shares(servers, exclude={"audio2"})) == {"audio"}


def test_another_directory():
    """A server that stays keeps what is known of it; one that changed begins anew; who is gone is not missed."""
    servers = make(server("audio"), server("audio2"), server("audio3"))
    old = {name: servers.find(name) for name in ("audio", "audio2", "audio3")}
    for one in old.values():
        servers.failed(one, "gone")
    servers.replace([server("audio"), server("audio2", 5)])
    assert [(one.name, one.failures) for one in servers.health()] == [("audio", 1), ("audio2", 0)]
    assert servers.find("audio3") is None
    servers.failed(old["audio3"], "late")
    servers.worked(old["audio3"])
    assert len(servers.health()) == 2


@pytest.fixture
def load(tmp_path):
    """Write `audioservers.def`, and a client, and read them."""

    def write_and_load(text, client="", **environ):
        (tmp_path / "audioservers.def").write_text(text)
        (tmp_path / "__CLIENTES__.DEF").write_text(f"[112]\nvhost = v\n{client}")
        (tmp_path / "endpoints_pjsip.def").write_text("")
        (tmp_path / "mqservers.def").write_text("")
        loaded = load_directory(tmp_path, environ)
        return loaded, [(Path(one.path).name, one.line, one.severity, one.text) for one in loaded.problems]

    return write_and_load


def test_audio_servers_of_every_kind(load, tmp_path):
    """Ports, folders, keys; a password from the environment may hold any character."""
    for name in ("key", "hosts", "ca"):
        (tmp_path / name).touch()
    loaded, problems = load(
        "[common](!)\nweight = 3\nchannels = 2\n"
        "[audio](common)\nurl = ftp://voip:${PW}@10.0.0.7/voip1\n"
        f"{BASE}"
        f"[audio2]\nurl = ssh://voip@10.0.0.8:2222/srv/audio\nbase_url = https://two.example/v\nlame = /opt/lame\n"
        f"key = {tmp_path}/key\nknown_hosts = {tmp_path}/hosts\n"
        f"[audio3]\nurl = ftps://voip:a%20b@audio.example:990//srv/x%20y\n{BASE}ca = {tmp_path}/ca\nverify = N\n"
        f"[audio4]\nurl = ssh://voip:x@audio.example/~/voip1\n{BASE}",
        PW="p@ss:w/rd%41",
    )
    assert problems == []
    audio, audio2, audio3, audio4 = loaded.audio_servers
    assert audio == AudioServer(
        name="audio", base_url="http://audio.example/voip1/", transport="ftp", host="10.0.0.7", port=21, user="voip",
        password="p@ss:w/rd%41", folder="voip1", weight=3, channels_max=2,
    )  # fmt: skip
    assert "p@ss" not in repr(loaded)
    assert audio.url_of("a.mp3") == "http://audio.example/voip1/a.mp3"
    assert audio2 == AudioServer(
        name="audio2", base_url="https://two.example/v/", transport="ssh", host="10.0.0.8", port=2222, user="voip",
        folder="/srv/audio", key_file=tmp_path / "key", known_hosts=tmp_path / "hosts", lame="/opt/lame",
    )  # fmt: skip
    assert (audio3.port, audio3.password, audio3.folder) == (990, "a b", "/srv/x y")
    assert (audio3.ca_file, audio3.verify) == (tmp_path / "ca", False)
    assert (audio4.port, audio4.folder, audio4.password) == (22, "voip1", "x")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[audio]\n" + BASE, 1, "no url; left out"),
        ("[audio]\n" + FTP, 1, "no base_url; left out"),
        ("[audio]\nurl = ftp://voip:${NONE}@h/\n" + BASE, 2, "not in the environment: ${NONE}; left out"),
        *(
            (f"[audio]\nurl = {url}\n{BASE}", 2, f"url is not {URLS}; left out")
            for url in ("http://u:secret@h/", "ftp://h/x", "ftp://u:secret@:1/", "ftp://u:secret@h:99999/",
                        "ftp://u:secret@h:0/", "ftp://u:secret@h/a%0d%0aDELE", "ftp://u:secret%0a@h/", "ftp://[::1", "")
        ),
        *(
            (f"[audio]\n{FTP}base_url = {url}\n", 3, "base_url is not http://host/folder/; left out")
            for url in ("ftp://h/", "audio.example/voip1/", "http://h/?f=", "http://[::1/", "")
        ),
    ],
)  # fmt: skip
def test_an_audio_server_that_cannot_be_used(load, text, line, reason):
    """It is left out, with file and line; the one after it is not. What may be a password is never said."""
    loaded, problems = load(f"{text}[good]\n{FTP}{BASE}")
    assert problems == [("audioservers.def", line, "error", f"audio server audio: {reason}")]
    assert [one.name for one in loaded.audio_servers] == ["good"]


@pytest.mark.parametrize(
    ("lines", "severity", "reason"),
    [
        ("wieght = 2", "note", "unknown key wieght"),
        ("weight = -1", "error", "weight is no number from 0 to 1000; taken as 1"),
        ("weight = two", "error", "weight is no number from 0 to 1000; taken as 1"),
        ("channels = 0", "error", "channels is no number from 1 to 1000; taken as 4"),
        ("verify = N", "warning", "verify means nothing for ftp"),
        ("key = /etc/passwd", "warning", "key means nothing for ftp"),
    ],
)
def test_what_is_faulty_has_a_default(load, lines, severity, reason):
    """The server is used."""
    loaded, problems = load(f"[audio]\n{FTP}{BASE}{lines}\n")
    assert problems == [("audioservers.def", 4, severity, f"audio server audio: {reason}")]
    assert len(loaded.audio_servers) == 1


def test_faults_of_tls_and_keys(load):
    """A flag that is none keeps the certificate verified; a file that is not there yet may come."""
    loaded, problems = load(
        f"[audio]\nurl = ftps://u:x@h/\n{BASE}verify = perhaps\n[audio2]\nurl = ssh://u@h/x\n{BASE}key = /none\nkey =\n"
        f"[audio3]\nurl = ssh://u@h/x\n{BASE}known_hosts = /none\n"
    )
    assert [problem[1:] for problem in problems] == [
        (4, "error", "audio server audio: verify: neither Y nor N; taken as Y"),
        (13, "warning", "audio server audio3: known_hosts: there is no file /none"),
    ]
    assert [one.verify for one in loaded.audio_servers] == [True] * 3


def test_an_audio_server_that_stands_twice(load):
    """The later one counts."""
    loaded, problems = load(f"[audio]\n{FTP}{BASE}[audio]\n{FTP}{BASE}weight = 9\n")
    assert problems == [("audioservers.def", 4, "warning", "audio server audio stands here again; this one counts")]
    assert [one.weight for one in loaded.audio_servers] == [9]


def test_a_client_names_its_audio_servers(load):
    """In its order; who is not there is said, and where nobody is left all may take its recordings."""
    both = f"[audio]\n{FTP}{BASE}[audio2]\n{FTP}{BASE}"
    for names, audio, problem in (
        ("audio2", ("audio2",), None),
        ("audio2, audio,,audio2", ("audio2", "audio"), None),
        ("audio2,audio7", ("audio2",), "client 112: no audio server is called audio7"),
        ("audio7", (), "client 112: no audio server is called audio7; all may take its recordings"),
    ):
        loaded, problems = load(both, f"audio = {names}\n")
        assert loaded.directory.clients["112"].audio == audio
        assert problems == ([("__CLIENTES__.DEF", 3, "error", problem)] if problem else [])


def test_without_the_file_there_are_no_audio_servers(load, tmp_path):
    """And nothing to complain about."""
    load("")
    (tmp_path / "audioservers.def").unlink()
    loaded = load_directory(tmp_path, {})
    assert (loaded.audio_servers, loaded.problems) == ((), ())
