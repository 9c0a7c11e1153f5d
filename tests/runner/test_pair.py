"""Two members follow the same calls; whatever happens, the clients get every message, in order, repeats being alike."""

import asyncio
import json
import random
import signal
import sqlite3
import time
from contextlib import AsyncExitStack, closing
from itertools import groupby

import msgspec
import pika
import pytest
import structlog
from attrs import asdict, evolve

from arimonitor_core.directory import Directory
from arimonitor_core.inputs import AriEventReceived
from arimonitor_runner.outbox import Outbox
from arimonitor_runner.outbox_marks import callnumber_mark
from tests.runner.pair_station import MARK, SERVER, Exchange, Site, Station, build_events
from tests.runner.processes import Process
from tests.runner.proxy import Proxy
from tests.runner.waiting import until

STATUSES = ["open", "oncall", "closed"]


@pytest.fixture
def site(rabbit):
    """A meeting place and a client, each with a vhost of this test's own."""
    meeting, clients = rabbit.new_vhost(), rabbit.new_vhost()
    rabbit.declare(clients)
    return Site(meeting_url=rabbit.url, clients_url=rabbit.url, meeting_vhost=meeting, clients_vhost=clients)


def port_of(url):
    return pika.URLParameters(url).port


def via(site, proxy):
    """The same site, its meeting place behind a proxy."""
    return evolve(site, meeting_url=f"amqp://guest:guest@127.0.0.1:{proxy.port}")


def check(delivered, calls):
    """Every message of every call, in order; repeats alike; a number for each call, none for two. Gives the repeats."""
    bodies, numbers, told = {}, {}, {}
    for _, properties, body in delivered:
        data = json.loads(body)["data"]
        assert bodies.setdefault(properties.message_id, body) == body
        assert numbers.setdefault(data["guid"], data["callnumber"]) == data["callnumber"]
        said = told.setdefault(data["guid"], [])
        if data["channelstatus"] not in said:
            said.append(data["channelstatus"])
    assert len(told) == calls
    assert all(said == STATUSES for said in told.values())
    assert len(set(numbers.values())) == calls
    return len(delivered) - len(bodies)


async def both_empty(*stations):
    await until(lambda: all_empty(stations))


async def all_empty(stations):
    return all([await station.is_empty() for station in stations])


def is_done(path, events):
    """Look into the outbox of another process: were so many events decided, and is nothing left of them?"""
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM messages").fetchone()
        row = connection.execute("SELECT value FROM meta WHERE key = ?", (f"mark/{MARK}",)).fetchone()
    return count == 0 and row is not None and int(row[0]) == events


def count_leaderships(process):
    return sum("this member leads:" in line["event"] for line in process.log)


async def until_leading(station):
    await until(lambda: station.sink.is_leading)


def test_one_leads_and_the_other_one_keeps_its_outbox_up_to_date(site, rabbit, tmp_path, run):
    """Both decide every message; the clients get each once, and both outboxes end empty."""
    events = build_events(30)

    async def scenario():
        async with Station(site, "a", tmp_path / "a.db") as first, Station(site, "b", tmp_path / "b.db") as second:
            await until(lambda: first.sink.is_leading or second.sink.is_leading)
            for start in range(0, len(events), 50):
                piece = events[start : start + 50]
                await asyncio.gather(first.take(piece), second.take(piece))
            await both_empty(first, second)
            assert first.sink.is_leading != second.sink.is_leading
            assert first.sink.counts.leaderships + second.sink.counts.leaderships == 1

    run(scenario())
    assert check(rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5), 30) == 0


def test_members_that_start_together_have_one_leader_at_any_time(site, tmp_path, run):
    """RabbitMQ gives the token to one alone; each leader that goes is followed by the other."""

    async def scenario():
        leaders = []
        async with AsyncExitStack() as stack:
            members = [Station(site, name, tmp_path / f"{name}.db") for name in ("a", "b")]
            await asyncio.gather(*(stack.enter_async_context(member) for member in members))
            for _ in range(4):
                await until(lambda members=members: any(member.sink.is_leading for member in members))
                leader, other = sorted(members, key=lambda member: not member.sink.is_leading)
                assert not other.sink.is_leading
                leaders.append(leader.member)
                await leader.sink.close()
                await until_leading(other)
                assert not leader.sink.is_leading
                await leader.sink.start()
                members = [leader, other]
        return leaders

    leaders = run(scenario())
    assert [name for name, _ in groupby(leaders)] == leaders


