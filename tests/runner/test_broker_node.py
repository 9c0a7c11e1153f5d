"""A RabbitMQ node that is killed, restarted and starved: what it confirmed is there, the rest comes after, in order."""

import asyncio
import random

import pytest
import structlog
from attrs import evolve

from tests.runner.delivery import SETTINGS, STATUSES, by_call, delivering, directory
from tests.runner.waiting import until

FAULTS = 20
VHOSTS = 4
CALLS_AT_ONCE = 12


class Load:
    """Calls that come and go on several vhosts, as long as the test wants; every message is remembered."""

    def __init__(self, delivery, message, vhosts, chance):
        self._delivery, self._message, self._vhosts, self._chance = delivery, message, vhosts, chance
        self._number = 0
        self._going_on = True
        self.sent = {vhost: {} for vhost in vhosts}

    def stop(self):
        """End after the calls that are under way."""
        self._going_on = False

    def _waiting(self):
        confirmed = sum(self._delivery.count(vhost, "confirmed") for vhost in self._vhosts)
        return sum(map(len, self.sent.values())) - confirmed

    async def run(self):
        """Send; where many wait, as they do while the broker is down, wait as well."""
        while self._going_on:
            calls = [(self._chance.choice(self._vhosts), self._number + n) for n in range(CALLS_AT_ONCE)]
            self._number += CALLS_AT_ONCE
            for status in STATUSES:
                await until(lambda: self._waiting() < 150)
                messages = [self._message(f"{number}", status, vhost=vhost) for vhost, number in calls]
                await self._delivery.send(*messages)
                for one in messages:
                    self.sent[one.vhost][one.message_id] = one.body


def test_a_broker_that_dies_again_and_again_loses_nothing(outbox_path, own_rabbit, message):
    """Kills and restarts at random moments of the traffic: nothing missing, calls in order, repeats recognisable."""
    chance = random.Random(1101)
    vhosts = [own_rabbit.new_vhost() for _ in range(VHOSTS)]
    settings = evolve(SETTINGS, window=20, confirm_timeout_s=3.0, backoff_max_s=0.5)

    async def scenario():
        async with delivering(outbox_path, directory(own_rabbit.url, *vhosts), settings) as delivery:
            await delivery.send(*(message(f"first-{vhost}", vhost=vhost) for vhost in vhosts))
            await delivery.until_empty()
            load = Load(delivery, message, vhosts, chance)
            loading = asyncio.create_task(load.run())

            def confirmed():
                return sum(delivery.count(vhost, "confirmed") for vhost in vhosts)

            # A quorum queue whose node is killed within moments of its creation never confirms again (RabbitMQ 3.10):
            # the first fault is a restart.
            for fault in range(FAULTS):
                goal = confirmed() + chance.randrange(20, 200)
                await until(lambda goal=goal: confirmed() >= goal)
                end = own_rabbit.kill if fault and chance.random() < 0.7 else own_rabbit.stop
                await asyncio.to_thread(end)
                await asyncio.to_thread(own_rabbit.start, hasty=True)
            load.stop()
            await loading
            await delivery.until_empty()
            return load.sent

    sent = asyncio.run(asyncio.wait_for(scenario(), 400))
    assert sum(map(len, sent.values())) > 2000
    for vhost in vhosts:
        delivered = own_rabbit.consume(vhost, 10**6, timeout_s=1)[1:]
        bodies = {properties.message_id: body for _, properties, body in delivered}
        assert bodies == sent[vhost]
        calls = {message_id.partition(":")[0] for message_id in sent[vhost]}
        assert by_call(delivered) == {call: list(STATUSES) for call in calls}


@pytest.mark.parametrize(
    ("alarm", "relief"),
    [
        (("set_vm_memory_high_watermark", "0.000001"), ("set_vm_memory_high_watermark", "absolute", "2GB")),
        (("set_disk_free_limit", str(10**15)), ("set_disk_free_limit", "200MB")),
    ],
    ids=["memory", "disk"],
)
def test_a_blocking_broker_is_waited_for(outbox_path, own_rabbit, message, run, alarm, relief):
    """RabbitMQ short of memory or disk takes nothing for a while: said, waited for, and no lost connection."""
    vhost = own_rabbit.new_vhost()

    async def scenario():
        settings = evolve(SETTINGS, confirm_timeout_s=0.2)
        async with delivering(outbox_path, directory(own_rabbit.url, vhost), settings) as delivery:
            await delivery.send(message("a", vhost=vhost))
            await delivery.until_empty()
            await asyncio.to_thread(own_rabbit.ctl, *alarm)
            with structlog.testing.capture_logs() as logs:
                await delivery.send(message("b", vhost=vhost))
                await until(lambda: any("blocks" in log["event"] for log in logs))
                assert not await delivery.broker.drain(0.5)
                await asyncio.to_thread(own_rabbit.ctl, *relief)
                await delivery.until_empty()
            return [log["event"] for log in logs if log["log_level"] == "error"]

    assert run(scenario()) == []
