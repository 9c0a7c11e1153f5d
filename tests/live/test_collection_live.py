"""The single questions of a picture, as real Asterisk answers them: does a channel exist, what are its variables?"""

import json
import time

import typed_settings as ts
from aiohttp import ClientSession

from arimonitor_runner.ari.channelvars import look_at_channels
from arimonitor_runner.ari.collection import Collector
from arimonitor_runner.ari.rest import AriRest, authorization
from arimonitor_runner.settings import AriSettings
from tests.live.lab import ARI_PASSWORD, ARI_USER
from tests.runner.waiting import until

CALL = "live/4;x"
"""An id that has to be quoted; Asterisk names the other half of the call after it."""


def test_channels_are_confirmed_and_their_variables_read(site, run):
    """A known channel that is gone is gone; of those that live the variables are read where snapshots lack them."""
    ari = AriSettings(url=site.pair.url, user=ARI_USER, password=ts.SecretStr(ARI_PASSWORD))
    collector = Collector(ari, lambda: {CALL, "gone/1"})

    async def scenario():
        async with ClientSession(f"{ari.url}/ari/", headers=authorization(ari)) as asterisk, AriRest(ari) as rest:

            async def post(path, method="POST", **query):
                async with asterisk.request(method, path, params=query) as answer:
                    assert answer.status < 300

            where = {"context": "condominio", "extension": "94", "priority": "1"}
            await post("channels", endpoint="Local/94@condominio", channelId=CALL, **where)

            pictures = []

            async def waits_for_digits():
                pictures.append(await collector.collect(rest, time.time()))
                return pictures[-1].channels.count(b'"Read"') == 2

            await until(waits_for_digits)
            asked_before = rest.requests
            await collector.collect(rest, time.time())
            await post(f"channels/{CALL.replace('/', '%2F')}", method="DELETE")
            return pictures[-1], rest.requests - asked_before

    picture, requests = run(scenario())
    variables = json.loads(picture.variables)
    assert look_at_channels(picture.channels) is site.pair.with_channelvars
    assert (collector.counts.orphans, collector.counts.unlisted) == (0, 0)
    halves = {CALL, f"{CALL};2"}
    if site.pair.with_channelvars:
        # The four lists, the missing channel, and the half that is not known.
        assert (variables, requests) == ({}, 6)
    else:
        assert variables.keys() == halves
        assert all(values["CHANNEL(linkedid)"] == CALL for values in variables.values())
        assert all(values["MIXMONITOR_FILENAME"].endswith(".wav") for values in variables.values())
        assert requests == 5 + 3 * 2