def test_a_planned_stop_hands_over_without_a_loss_or_a_repeat(site, rabbit, tmp_path, run):
    """The leader drains and goes in the middle of calls; the other one delivers what comes after."""
    events = build_events(40, wave=40)
    half = len(events) // 2

    async def scenario():
        async with Station(site, "b", tmp_path / "b.db") as second:
            await until_leading(second)
            async with Station(site, "a", tmp_path / "a.db") as first:
                await asyncio.gather(first.take(events[:half]), second.take(events[:half]))
                assert await second.sink.drain(30)
                await second.sink.close()
                await until_leading(first)
                await first.take(events[half:])
                await until(first.is_empty)

    run(scenario())
    assert check(rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5), 40) == 0


def test_numbers_of_the_leader_hold_wherever_a_call_is_told_of(site, rabbit, tmp_path, run):
    """The members count differently and see calls in another order; a call keeps the number it was first told with."""
    count, waves = 40, 2
    streams = [build_events(count, wave=count // waves, backwards=backwards) for backwards in (False, True)]

    async def scenario():
        async with Station(site, "a", tmp_path / "a.db") as first:
            await until_leading(first)
            async with Station(site, "b", tmp_path / "b.db", first_callnumber=25) as second:
                half = len(streams[0]) * 3 // 4
                await second.take(streams[1][:half])
                await first.take(streams[0][:half])
                await first.sink.close()  # without a drain: whatever is not delivered yet, the other one has to deliver
                await until_leading(second)
                await second.take(streams[1][half:])
                await until(second.is_empty)
                numbers = {number for numbered in second.given for number in numbered.numbers.values()}
                assert numbers

    run(scenario())
    check(rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5), count)


def test_a_slower_member_stores_nothing_that_is_delivered(site, rabbit, tmp_path, run):
    """What it decides after the leader delivered it counts as repeated."""
    events = build_events(20)

    async def scenario():
        async with Station(site, "a", tmp_path / "a.db") as first, Station(site, "b", tmp_path / "b.db") as second:
            await until(lambda: first.sink.is_leading or second.sink.is_leading)
            leader, slower = sorted((first, second), key=lambda station: not station.sink.is_leading)
            await leader.take(events)
            await until(leader.is_empty)
            appended = await slower.take(events)
            assert (appended.stored, len(appended.repeated)) == ([], 60)
            assert not any(call.callnumber for call in slower.monitor.book.calls.values())

    run(scenario())
    assert check(rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5), 20) == 0


def test_a_forced_close_never_follows_the_leaders_last_message(site, rabbit, tmp_path, run):
    """The standby had a gap and takes its calls for lost; the leader saw them end, and told so."""
    events = build_events(10, wave=10)
    half = len(events) * 3 // 4

    async def scenario():
        async with Station(site, "a", tmp_path / "a.db") as first:
            await until_leading(first)
            async with Station(site, "b", tmp_path / "b.db") as second:
                await second.take(events[:half])
                await first.take(events)
                await both_empty(first, second)
                appended = await second.lose_and_find([])
                assert appended.stored == []
                assert len(appended.repeated) == 10
                await first.sink.close()
                await until_leading(second)
                assert await second.is_empty()

    run(scenario())
    assert check(rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5), 10) == 0


def test_a_forced_close_that_came_first_is_taken_back(site, rabbit, tmp_path, run):
    """The same, the standby being the faster one."""
    events = build_events(10, wave=10)
    half = len(events) * 3 // 4

    async def scenario():
        async with Station(site, "a", tmp_path / "a.db") as first:
            await until_leading(first)
            async with Station(site, "b", tmp_path / "b.db") as second:
                await second.take(events[:half])
                appended = await second.lose_and_find([])
                assert len(appended.stored) == 10
                await first.take(events)
                await both_empty(first, second)

    run(scenario())
    assert check(rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5), 10) == 0


