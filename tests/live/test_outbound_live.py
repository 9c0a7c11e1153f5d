"""A real Asterisk 22 that dials us: what happens while nobody listens is sent later, whole and in order."""

import asyncio
import json
import os
from collections import defaultdict
from contextlib import asynccontextmanager

import pytest
import typed_settings as ts
from attrs import evolve

from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored
from arimonitor_runner.ari import AriFeed
from arimonitor_runner.input_queue import InputQueue
from arimonitor_runner.settings import ALL_EVENTS, AriSettings, Settings
from tests.live.conftest import on
from tests.live.lab import ARI_PASSWORD
from tests.live.lone_pbx import running_pbx
from tests.runner.waiting import until

VERSION = 22
LISTEN_USER, LISTEN_PASSWORD = "pbx1", "segredo"
APPLICATION = "arimonitor-dialed"
CALLS_BEFORE, CALLS_AWAY, CALLS_AFTER = 3, 10, 3


@pytest.fixture(scope="module", params=[on(VERSION)])
def pbx(tmp_path_factory):
    """A PBX that dials this test."""
    ari = AriSettings(
        mode="outbound",
        application=APPLICATION,
        listen_port=20_000 + os.getpid() % 20_000,
        listen_user=LISTEN_USER,
        listen_password=ts.SecretStr(LISTEN_PASSWORD),
        password=ts.SecretStr(ARI_PASSWORD),
        events=(ALL_EVENTS,),
    )
    with running_pbx(VERSION, tmp_path_factory.mktemp("dialing"), Settings(ari=ari)) as lone:
        yield lone


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
    dialed = pbx.settings.ari
    unbroken_settings = evolve(dialed, mode="inbound", application="arimonitor-unbroken")

    async def scenario():
        async with listening(unbroken_settings) as unbroken:
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
