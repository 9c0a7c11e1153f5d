"""Calls that a real Asterisk records, to files on real audio servers that last as long as people talked.

The lab's dialplan starts MixMonitor before anything rings, with the option `b`: it writes while its channel is bridged.
So a recording begins where the call is answered, which `callduration` counts from, and ends with it. After a blind
transfer a second one begins on the same channel when the target answers; the first one goes on as well.
"""

import asyncio
import json
import signal
import sqlite3
from contextlib import ExitStack, closing

import pytest
from attrs import frozen

from tests.live.conftest import VERSIONS, make_directory
from tests.live.lab import ARI_PASSWORD, ARI_USER, load
from tests.runner.audio_servers import PASSWORD, USER, FtpServer, SshServer
from tests.runner.processes import Process, daemon_arguments
from tests.runner.sounds import decoded_seconds
from tests.runner.waiting import until

SITES = [
    pytest.param(
        (version, "channelvars"), marks=pytest.mark.xdist_group(f"asterisk-{version}"), id=f"{version}-channelvars"
    )
    for version in VERSIONS
]
PLAIN = [
    ("1120101", "1130101", 3), ("1120102", "1120103", 5), ("1130102", "1120104", 8),
    ("1140101", "1140102", 4), ("1140103", "1130103", 6),
]  # fmt: skip
"""Who calls whom, and how many seconds they talk."""
TRANSFERRED = [("1121", "1122", "1123"), ("1141", "1142", "1132")]
"""Who calls, who answers and transfers, and to whom."""
CLOSED = {"status": "closed"}


class Fleet:
    """An audio server for each way: MP3s go to one by FTP, the other one converts."""

    def __init__(self, folder):
        self.ftp, self.ssh = FtpServer(folder / "audio"), SshServer(folder / "audio2")
        self.by_url = {"http://audio.example/voip1/": self.ftp, "http://audio2.example/voip1/": self.ssh}

    def describe(self, directory):
        """Tell the directory of both, and its clients which one is theirs: the one with ftpwav = Y converts."""
        ftp_url, ssh_url = self.by_url
        (directory / "audioservers.def").write_text(
            f"[audio]\nurl = ftp://{USER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.ftp.port}/voip1\n"
            f"base_url = {ftp_url}\n"
            f"[audio2]\nurl = ssh://root@127.0.0.1:{self.ssh.port}{self.ssh.files}\nbase_url = {ssh_url}\n"
            f"key = {self.ssh.folder}/client_key\nknown_hosts = {self.ssh.folder}/known_hosts\n"
        )
        clients = (directory / "__CLIENTES__.DEF").read_text()
        clients = clients.replace("ftpwav = N", "ftpwav = N\naudio = audio")
        (directory / "__CLIENTES__.DEF").write_text(clients.replace("ftpwav = Y", "ftpwav = Y\naudio = audio2"))

    def find(self, url):
        """The file that a web server there would send for this link."""
        base, slash, name = url.rpartition("/")
        return self.by_url[base + slash].files / name


@pytest.fixture
def fleet(tmp_path):
    """Both run."""
    with ExitStack() as stack:
        made = Fleet(tmp_path)
        for server in (made.ftp, made.ssh):
            stack.callback(server.kill)
            server.start()
        yield made


@frozen
class Told:
    """What became of the calls."""

    truth: list
    """Each call with Asterisk's own records of it."""
    closed: dict
    """The data of `closed`, by the caller channel's name."""
    statuses: list
    """The outcome of each recording."""
    exit_status: int


def play(pair, folder):
    """Place all calls at once; gives them with Asterisk's records."""
    lab = load("labctl").Lab(pair.version, "recorded", folder)
    for caller, callee, talk_s in PLAIN:
        lab.phone(callee, 1, "answer", f"P-W{talk_s}-H")
        lab.call(caller, callee, "P-W60-H", answered_by=callee, hangup_by=callee, talk=talk_s, **CLOSED)
    for caller, callee, target in TRANSFERRED:
        lab.phone(target, 2, "answer", "P-W4-H")
        lab.phone(callee, 1, "answer", f"P-W3-R{target}-H")
        transfers = [{"kind": "blind", "how": "refer", "by": callee, "to": target, "answered_by": target}]
        lab.call(caller, callee, "P-W60-H", answered_by=callee, hangup_by=target, transfers=transfers, **CLOSED)
    lab.wait_idle()
    truth = lab.finish()
    lab.disconnect()
    assert lab.notes == []
    return truth["calls"]