def test_a_leader_that_loses_the_meeting_place_stops_and_the_other_one_goes_on(site, rabbit, tmp_path, run):
    """Its connection there is cut again and again, the one to the clients is not."""
    events = build_events(200, wave=20)

    async def scenario():
        async with Proxy(port_of(site.meeting_url)) as left, Proxy(port_of(site.meeting_url)) as right:
            first = Station(via(site, left), "a", tmp_path / "a.db")
            second = Station(via(site, right), "b", tmp_path / "b.db", first_callnumber=7)
            async with first, second:
                step = len(events) // 8
                for start in range(0, len(events), step):
                    await until(lambda: first.sink.is_leading or second.sink.is_leading)
                    leader, proxy = (first, left) if first.sink.is_leading else (second, right)
                    piece = events[start : start + step]
                    failures = leader.sink.counts.failures
                    await asyncio.gather(first.take(piece), second.take(piece))
                    await proxy.cut()
                    await until(lambda leader=leader, before=failures: leader.sink.counts.failures > before)
                await both_empty(first, second)
                return first.sink.counts.leaderships + second.sink.counts.leaderships

    assert run(scenario()) >= 8
    check(rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5), 200)


def test_a_leader_that_is_not_heard_stops_before_another_one_begins(site, rabbit, tmp_path, run):
    """The network swallows everything: no error tells the leader so, only that nothing is confirmed any more."""
    events = build_events(20)
    half = len(events) // 2

    async def scenario():
        async with Proxy(port_of(site.meeting_url)) as proxy:
            first = Station(via(site, proxy), "a", tmp_path / "a.db", heartbeat_s=1)
            async with first:
                await until_leading(first)
                async with Station(site, "b", tmp_path / "b.db", heartbeat_s=1) as second:
                    await asyncio.gather(first.take(events[:half]), second.take(events[:half]))
                    await both_empty(first, second)
                    proxy.stall()
                    await until(lambda: not first.sink.is_leading)
                    assert not second.sink.is_leading
                    await asyncio.gather(first.take(events[half:]), second.take(events[half:]))
                    await until_leading(second)
                    await until(second.is_empty)
                    proxy.resume()
                    await until(first.is_empty)

    run(scenario())
    assert check(rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5), 20) == 0


def test_where_nobody_can_meet_nobody_publishes_and_all_is_kept(site, rabbit, tmp_path, run):
    """Both lose the meeting place, the clients can be reached: what happens meanwhile is told afterwards."""
    events = build_events(20)

    async def scenario():
        async with Proxy(port_of(site.meeting_url)) as proxy:
            first = Station(via(site, proxy), "a", tmp_path / "a.db")
            second = Station(via(site, proxy), "b", tmp_path / "b.db")
            async with first, second:
                await until(lambda: first.sink.is_leading or second.sink.is_leading)
                proxy.refuse()
                await proxy.cut()
                await until(lambda: not first.sink.is_leading and not second.sink.is_leading)
                await asyncio.gather(first.take(events), second.take(events))
                failures = first.sink.counts.failures
                await until(lambda: first.sink.counts.failures > failures + 1)
                kept = [await station.outbox.counts() for station in (first, second)]
                proxy.refuse(refusing=False)
                await both_empty(first, second)
                return kept

    assert run(scenario()) == [{site.clients_vhost: {"pending": 60}}] * 2
    assert check(rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5), 20) == 0


