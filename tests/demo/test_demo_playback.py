"""The playback server: REST, subscription, filter, replacement, gap and speed, over real sockets."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode

from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored
from arimonitor_runner.demo.pbx import RecordedPbx
from arimonitor_runner.demo.playback import PlaybackServer
from tests.demo.ari_client import FAST, Client, basic, events_of, instant, playing, read_all, read_capture, run


def test_a_subscribed_client_gets_every_event_verbatim_and_in_order() -> None:
    """What the log holds arrives, byte for byte where it is not moved in time."""
    records = read_capture("asterisk-22-lean/answered_caller_hangs_up")

    async def scene() -> None:
        async with playing(records, speed=FAST, move_to_now=False) as client, client.connect() as socket:
            await client.subscribe()
            assert await read_all(socket, client.server) == events_of(records)

    run(scene)


def test_a_log_played_as_if_it_happened_now_keeps_its_proportions() -> None:
    """Distances between instants shrink by the speed, and the call happens today."""
    records = read_capture("asterisk-22-lean/answered_caller_hangs_up")
    before = time.time()

    async def scene() -> None:
        async with playing(records, speed=FAST) as client, client.connect() as socket:
            await client.subscribe()
            received = await read_all(socket, client.server)
        old, new = ([instant(e["timestamp"]) for e in events] for events in (events_of(records), received))
        for was, now_is in zip(old, new, strict=True):
            assert abs((now_is - new[0]) * FAST - (was - old[0])) <= FAST * 0.0011
        assert before - 1 < new[0] < time.time() + 1
        assert instant(received[0]["channel"]["creationtime"]) == new[0]

    run(scene)


def test_nothing_is_played_before_somebody_subscribes() -> None:
    """A connected client without subscription hears nothing and the log's clock stands still."""
    records = read_capture("asterisk-22-lean/busy")

    async def scene() -> None:
        async with playing(records, speed=FAST) as client, client.connect() as socket:
            began = client.server.log_time()
            assert await client.get("channels") == []
            assert client.server.log_time() == began
            await client.subscribe()
            assert len(await read_all(socket, client.server)) == len(events_of(records))

    run(scene)


def test_subscribe_all_in_the_address_needs_no_subscription() -> None:
    """A client of the old kind is served too, device states included in its subscription."""
    records = read_capture("asterisk-22-lean/busy")

    async def scene() -> None:
        async with playing(records, speed=FAST) as client, client.connect(query="&subscribeAll=true") as socket:
            assert len(await read_all(socket, client.server)) == len(events_of(records))
            application = await client.get("applications/arimonitor")
            assert application["device_names"] == ["__AST_DEVICE_STATE_ALL_TOPIC"]

    run(scene)


def test_only_the_subscribed_kinds_of_event_arrive() -> None:
    """Endpoint events stay away from a client that asked for channels."""
    records = read_capture("asterisk-22-lean/push_registers_then_answers")

    async def scene() -> None:
        async with playing(records, speed=FAST) as client, client.connect() as socket:
            described = await client.subscribe("channel:")
            assert described["channel_ids"] == ["__AST_CHANNEL_ALL_TOPIC"]
            assert described["bridge_ids"] == described["endpoint_ids"] == described["device_names"] == []
            kinds = {event["type"] for event in await read_all(socket, client.server)}
        assert {"ChannelCreated", "Dial", "ChannelEnteredBridge"} <= kinds
        assert not kinds & {"PeerStatusChange", "ContactStatusChange", "EndpointStateChange"}

    run(scene)


@pytest.mark.parametrize(
    ("event_filter", "expected"),
    [
        ({"allowed": [{"type": "Dial"}, {"type": "ChannelVarset"}]}, {"Dial", "ChannelVarset"}),
        ({"allowed": [{"type": "Dial"}], "disallowed": [{"type": "Dial"}]}, set()),
    ],
)
def test_the_event_filter_decides_by_type_and_disallowed_wins(event_filter: Any, expected: set[str]) -> None:
    """The filter is honoured as Asterisk honours it."""
    records = read_capture("asterisk-22/busy")

    async def scene() -> None:
        async with playing(records, speed=FAST) as client, client.connect() as socket:
            status, described = await client.set_filter(event_filter)
            assert (status, described["events_allowed"]) == (200, event_filter["allowed"])
            await client.subscribe()
            assert {event["type"] for event in await read_all(socket, client.server)} == expected

    run(scene)