async def follow(site, directory, vhosts, folder):
    """Have the daemon listen to the calls, and take from RabbitMQ what it told."""
    spool = f"/{site.pair.name}/pbx/spool/monitor"
    seen_here = site.pair.tree.parent / spool[1:]
    arguments = daemon_arguments(
        site.pair.url, str(folder), str(directory), ari_application="arimonitor-recordings",
        recordings_folders=str(seen_here), recordings_path_map=f"{spool}={seen_here}",
        recordings_work_folder=f"{folder}/work",
    )  # fmt: skip
    daemon = await Process.start(
        "arimonitor_runner.daemon", *arguments, f"--ari-user={ARI_USER}", password=ARI_PASSWORD
    )
    try:
        await daemon.until_logged("ARI connection up")
        calls = await asyncio.to_thread(play, site.pair, folder / "truth")
        recordings = sum(len(call["record"]["recordings"]) for call in calls)
        await until(lambda: len(steps(folder)) == recordings and is_empty(folder))
        exit_status = await daemon.end(signal.SIGTERM)
    finally:
        await daemon.end(signal.SIGKILL)
    closed = {}
    for vhost in vhosts:
        for _, _, body in await asyncio.to_thread(site.rabbit.consume, vhost, 10**6, timeout_s=1):
            data = json.loads(body)["data"]
            assert "status" not in data or "endpoint" in data, data  # nothing had to be told after its call
            if data.get("channelstatus") == "closed":
                assert closed.setdefault(data["channel"], data) is data
    return Told(calls, closed, steps(folder), exit_status)


def look(folder, query):
    """Ask another process's outbox."""
    with closing(sqlite3.connect(folder / "outbox.db")) as connection:
        return connection.execute(query).fetchall()


def steps(folder):
    """How far each recording is that needs nothing any more."""
    return [step for (step,) in look(folder, "SELECT step FROM recordings WHERE step IN ('published', 'given-up')")]


def is_empty(folder):
    """Has RabbitMQ everything?"""
    return look(folder, "SELECT 1 FROM messages") == []


def talked_s(call):
    """How long each recording of a call has to be, by Asterisk's own records."""
    record = call["record"]
    if not call["transfers"]:
        return [record["talk_seconds"]]
    (transfer,) = call["transfers"]
    before = transfer["made_at"] - record["peer_answered_at"]
    after = record["caller_ended_at"] - transfer["answered_at"]
    return [before + after, after]


@pytest.mark.parametrize("site", SITES, indirect=True)
def test_recorded_calls_end_with_links_to_mp3s_of_their_length(site, fleet, tmp_path, run):
    """From MixMonitor's WAV to the file behind the link, over FTP and over SSH, seven calls at a time."""
    directory = tmp_path / "directory"
    vhosts = make_directory(directory, site.rabbit)
    fleet.describe(directory)
    told = run(follow(site, directory, vhosts, tmp_path))
    assert told.exit_status == 0
    assert set(told.statuses) == {"published"}
    assert len(told.closed) == len(PLAIN) + len(TRANSFERRED)
    for call in told.truth:
        record = call["record"]
        data = told.closed[record["channel"]]
        base = next(iter(fleet.by_url if call["origin"][:3] != "114" else reversed(fleet.by_url)))
        names = [path.rpartition("/")[2].replace(".wav", ".mp3") for path in record["recordings"]]
        assert data["recordings"] == [base + name for name in names]
        assert data["urlfilename"] == data["recordings"][0]
        lengths = [decoded_seconds(fleet.find(url)) for url in data["recordings"]]
        assert lengths == pytest.approx(talked_s(call), abs=1)
        if not call["transfers"]:
            assert lengths == pytest.approx([data["callduration"]], abs=1)
    linked = [fleet.find(url) for data in told.closed.values() for url in data["recordings"]]
    assert sorted(linked) == sorted(server.files / name for server in fleet.by_url.values() for name in server.names())