def test_a_restarted_rabbitmq_is_found_again(own_rabbit, tmp_path, run):
    """Stopped, then killed, in the middle of the traffic: each time one of the two leads again, nothing is lost."""
    meeting, clients = own_rabbit.new_vhost(), own_rabbit.new_vhost()
    own_rabbit.declare(clients)
    site = Site(meeting_url=own_rabbit.url, clients_url=own_rabbit.url, meeting_vhost=meeting, clients_vhost=clients)
    events = build_events(90, wave=30)
    third = len(events) // 3

    async def scenario():
        async with Station(site, "a", tmp_path / "a.db") as first, Station(site, "b", tmp_path / "b.db") as second:
            await until(lambda: first.sink.is_leading or second.sink.is_leading)
            # Stopped first: a quorum queue that is younger than a moment is lost for good with its node when that is
            # killed (RabbitMQ 3.10).
            for turn, end in enumerate((own_rabbit.stop, own_rabbit.kill)):
                start = turn * third
                middle = start + third * 2 // 3
                await asyncio.gather(first.take(events[start:middle]), second.take(events[start:middle]))
                await asyncio.to_thread(end)
                await asyncio.gather(
                    first.take(events[middle : start + third]), second.take(events[middle : start + third])
                )
                await asyncio.to_thread(own_rabbit.start)
                await both_empty(first, second)
            await asyncio.gather(first.take(events[2 * third :]), second.take(events[2 * third :]))
            await both_empty(first, second)

    run(scenario())
    check(own_rabbit.consume(clients, 10**6, timeout_s=2), 90)


def test_a_member_that_comes_later_learns_the_numbers_of_calls_that_go_on(site, rabbit, tmp_path, run):
    """Even where its queue was lost, or never was there: it asks, and the leader answers."""
    events = build_events(10, wave=10)
    half = len(events) // 2

    async def scenario():
        async with Station(site, "a", tmp_path / "a.db", first_callnumber=70) as first:
            await until_leading(first)
            await first.take(events[:half])
            await until(first.is_empty)
            with rabbit.channel(site.meeting_vhost) as channel:
                channel.queue_delete("arimonitor.pair.pbx.b")
            async with Station(site, "b", tmp_path / "b.db") as second:
                await second.take(events[:half])
                await until(lambda: second.given)
                return {call.guid: call.callnumber for call in first.monitor.book.calls.values()}, second.given[
                    0
                ].numbers

    told, numbers = run(scenario())
    assert sorted(told.values()) == list(range(70, 80))
    assert numbers == {**told, "": 79}


def test_a_daemon_that_was_alone_begins_a_pair_with_the_numbers_it_gave(site, rabbit, tmp_path, run, message):
    """Calls that it told of before it had a partner keep their numbers, and no number that it ever used comes again."""
    events = build_events(20, wave=10)
    half, quarter = len(events) // 2, len(events) // 4
    body = b'{"data":{"guid":"old","channelstatus":"closed","callnumber":66}}'
    waiting = message("old", "closed", vhost=site.clients_vhost, callnumber=66, body=body)

    async def scenario():
        outbox = Outbox(tmp_path / "a.db")
        await outbox.open()
        await outbox.append([waiting], marks={callnumber_mark(SERVER): 500})
        await outbox.close()
        async with AsyncExitStack() as stack:
            first = Station(site, "a", tmp_path / "a.db")
            first.monitor.book.next_callnumber = 70
            for received_at, raw in events[:quarter]:
                first.monitor.handle(AriEventReceived(received_at, raw))  # told of by a daemon without a partner
            before = {call.guid: call.callnumber for call in first.monitor.book.calls.values()}
            await stack.enter_async_context(first)
            await until_leading(first)
            second = await stack.enter_async_context(Station(site, "b", tmp_path / "b.db"))
            await second.take(events[:quarter])
            await until(lambda: second.given)
            await first.sink.drain(30)
            await first.sink.close()
            await until_leading(second)
            await second.take(events[quarter:half])
            await second.take(events[half:])
            await until(second.is_empty)
            return before

    before = run(scenario())
    delivered = [json.loads(body)["data"] for *_, body in rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5)]
    numbers = {data["guid"]: data["callnumber"] for data in delivered}
    assert sorted(before.values()) == list(range(70, 80))
    assert numbers.pop("old") == 66
    assert {guid: number for guid, number in numbers.items() if guid in before} == before
    assert sorted(number for guid, number in numbers.items() if guid not in before) == list(range(501, 511))


