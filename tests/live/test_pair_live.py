"""Two daemons on one real Asterisk; the one that publishes is killed in the middle of twenty calls."""

import asyncio
import json
import signal
import sqlite3
from contextlib import closing

import pytest

from tests.live.evening import Evening, Hands, play
from tests.live.lab import ARI_PASSWORD, ARI_USER
from tests.live.test_daemon_live import TWENTY_CALLS, by_call
from tests.live.verdicts import judge_messages
from tests.runner.processes import Process, daemon_arguments
from tests.runner.waiting import until

LEADS = "this member leads: it publishes from now on"
ON_22 = pytest.param((22, "channelvars"), marks=pytest.mark.xdist_group("asterisk-22"), id="22-channelvars")


async def start(site, folder, name, meeting):
    """Start a member, with an ARI application and a state folder of its own."""
    spool = folder / name
    spool.mkdir(exist_ok=True)
    options = {"ari_application": f"arimonitor-{name}", "pair_member": name, "pair_vhost": meeting}
    arguments = daemon_arguments(site.pair.url, str(spool), str(site.directory), **options)
    daemon = await Process.start(
        "arimonitor_runner.daemon", *arguments, f"--ari-user={ARI_USER}", password=ARI_PASSWORD
    )
    await daemon.until_logged("ARI connection up")
    await daemon.until_logged("the pair's connection to RabbitMQ is up")
    return daemon


def left(path):
    """How many messages are in the outbox of a daemon."""
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM messages").fetchone()
    return count


async def spend(site, folder):
    """Play the twenty calls beside a pair and a recorder."""
    rabbit, meeting = site.rabbit, site.rabbit.new_vhost()
    evening = Evening(TWENTY_CALLS, folder)
    daemons = {"a": await start(site, folder, "a", meeting)}
    recorder = await Process.start(
        "arimonitor_runner.cli", "record", f"--url={site.pair.url}", f"--user={ARI_USER}",
        "-o", str(folder / "recorded.ndjson"), password=ARI_PASSWORD,
    )  # fmt: skip

    async def kill_the_leader():
        def told():
            return sum(rabbit.depth(vhost) for vhost in site.vhosts)

        before = await asyncio.to_thread(told)  # the endpoints' states
        await until(lambda: asyncio.to_thread(lambda: told() >= before + 20))
        await daemons["a"].end(signal.SIGKILL)
        await daemons["b"].until_logged(LEADS)
        daemons["a"] = await start(site, folder, "a", meeting)

    async def end():
        await killing
        await until(lambda: left(folder / "a" / "outbox.db") == left(folder / "b" / "outbox.db") == 0)
        evening.exit_statuses = tuple([await daemons[name].end(signal.SIGTERM) for name in ("a", "b")])
        await recorder.end(signal.SIGTERM)

    try:
        await daemons["a"].until_logged(LEADS)
        daemons["b"] = await start(site, folder, "b", meeting)
        await recorder.until_logged("ARI connection up")
        killing = asyncio.create_task(kill_the_leader())
        hands = Hands(asyncio.get_running_loop(), None, daemons["b"], end)
        await asyncio.to_thread(play, site.pair, TWENTY_CALLS, folder, hands)
    finally:
        for process in (*daemons.values(), recorder):
            await process.end(signal.SIGKILL)
    evening.log = daemons["b"].log
    for vhost in site.vhosts:
        evening.delivered += await asyncio.to_thread(rabbit.consume, vhost, 10**6, timeout_s=1)
    return evening


@pytest.mark.parametrize("site", [ON_22], indirect=True)
def test_twenty_calls_are_told_completely_though_the_leader_is_killed(site, judge, tmp_path, run):
    """Each message agrees with Asterisk's own records; repeats are byte by byte alike; each call has one number."""
    evening = run(spend(site, tmp_path))
    first = {}
    for delivered in evening.delivered:
        _, properties, body = delivered
        assert first.setdefault(properties.message_id, delivered)[2] == body
    evening.delivered = list(first.values())
    calls = by_call(evening.bodies, leave_out=())
    assert len(calls) == 20
    for messages in calls.values():
        statuses = [message["data"]["channelstatus"] for message in messages]
        assert statuses in (["open", "oncall", "closed"], ["open", "unanswered"])
        assert len({message["data"]["callnumber"] for message in messages}) == 1
    assert len({messages[0]["data"]["callnumber"] for messages in calls.values()}) == 20
    assert judge_messages(judge, evening) == []
    assert evening.exit_statuses == (0, 0)
    assert not any(json.loads(body)["data"].get("channelstatus") == "FORCECLOSE" for body in evening.bodies)
