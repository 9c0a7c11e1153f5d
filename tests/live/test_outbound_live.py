"""A real Asterisk 22 that dials us: what happens while nobody listens is sent later, whole and in order."""

import asyncio
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections import defaultdict
from contextlib import asynccontextmanager, suppress

import pytest
import typed_settings as ts

from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored
from arimonitor_runner.ari import AriFeed
from arimonitor_runner.input_queue import InputQueue
from arimonitor_runner.settings import ALL_EVENTS, AriSettings
from tests.live.conftest import on
from tests.live.lab import ARI_PASSWORD, ARI_USER, ASTERISK, HOME, SUITES, build, find_own_host
from tests.runner.waiting import until

VERSION = 22
LISTEN_USER, LISTEN_PASSWORD = "pbx1", "segredo"
APPLICATION = "arimonitor-dialed"
CALLS_BEFORE, CALLS_AWAY, CALLS_AFTER = 3, 10, 3

_ARI = f"""
[dialing]
type = outbound_websocket
websocket_client_id = monitor
apps = {APPLICATION}
subscribe_all = yes
local_ari_user = {ARI_USER}
"""
_CLIENT = f"""
[monitor]
type = websocket_client
connection_type = persistent
uri = ws://127.0.0.1:%d/ari
protocols = ari
username = {LISTEN_USER}
password = {LISTEN_PASSWORD}
"""