def test_an_endpoints_state_is_told_by_its_last_message_alone(site, rabbit, tmp_path, run, message):
    """Delivered, it makes older ones and such that say the same needless; old ones are no news for who takes over."""
    now = int(time.time())

    def state(at, status="Reachable"):
        return msgspec.structs.replace(
            message("endpoint:1121", vhost=site.clients_vhost, callnumber=0),
            type="endpoint-status",
            routing_key="endpoint-status",
            message_id=f"pbx:1121:{status}:{at}",
            timestamp=at,
        )

    async def scenario():
        async with Station(site, "a", tmp_path / "a.db") as first:
            await until_leading(first)
            async with Station(site, "b", tmp_path / "b.db") as second:
                await second.outbox.append([state(now - 2), state(now - 1, "Unreachable"), state(now + 5)])
                first.sink.offer((await first.outbox.append([state(now)])).stored)
                await both_empty(first, second)
                again = [state(now), state(now + 6)]
                assert (await second.outbox.append(again)).repeated == [each.message_id for each in again]
                changes = [state(now - 3600, "Unreachable"), state(now - 1800), state(now + 7, "Unreachable")]
                assert len((await second.outbox.append(changes)).stored) == 3
                await first.sink.close()
                await until_leading(second)
                await until(second.is_empty)

    run(scenario())
    delivered = rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5)
    assert [properties.timestamp for _, properties, _ in delivered] == [now, now + 7]


def test_the_token_is_renewed_without_changing_the_leader(site, rabbit, tmp_path, run, monkeypatch):
    """RabbitMQ does not let a message be kept for ever; no other member gets a chance by that."""
    monkeypatch.setattr("arimonitor_runner.pair.member.TOKEN_RENEWAL_S", 0.01)

    async def scenario():
        async with Station(site, "a", tmp_path / "a.db") as first, Station(site, "b", tmp_path / "b.db") as second:
            await until(lambda: first.sink.is_leading or second.sink.is_leading)
            leader = first if first.sink.is_leading else second
            tags = set()

            def renewed():
                tags.add(leader.sink._link._token_tag)
                return len(tags - {0}) >= 20

            await until(renewed)
            return [station.sink.counts for station in (first, second)]

    counts = run(scenario())
    assert sum(count.leaderships for count in counts) == 1
    assert sum(count.failures for count in counts) == 0


def test_what_cannot_be_read_is_skipped_and_told(site, rabbit, tmp_path, run):
    """Somebody put something else into the exchange: counted, said, and gone."""

    async def scenario():
        async with Station(site, "a", tmp_path / "a.db") as station:
            await until_leading(station)
            with rabbit.channel(site.meeting_vhost) as channel:
                for body in (
                    b"",
                    b"\xff",
                    b"{}",
                    b'{"sender":"x","numbers":{"g":0}}',
                    b'{"sender":"x","term":"1"}',
                    b'{"x":' + b"[" * 100_000,
                ):
                    channel.basic_publish("arimonitor.pair.pbx", "", body)
            await until(lambda: station.sink.counts.malformed == 6)
            await station.take(build_events(1))
            await until(station.is_empty)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    errors = [log["reason"] for log in logs if log["log_level"] == "error"]
    assert errors[3] == "Expected `int` >= 1 - at `$.numbers[...]`"
    assert check(rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5), 1) == 0


def test_a_queue_that_is_removed_is_made_again(site, rabbit, tmp_path, run):
    """An operator deleted the queue of the leadership: the leader steps back, declares it, and leads again."""

    async def scenario():
        async with Station(site, "a", tmp_path / "a.db") as station:
            for count in (1, 2):
                await until(lambda wanted=count: station.sink.counts.leaderships == wanted and station.sink.is_leading)
                with rabbit.channel(site.meeting_vhost) as channel:
                    channel.queue_delete("arimonitor.leader.pbx" if count == 1 else "arimonitor.pair.pbx.a")
            await until(lambda: station.sink.counts.leaderships == 3)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    reasons = [log["reason"] for log in logs if log["log_level"] == "error"]
    assert reasons == ["the queue arimonitor.leader.pbx is gone", "the queue arimonitor.pair.pbx.a is gone"]