def test_a_list_left_out_of_the_filter_keeps_its_value_and_an_empty_one_is_emptied() -> None:
    """Two requests in a row behave as with Asterisk."""

    async def scene() -> None:
        async with playing(read_capture("asterisk-22-lean/busy")) as client, client.connect():
            await client.set_filter({"allowed": [{"type": "Dial"}], "disallowed": [{"type": "ChannelDialplan"}]})
            _, described = await client.set_filter({"allowed": []})
            assert described["events_allowed"] == []
            assert described["events_disallowed"] == [{"type": "ChannelDialplan"}]

    run(scene)


@pytest.mark.parametrize(
    ("method", "path", "options", "expected"),
    [
        ("PUT", "applications/arimonitor/eventFilter", {"json": {"allowed": ["Dial"]}}, 400),
        ("PUT", "applications/arimonitor/eventFilter", {"data": "{"}, 400),
        ("PUT", "applications/other/eventFilter", {"json": {}}, 404),
        ("POST", "applications/other/subscription", {"params": {"eventSource": "channel:"}}, 404),
        ("POST", "applications/arimonitor/subscription", {"params": {"eventSource": "nothing:"}}, 400),
        ("POST", "applications/arimonitor/subscription", {}, 400),
        ("GET", "applications/other", {}, 404),
        ("GET", "channels/none", {}, 404),
        ("GET", "channels/none/variable", {"params": {"variable": "X"}}, 404),
        ("GET", "endpoints/PJSIP/none", {}, 404),
        ("GET", "events", {}, 400),
        ("GET", "channels", {"headers": {}}, 401),
        ("GET", "channels", {"headers": basic("wrong")}, 401),
        ("GET", "channels", {"headers": {"Authorization": "Basic /w="}}, 401),
        ("GET", "channels", {"headers": {}, "params": {"api_key": "arimonitor:arimonitor"}}, 200),
    ],
)
def test_bad_requests_are_answered_as_asterisk_answers_them(
    method: str, path: str, options: dict[str, Any], expected: int
) -> None:
    """Each fault has its status."""

    async def scene() -> None:
        async with playing(read_capture("asterisk-22-lean/busy")) as client, client.connect():
            status, _ = await client.ask(method, path, **options)
            assert status == expected

    run(scene)


def test_a_websocket_with_a_wrong_password_is_refused() -> None:
    """The handshake fails with 401."""

    async def scene() -> None:
        async with playing(read_capture("asterisk-22-lean/busy")) as client:
            with pytest.raises(InvalidStatus) as refused:
                await client.connect(password="wrong")
            assert refused.value.response.status_code == 401

    run(scene)


def test_variables_are_known_from_the_events_that_set_them() -> None:
    """Where a log's snapshots hold no channelvars; and they go with their channel."""
    pbx, seen = RecordedPbx(), []
    for record in read_capture("asterisk-22/answered_caller_hangs_up"):
        if isinstance(record, AriEventReceived):
            event = json.loads(record.raw)
            pbx.apply(event)
            if event.get("variable") == "MIXMONITOR_FILENAME":
                seen.append(event["channel"]["id"])
                assert pbx.find_variable(seen[-1], "MIXMONITOR_FILENAME") == event["value"]
                assert pbx.find_variable(seen[-1], "UNKNOWN") is None
    assert seen
    assert pbx.find_variable(seen[0], "MIXMONITOR_FILENAME") is None


