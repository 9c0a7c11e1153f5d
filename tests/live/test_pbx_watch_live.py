"""The watch against real Asterisk: it finds our own queue over AMI, and has nothing to say of a healthy PBX."""

import asyncio

import structlog
import typed_settings as ts

from arimonitor_runner.ami import ami_session
from arimonitor_runner.ari import AriFeed
from arimonitor_runner.ari.rest import AriRest
from arimonitor_runner.input_queue import InputQueue
from arimonitor_runner.pbx_watch import COMMAND, PbxWatch, parse_queues
from arimonitor_runner.settings import AmiSettings, AriSettings
from tests.live.lab import ARI_PASSWORD, ARI_USER
from tests.runner.waiting import until

AMI_USER = AMI_PASSWORD = "lab"
APPLICATION = "arimonitor-watched"


def test_our_own_queue_is_found_and_healthy(site, run):
    """Both versions show it, each in its own columns."""
    ari = AriSettings(url=site.pair.url, user=ARI_USER, password=ts.SecretStr(ARI_PASSWORD), application=APPLICATION)
    ami = AmiSettings(host=site.pair.host, user=AMI_USER, password=ts.SecretStr(AMI_PASSWORD))

    async def scenario():
        queue = InputQueue(1000)
        feed = AriFeed(ari, queue)
        listening = asyncio.create_task(feed.run())
        try:
            await until(lambda: feed.is_up)
            async with ami_session(ami, timeout_s=10) as session:
                queues = parse_queues(await session.run_command(COMMAND))
            with structlog.testing.capture_logs() as logs:
                async with AriRest(ari) as rest:
                    await PbxWatch(ari, ami).look(rest)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        return queues, logs

    queues, logs = run(scenario())
    (ours,) = [one for one in queues if one.name.startswith(f"stasis/m:ari:application/{APPLICATION}-")]
    assert 0 <= ours.length < ours.high_water == 500
    assert logs == []