class DialingPbx:
    """A PBX of its own, without telephones: its calls are Local channels whose halves wait for digits, in silence."""

    def __init__(self, folder, listen_port):
        self.host = find_own_host().replace("127.", "127.1", 1)
        self.name = f"dialing-{os.getpid()}"
        self.tree = HOME / SUITES[VERSION] / self.name
        self.folder, self.listen_port = folder, listen_port

    def run(self, *arguments):
        """Run the lab's script for this PBX."""
        environment = {**os.environ, "LAB_HOME": str(HOME), "LAB_HOST": self.host, "LAB_NAME": self.name}
        command = [ASTERISK / "lab.sh", str(VERSION), *arguments]
        with (self.folder / "lab.log").open("a+") as log:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, env=environment)

    def start(self):
        """Write the configuration and start it."""
        assert build(VERSION).returncode == 0
        extra = self.folder / "extra"
        extra.mkdir()
        (extra / "pbx-ari.conf").write_text(_ARI)
        self.run("conf", str(extra), "--channelvars")
        (self.tree / "pbx/etc/websocket_client.conf").write_text(_CLIENT % self.listen_port)
        self.run("up", "pbx")

    def stop(self):
        """Stop it and remove what it left."""
        self.run("down")
        shutil.rmtree(self.tree)
        for path in HOME.glob(f"{SUITES[VERSION]}-{self.name}-*"):
            path.unlink()

    def request(self, method, path):
        """Ask over REST."""
        request = urllib.request.Request(f"http://{self.host}:8088/ari/{path}", method=method)
        request.add_header("Authorization", "Basic " + b64encode(f"{ARI_USER}:{ARI_PASSWORD}".encode()).decode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    async def call(self, count):
        """Place so many calls, one after the other."""
        for _ in range(count):
            where = "endpoint=Local/94@condominio&context=condominio&extension=94&priority=1"
            await asyncio.to_thread(self.request, "POST", f"channels?{where}")

    async def hang_up(self):
        """End all calls, and wait until they are gone."""
        for channel in await asyncio.to_thread(self.request, "GET", "channels"):
            with suppress(urllib.error.HTTPError):  # gone with its other half
                await asyncio.to_thread(self.request, "DELETE", f"channels/{channel['id']}")
        await until(lambda: self.request("GET", "channels") == [])


@pytest.fixture(scope="module", params=[on(VERSION)])
def pbx(tmp_path_factory):
    """A PBX that dials this test."""
    listener = DialingPbx(tmp_path_factory.mktemp("dialing"), 20_000 + os.getpid() % 20_000)
    try:
        listener.start()
        yield listener
    finally:
        listener.stop()


def settings(pbx, **changes):
    return AriSettings(
        url=f"http://{pbx.host}:8088",
        user=ARI_USER,
        password=ts.SecretStr(ARI_PASSWORD),
        events=(ALL_EVENTS,),
        **changes,
    )


class Heard:
    """What a feed fed so far."""

    def __init__(self, queue):
        self._queue = queue
        self.inputs = []

    def look(self):
        """Take what came since."""
        self.inputs += self._queue.take(10**6)
        return self.inputs

    def is_up(self):
        """Was the picture fed?"""
        return any(isinstance(item, ConnectionRestored) for item in self.look())

    def waits_for_digits(self, channels):
        """Did so many channels come to where they wait? Then nothing happens for six seconds."""
        events = by_channel(self.look()).values()
        return sum(any(is_waiting(event) for event in channel) for channel in events) >= channels


def is_waiting(event):
    return event["type"] == "ChannelDialplan" and event["dialplan_app"] == "Read"


@asynccontextmanager
async def listening(chosen):
    """A feed, from its start to its end; gives what it fed, complete after the end."""
    queue = InputQueue(chosen.queue_max)
    heard = Heard(queue)
    task = asyncio.create_task(AriFeed(chosen, queue).run())
    try:
        await until(heard.is_up)
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        heard.look()


def by_channel(inputs):
    """Every event that names a channel, in order, by channel; without the application, which differs."""
    events = defaultdict(list)
    for item in inputs:
        if isinstance(item, AriEventReceived):
            event = json.loads(item.raw)
            event.pop("application")
            channel = event.get("channel") or event.get("peer") or {}
            if "id" in channel:
                events[channel["id"]].append(event)
    return dict(events)


def test_nothing_is_lost_while_nobody_listens(pbx, run):
    """The feed leaves in mid-call and comes back: event by event the same as what an unbroken connection heard."""
    dialed = settings(
        pbx,
        mode="outbound",
        application=APPLICATION,
        listen_port=pbx.listen_port,
        listen_user=LISTEN_USER,
        listen_password=ts.SecretStr(LISTEN_PASSWORD),
    )

    async def scenario():
        async with listening(settings(pbx, application="arimonitor-unbroken")) as unbroken:
            async with listening(dialed) as before:
                await pbx.call(CALLS_BEFORE)
                # It leaves in silence: Asterisk can crash while it writes to a socket that is closed.
                await until(lambda: before.waits_for_digits(2 * CALLS_BEFORE))
            await pbx.call(CALLS_AWAY)
            await until(lambda: unbroken.waits_for_digits(2 * (CALLS_BEFORE + CALLS_AWAY)))
            await pbx.hang_up()
            await pbx.call(CALLS_AFTER)
            await until(lambda: unbroken.waits_for_digits(2 * (CALLS_BEFORE + CALLS_AWAY + CALLS_AFTER)))
            async with listening(dialed) as after:
                await pbx.hang_up()
                await until(lambda: by_channel(before.inputs + after.look()) == by_channel(unbroken.look()))
        return unbroken.inputs, before.inputs, after.inputs

    unbroken, before, after = run(scenario())
    wanted, told = by_channel(unbroken), by_channel([*before, *after])
    assert len(wanted) == 2 * (CALLS_BEFORE + CALLS_AWAY + CALLS_AFTER)
    assert told == wanted
    assert not any(isinstance(item, ConnectionLost) for item in (*before, *after))
    # What was kept comes before the picture, and the picture shows the calls that still live.
    restored = next(n for n, item in enumerate(after) if isinstance(item, ConnectionRestored))
    assert len(by_channel(after[:restored])) >= 2 * CALLS_AWAY
    assert len(json.loads(after[restored].channels)) == 2 * CALLS_AFTER