def test_rest_shows_what_existed_at_that_moment_of_the_log() -> None:
    """In mid-call there are channels, their variables, a bridge, the endpoints' channels; afterwards there are none."""
    records = read_capture("asterisk-22-lean/answered_caller_hangs_up")

    async def scene() -> None:
        async with playing(records, speed=5) as client, client.connect() as socket:
            await client.subscribe()
            async for message in socket:
                event = json.loads(message)
                if event["type"] == "ChannelEnteredBridge" and len(event["bridge"]["channels"]) == 2:
                    break
            channels = await client.get("channels")
            assert [channel["state"] for channel in channels] == ["Up", "Up"]
            assert await client.get(f"channels/{channels[0]['id']}") == channels[0]
            status, value = await client.ask(
                "GET", f"channels/{channels[0]['id']}/variable", params={"variable": "DIALEDPEERNUMBER"}
            )
            assert (status, value) == (200, {"value": "1122"})
            status, _ = await client.ask(
                "GET", f"channels/{channels[0]['id']}/variable", params={"variable": "UNKNOWN"}
            )
            assert status == 404
            (bridge,) = await client.get("bridges")
            assert set(bridge["channels"]) == {channel["id"] for channel in channels}
            endpoint = await client.get("endpoints/PJSIP/1122")
            assert (endpoint["state"], endpoint["channel_ids"]) == ("online", [channels[1]["id"]])
            await client.server.wait_finished()
            assert await client.get("channels") == await client.get("bridges") == []
            assert len(await client.get("endpoints")) == 69

    run(scene)


@pytest.mark.parametrize("capture", ["concurrent_20_calls", "attended_transfer", "ring_group_local_channels"])
@pytest.mark.parametrize("kind", ["asterisk-16", "asterisk-22", "asterisk-22-lean"])
def test_no_channel_and_no_bridge_is_left_when_all_calls_have_ended(kind: str, capture: str) -> None:
    """The state that is worked out from the events ends where Asterisk's own ended."""

    async def scene() -> None:
        async with playing(read_capture(f"{kind}/{capture}"), speed=1e6) as client, client.connect():
            await client.subscribe()
            await client.server.wait_finished()
            assert await client.get("channels") == await client.get("bridges") == []

    run(scene)


def test_a_call_to_a_sleeping_smartphone_shows_it_offline_until_it_registers() -> None:
    """Endpoint states follow the log."""
    records = read_capture("asterisk-22-lean/push_registers_then_answers")

    async def scene() -> None:
        async with playing(records, speed=20) as client, client.connect() as socket:
            states = [(await client.get("endpoints/PJSIP/1129"))["state"]]
            await client.subscribe()
            async for message in socket:
                if json.loads(message).get("peer") == {"peer_status": "Reachable"}:
                    states.append((await client.get("endpoints/PJSIP/1129"))["state"])
                    break
            await client.server.wait_finished()
            states.append((await client.get("endpoints/PJSIP/1129"))["state"])
            assert states == ["offline", "online", "offline"]

    run(scene)


def test_a_second_connection_replaces_the_first_and_inherits_filter_and_subscription() -> None:
    """The first hears ApplicationReplaced as its last event, and its end takes nothing from the second."""
    records = read_capture("asterisk-22-lean/busy")

    async def scene() -> None:
        async with playing(records, speed=FAST) as client, client.connect() as first:
            status, _ = await client.set_filter({"disallowed": [{"type": "Dial"}]})
            assert status == 200
            async with client.connect() as second:
                assert json.loads(await first.recv())["type"] == "ApplicationReplaced"
                await first.close()
                assert (await client.get("applications/arimonitor"))["events_disallowed"] == [{"type": "Dial"}]
                await client.subscribe()
                kinds = {event["type"] for event in await read_all(second, client.server)}
                assert "ChannelCreated" in kinds
                assert "Dial" not in kinds

    run(scene)


def test_the_filter_also_eats_application_replaced() -> None:
    """As with Asterisk, a monitor that does not allow it never learns that a successor took over."""

    async def scene() -> None:
        async with playing(read_capture("asterisk-22-lean/busy"), speed=FAST) as client, client.connect() as first:
            await client.set_filter({"allowed": [{"type": "Dial"}]})
            async with client.connect():
                await client.subscribe()
                await client.server.wait_finished()
                await first.close()
                assert [message async for message in first] == []

    run(scene)