def test_a_leader_that_hears_of_a_later_one_steps_back(site, rabbit, tmp_path, run):
    """It cannot happen while RabbitMQ keeps its word; if it does not, the later one stays."""

    async def scenario():
        async with Station(site, "a", tmp_path / "a.db") as station:
            await until_leading(station)
            with rabbit.channel(site.meeting_vhost) as channel:
                channel.basic_publish("arimonitor.pair.pbx", "", b'{"sender":"b/1","term":9,"highest":50}')
            await until(lambda: station.sink.counts.leaderships == 2)
            await station.take(build_events(1))
            await until(station.is_empty)
            return (await station.sink._ledger.knowledge()).term

    assert run(scenario()) == 10
    (opened, *_) = rabbit.consume(site.clients_vhost, 10**6, timeout_s=0.5)
    assert json.loads(opened[2])["data"]["callnumber"] == 51


def test_the_members_follow_the_directory_to_another_meeting_place(site, rabbit, tmp_path, run):
    """The first MQ server changed: they meet there."""

    async def scenario():
        async with (
            Proxy(port_of(site.meeting_url)) as proxy,
            Station(via(site, proxy), "a", tmp_path / "a.db") as station,
        ):
            await until_leading(station)
            station.sink.use_directory(station.directory)
            station.sink.use_directory(site.directory())
            proxy.refuse()
            await until(lambda: station.sink.counts.leaderships == 2)
            return station.sink.statistics()

    assert run(scenario()) == {"leaderships": 2, "links": 2, "failures": 1, "heard": 0, "malformed": 0, "leading": 1}


def test_a_directory_without_a_server_is_told(site, tmp_path, run):
    """There is nowhere to meet until one is named."""

    async def scenario():
        station = Station(site, "a", tmp_path / "a.db")
        station.sink.use_directory(Directory())
        async with station:
            await until(lambda: station.sink.counts.failures)
            assert await station.sink.drain(1)
            station.sink.use_directory(site.directory())
            await until_leading(station)

    with structlog.testing.capture_logs() as logs:
        run(scenario())
    assert logs[0]["reason"] == "the directory names no MQ server"


def test_a_killed_leader_is_followed_at_once(site, rabbit, tmp_path, run):
    """SIGKILL at random moments of the traffic, six times; who was killed comes back and is the next one to follow."""
    count = 300
    exchange = Exchange()
    exchange.events = {"a": build_events(count, wave=10), "b": build_events(count, wave=10, backwards=True)}
    total = len(exchange.events["a"])
    chance = random.Random(20261122)

    async def start(name):
        arguments = (json.dumps(asdict(site)), name, str(tmp_path / f"{name}.db"), str(exchange.port))
        return await Process.start("tests.runner.pair_station", *arguments)

    def depth_reaches(threshold):
        return asyncio.to_thread(lambda: rabbit.depth(site.clients_vhost) >= threshold)

    async def leading(stations, before):
        """The name of the one that leads, once one does that did not before."""
        waits = {
            asyncio.create_task(station.until_logged_times("this member leads:", before[name] + 1)): name
            for name, station in stations.items()
        }
        done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in rest:
            wait.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        return waits[done.pop()]

    async def scenario():
        async with exchange:
            before = {"a": 0, "b": 0}
            stations = {name: await start(name) for name in ("a", "b")}
            for turn in range(6):
                leader = await leading(stations, before)
                before = dict.fromkeys(before, 0) | {other: count_leaderships(stations[other]) for other in stations}
                await exchange.release(total * (turn + 1) // 7)
                threshold = count * 3 * turn // 7 + chance.randrange(count * 3 // 7 - 40)
                await until(lambda threshold=threshold: depth_reaches(threshold))
                await stations[leader].end(signal.SIGKILL)
                stations[leader] = await start(leader)
                before[leader] = 0
            await leading(stations, before)
            await exchange.release(total)
            await until(lambda: is_done(tmp_path / "a.db", total) and is_done(tmp_path / "b.db", total))
            return [await station.end(signal.SIGKILL) for station in stations.values()]

    run(scenario())
    check(rabbit.consume(site.clients_vhost, 10**6, timeout_s=1), count)
