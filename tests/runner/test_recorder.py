"""`arimonitor record`: what it writes is what ARI said, and can be replayed."""

import gzip
import json
import os
import signal
from contextlib import asynccontextmanager

import pytest
import zstandard

from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored
from arimonitor_core.records import decode_record
from tests.runner.fake_ari import USER, FakeAri
from tests.runner.processes import Process
from tests.runner.replays import capture, messages_of, split
from tests.runner.waiting import until

CAPTURE = "answered_caller_hangs_up"


def read(path):
    """The records of a log, whatever its compression."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return [decode_record(line) for line in data.splitlines()]


@asynccontextmanager
async def recording(server, *options):
    process = await Process.start("arimonitor_runner.cli", "record", f"--url={server.url}", f"--user={USER}", *options)
    try:
        yield process
    finally:
        await process.end(signal.SIGKILL)


@pytest.mark.parametrize("name", ["log.ndjson", "log.ndjson.gz", "log.ndjson.zst"])
def test_a_recording_replays_to_the_same_messages(tmp_path, run, name):
    """Every event verbatim behind what Asterisk showed at the start; SIGTERM ends it with 0 and a whole file."""
    answers, events = split(capture(CAPTURE))

    async def scenario():
        async with FakeAri() as server:
            server.answers = answers
            async with recording(server, "-o", str(tmp_path / name)) as process:
                await server.when_subscribed()
                await server.send(*events)
                if name == "log.ndjson":
                    path = tmp_path / name
                    await until(lambda: path.read_bytes().count(b"\n") == len(events) + 1)
                else:
                    await process.until_logged("channel snapshots hold channelvars")
                return await process.end(signal.SIGTERM), server.handshakes[0].query_string

    status, query = run(scenario())
    assert (status, query) == (0, "app=arimonitor-record")
    records = read(tmp_path / name)
    assert isinstance(records[0], ConnectionRestored)
    assert [json.loads(record.raw) for record in records[1:]] == events[: len(records) - 1]
    if name == "log.ndjson":
        assert [m.body for m in messages_of(records, "pbx")] == [m.body for m in messages_of(capture(CAPTURE), "pbx")]


def test_losses_are_part_of_the_log(tmp_path, run):
    """A reconnect: lost, and what Asterisk showed then."""

    async def scenario():
        async with FakeAri() as server, recording(server, "-o", str(tmp_path / "log.ndjson")) as process:
            await process.until_logged("ARI connection up")
            await server.send({"type": "ChannelCreated", "number": 1})
            await server.drop()
            await process.until_logged_times("ARI connection up", 2)
            await server.send({"type": "ChannelCreated", "number": 2})
            await until(lambda: (tmp_path / "log.ndjson").read_bytes().count(b"\n") == 5)
            return await process.end(signal.SIGINT)

    assert run(scenario()) == 0
    kinds = [type(record) for record in read(tmp_path / "log.ndjson")]
    assert kinds == [ConnectionRestored, AriEventReceived, ConnectionLost, ConnectionRestored, AriEventReceived]


def test_an_existing_log_is_continued(tmp_path, run):
    """Also a compressed one: a further frame is read as the same log."""

    async def scenario():
        for _ in range(2):
            path = str(tmp_path / "log.ndjson.zst")
            async with FakeAri() as server, recording(server, "-o", path) as process:
                await process.until_logged("ARI connection up")
                assert await process.end(signal.SIGTERM) == 0

    run(scenario())
    assert [type(record) for record in read(tmp_path / "log.ndjson.zst")] == [ConnectionRestored] * 2


def test_lean_and_full_ask_for_what_they_say(tmp_path, run):
    """Lean as the daemon does; full lets every type through."""

    async def scenario(option):
        async with FakeAri() as server, recording(server, option, "-o", str(tmp_path / "log.ndjson")) as process:
            await process.until_logged("ARI connection up")
            await process.end(signal.SIGTERM)
            return server.filters

    assert len(run(scenario("--lean"))[0]) == 18
    assert run(scenario("--full")) == [[]]


def test_it_stops_after_its_duration_and_writes_to_standard_output(run):
    """The log goes to standard output, everything else to standard error."""

    async def scenario():
        async with FakeAri() as server, recording(server, "--duration", "1") as process:
            status = await process.end()
            return status, await process.output(), process.log

    status, output, log = run(scenario())
    assert status == 0
    assert isinstance(decode_record(output), ConnectionRestored)
    assert "recorded" in log[-1]["event"]


def test_a_successor_ends_it_with_3(tmp_path, run):
    """Another recorder with this application name took over; its own end is in the log."""

    async def scenario():
        async with FakeAri() as server, recording(server, "-o", str(tmp_path / "log.ndjson")) as process:
            await server.when_subscribed()
            await process.until_logged("ARI connection up")
            await server.send({"type": "ApplicationReplaced", "application": "arimonitor-record"})
            return await process.end()

    assert run(scenario()) == 3
    assert b"ApplicationReplaced" in read(tmp_path / "log.ndjson")[-1].raw


def test_a_file_that_cannot_be_written_is_named(tmp_path, run):
    """The system's reason, and no traceback."""

    async def scenario():
        async with FakeAri() as server, recording(server, "-o", str(tmp_path / "missing" / "log.ndjson")) as process:
            return await process.end(), process.log

    status, log = run(scenario())
    assert status == 1
    assert log[-1]["event"] == f"Error: {tmp_path / 'missing' / 'log.ndjson'}: No such file or directory"


def test_a_full_disk_is_told(run):
    """Nothing is recorded silently into nowhere."""
    assert os.path.exists("/dev/full")

    async def scenario():
        async with FakeAri() as server, recording(server, "-o", "/dev/full") as process:
            return await process.end(), process.log

    status, log = run(scenario())
    assert status == 1
    assert log[-1]["event"] == "Error: /dev/full: No space left on device"