def test_an_application_and_its_filter_go_with_the_connection() -> None:
    """After the client has left, its application is not found."""

    async def scene() -> None:
        async with playing(read_capture("asterisk-22-lean/busy")) as client:
            async with client.connect(app="first"), client.connect(app="second"):
                assert {a["name"] for a in await client.get("applications")} == {"first", "second"}
            while await client.get("applications"):  # the server sees the end a moment later
                pass
            assert (await client.set_filter({}, app="first"))[0] == 404

    run(scene)


def test_the_application_is_named_in_its_events() -> None:
    """A client with another application name gets its own name, not the recorder's."""

    async def scene() -> None:
        records = read_capture("asterisk-22-lean/busy")
        async with playing(records, speed=FAST) as client, client.connect(app="other") as socket:
            await client.subscribe(app="other")
            assert {e["application"] for e in await read_all(socket, client.server)} == {"other"}

    run(scene)


def test_a_lost_connection_is_cut_and_comes_back_with_what_the_log_shows() -> None:
    """In the gap everything answers 503; after it REST shows the recorder's view, and the rest of the log is played."""
    records = read_capture("asterisk-22-lean/websocket_drop_midcall")
    restored = [record for record in records if isinstance(record, ConnectionRestored)][1]
    lost_at = next(number for number, record in enumerate(records) if isinstance(record, ConnectionLost))

    async def scene() -> None:
        async with playing(records, speed=20, move_to_now=False) as client:
            async with client.connect() as socket:
                await client.subscribe()
                received = []
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        received.append(json.loads(await socket.recv()))
                assert socket.close_code == CloseCode.ABNORMAL_CLOSURE
                assert received == events_of(records[:lost_at])
            assert client.server.is_away
            assert (await client.ask("GET", "channels"))[0] == 503
            socket = await reconnect(client)
            await client.subscribe()
            assert await read_all(socket, client.server) == events_of(records[lost_at:])
            await socket.close()

    async def reconnect(client: Client) -> ClientConnection:
        while (await client.ask("GET", "asterisk/info"))[0] == 503:
            pass
        assert await client.get("channels") == json.loads(restored.channels)
        assert await client.get("bridges") == json.loads(restored.bridges)
        return await client.connect()

    run(scene)


def test_the_log_s_clock_runs_as_many_times_as_fast_as_asked() -> None:
    """Its advance lies between two readings of the real clock, whatever a busy machine does in between."""
    records = read_capture("asterisk-22-lean/answered_caller_hangs_up")

    async def scene() -> None:
        async with playing(records, speed=50, move_to_now=False) as client, client.connect():
            await client.subscribe()
            before, log_began, after = time.monotonic(), client.server.log_time(), time.monotonic()
            await client.server.wait_finished()
            inner = time.monotonic() - after
            advance = client.server.log_time() - log_began
            assert 50 * inner <= advance <= 50 * (time.monotonic() - before)
            assert client.server.log_time() - log_began >= records[-1].received_at - records[1].received_at

    run(scene)


def test_info_tells_version_name_and_start() -> None:
    """The parts can be asked for one by one."""

    async def scene() -> None:
        async with playing(read_capture("asterisk-22-lean/busy"), move_to_now=False) as client:
            info = await client.get("asterisk/info")
            assert info["system"]["version"].startswith("22.")
            assert instant(info["status"]["startup_time"]) < client.server.log_time()
            assert list(await client.get("asterisk/info?only=status,config")) == ["config", "status"]

    run(scene)


def test_an_empty_log_or_a_clock_that_stands_is_refused() -> None:
    """Both are faults of the caller."""
    records = read_capture("asterisk-22-lean/busy")
    for bad in (lambda: PlaybackServer([]), lambda: PlaybackServer(records, speed=0)):
        with pytest.raises(ValueError, match="at least one record"):
            bad()
