"""What `arimonitor asterisk-config` prints, given to real Asterisk: the monitor connects, and so does its watch."""

import asyncio
import re

import pytest
import structlog
import typed_settings as ts

from arimonitor_core.inputs import ConnectionRestored
from arimonitor_runner.ari import AriFeed
from arimonitor_runner.ari.rest import AriRest
from arimonitor_runner.input_queue import InputQueue
from arimonitor_runner.pbx_watch import PbxWatch
from arimonitor_runner.settings import AmiSettings, AriSettings, Settings
from tests.live.conftest import VERSIONS, on
from tests.live.lab import ARI_PASSWORD
from tests.live.lone_pbx import AMI_PASSWORD, running_pbx
from tests.runner.waiting import until


@pytest.mark.parametrize("version", [on(version) for version in VERSIONS])
def test_asterisk_takes_what_is_printed(version, tmp_path, run):
    """The user may subscribe and read queues, and the snapshots hold channelvars."""
    settings = Settings(
        ari=AriSettings(password=ts.SecretStr(ARI_PASSWORD)),
        ami=AmiSettings(user="watch", password=ts.SecretStr(AMI_PASSWORD)),
    )

    async def scenario(pbx):
        queue = InputQueue(1000)
        feed = AriFeed(pbx.settings.ari, queue)
        listening = asyncio.create_task(feed.run())
        try:
            await until(lambda: feed.is_up)
            await pbx.call(1)
            await feed.refresh()
            async with AriRest(pbx.settings.ari) as rest:
                await PbxWatch(pbx.settings.ari, pbx.settings.ami).look(rest)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        return [item for item in queue.take(1000) if isinstance(item, ConnectionRestored)]

    with structlog.testing.capture_logs() as logs, running_pbx(version, tmp_path, settings) as pbx:
        _, refreshed = run(scenario(pbx))
        pbx.run("cli", "pbx", "pjsip", "show", "settings")
        in_force = (tmp_path / "lab.log").read_text()
    assert b"MIXMONITOR_FILENAME" in refreshed.channels
    assert re.search(r"taskprocessor_overload_trigger\s*: pjsip_only", in_force)
    assert [log["event"] for log in logs if log["log_level"] in ("warning", "error")] == []
