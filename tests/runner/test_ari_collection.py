"""The picture of a reconnect: what Asterisk lists, what it lists wrongly, what it leaves out, what it does not say."""

import json

import pytest
import structlog
import typed_settings as ts
from attrs import evolve

from arimonitor_core.inputs import AriEventReceived
from arimonitor_runner.ari.collection import Collector
from arimonitor_runner.ari.errors import AriError
from arimonitor_runner.ari.rest import AriRest
from arimonitor_runner.settings import AriSettings
from tests.runner.fake_ari import PASSWORD, USER, FakeAri

SETTINGS = AriSettings(user=USER, password=ts.SecretStr(PASSWORD), request_timeout_s=30.0, confirm_wait_s=0.0)
NOW = 1795339161.5
YOUNG, OLD = "2026-11-22T09:59:00.000+0000", "2026-11-22T07:59:00.000+0000"


def with_variables(one, created=YOUNG):
    return {"id": one, "creationtime": created, "channelvars": {"MIXMONITOR_FILENAME": "", "CHANNEL(linkedid)": one}}


async def collect(server, *, known=(), times=1, waiting=(), **changes):
    """Take pictures, one after the other; gives the last one and the collector."""
    settings = evolve(SETTINGS, url=server.url, **changes)
    collector = Collector(settings, lambda: known)
    async with AriRest(settings) as rest:
        for _ in range(times):
            server.requests.clear()
            picture = await collector.collect(rest, NOW, waiting)
    return picture, collector


def ids(picture):
    return [channel["id"] for channel in json.loads(picture.channels)]


def asked(server):
    """The questions about single channels, in order."""
    return [request for request in server.requests if request.startswith("GET channels")][1:]


def test_channels_that_are_known_and_young_are_asked_nothing(run):
    """With channelvars and nothing missing one list is enough, and it is passed on as it came."""

    async def scenario():
        async with FakeAri() as server:
            server.answers["channels"] = [with_variables("a"), with_variables("b")]
            picture, _ = await collect(server, known={"a", "b"})
            return picture, asked(server), json.dumps(server.answers["channels"]).encode()

    picture, questions, said = run(scenario())
    assert questions == []
    assert picture.channels == said
    assert picture.variables == b"{}"


def test_a_channel_that_is_missing_is_gone_only_when_asked_for(run):
    """404: gone. An answer: it exists, whatever the list says, and is added to it. Ids are quoted."""

    async def scenario():
        async with FakeAri() as server:
            server.answers["channels"] = [with_variables("a")]
            server.variables = {"b/1;2": {}}
            picture, collector = await collect(server, known={"a", "b/1;2", "c"})
            return ids(picture), sorted(asked(server))[:2], collector.counts

    listed, questions, counts = run(scenario())
    assert listed == ["a", "b/1;2"]
    assert questions == ["GET channels/b/1;2", "GET channels/b/1;2/variable"]
    assert (counts.unlisted, counts.orphans) == (1, 0)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_question_without_an_answer_needs_a_second_list(run, comes_back):
    """Missing in both: gone. Shown by the second: it lives."""

    async def scenario():
        async with FakeAri() as server:
            server.failing = {"channels/a"}
            if comes_back:

                def list_it(path):
                    if path == "endpoints":
                        server.answers["channels"] = [with_variables("a")]

                server.after_answer = list_it
            picture, _ = await collect(server, known={"a"})
            return ids(picture), asked(server)

    assert run(scenario()) == (["a"] if comes_back else [], ["GET channels/a", "GET channels"])


def test_what_stays_open_is_no_picture(run):
    """The second list does not come either: an error, so that nothing is concluded, and all is tried again."""

    async def scenario():
        async with FakeAri() as server:
            server.failing = {"channels/a"}
            server.after_answer = lambda path: server.failing.add("channels") if path == "endpoints" else None
            with pytest.raises(AriError, match="GET channels: 500"):
                await collect(server, known={"a"})
            server.after_answer = lambda path: (
                server.answers.update(channels={"no": "list"}) if path == "endpoints" else None
            )
            server.failing = {"channels/a"}
            with pytest.raises(AriError, match="no list of channels"):
                await collect(server, known={"a"})

    run(scenario())


def test_a_question_that_hangs_does_not_hang_the_picture(run):
    """All single questions together have the time of one request; then the second list decides."""

    async def scenario():
        async with FakeAri() as server:
            server.hang_rest = {f"channels/{n}" for n in range(20)}
            picture, _ = await collect(server, known={str(n) for n in range(21)}, request_timeout_s=0.5)
            return ids(picture), [question.partition("/")[0] for question in asked(server)]

    # Eight of them at a time, so that is all that was asked.
    assert run(scenario()) == ([], ["GET channels"] * 9)


@pytest.mark.parametrize(
    ("created", "known", "is_left_out"), [(YOUNG, (), True), (OLD, ("a",), True), (YOUNG, ("a",), False)]
)
def test_an_orphan_of_the_cache_is_left_out(run, created, known, is_left_out):
    """Listed, but no channel: looked up where nobody knows it, or where it is old. A young and known one is trusted."""

    async def scenario():
        async with FakeAri() as server:
            server.answers["channels"] = [with_variables("a", created), with_variables("b")]
            server.orphans = {"a"}
            picture, collector = await collect(server, known={*known, "b"})
            return ids(picture), collector.counts.orphans

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == (["b"] if is_left_out else ["a", "b"], is_left_out)
    assert any("do not exist" in log["event"] and log["channels"] == ["a"] for log in logs) is is_left_out


def test_a_channel_that_ends_while_it_is_looked_up_is_no_orphan(run):
    """It is gone from the second list as well: its ChannelDestroyed is on its way and tells more."""

    async def scenario():
        async with FakeAri() as server:
            server.answers["channels"] = [with_variables("a")]
            server.orphans = {"a"}
            server.after_answer = lambda path: (
                server.answers.update(channels=[]) if path == "channels/a/variable" else None
            )
            picture, collector = await collect(server)
            return ids(picture), collector.counts.orphans

    assert run(scenario()) == (["a"], 0)


def test_a_channel_whose_end_was_heard_while_reading_did_not_end_unseen(run):
    """Its last snapshot stands for it in the picture; the event that follows ends it as it really ended."""
    ended = {"type": "ChannelDestroyed", "cause": 16, "channel": with_variables("a")}
    other = {"type": "ChannelVarset", "variable": "X", "value": "ChannelDestroyed", "channel": with_variables("b")}
    odd = {"type": "ChannelDestroyed", "channel": None}
    waiting = [AriEventReceived(NOW, json.dumps(event).encode()) for event in (other, odd, ended)]

    async def scenario():
        async with FakeAri() as server:
            picture, _ = await collect(server, known={"a", "b"}, waiting=waiting)
            return json.loads(picture.channels)

    assert run(scenario()) == [with_variables("a")]


def test_variables_are_read_where_snapshots_bring_none(run):
    """Whom it belongs to, its recording, who answered; what is not set is left out, what is unknown comes first."""

    async def scenario():
        async with FakeAri() as server:
            server.answers["channels"] = [{"id": "known"}, {"id": "new", "channelvars": {"OTHER": ""}}, {"id": "gone"}]
            server.variables = {"known": {"MIXMONITOR_FILENAME": "/x.wav", "CHANNEL(linkedid)": "first"}}
            server.orphans = {"gone"}
            picture, _ = await collect(server, known={"known"})
            return json.loads(picture.variables), ids(picture), asked(server)[:2]

    variables, listed, questions = run(scenario())
    assert variables == {
        "known": {"CHANNEL(linkedid)": "first", "MIXMONITOR_FILENAME": "/x.wav"},
        "new": {"CHANNEL(linkedid)": "new"},
    }
    assert listed == ["known", "new"]
    assert questions == ["GET channels/new/variable", "GET channels/gone/variable"]


def test_variables_that_cannot_be_read_are_told_and_lost(run):
    """Neither a failure nor an odd answer stops a picture."""

    async def scenario():
        async with FakeAri() as server:
            server.answers["channels"] = [{"id": "a"}, {"id": "b"}]
            server.failing = {"channels/a/variable"}
            picture, _ = await collect(server, known={"a", "b"})
            return json.loads(picture.variables), ids(picture)

    with structlog.testing.capture_logs() as logs:
        assert run(scenario()) == ({"b": {"CHANNEL(linkedid)": "b"}}, ["a", "b"])
    assert [log["channels"] for log in logs if "could not be read" in log["event"]] == [1]


def test_after_a_restart_of_asterisk_nothing_needs_confirming(run):
    """Another startup_time: all that was known is dead, and a new cache has no orphans."""

    async def scenario():
        async with FakeAri() as server:

            async def second_picture():
                settings = evolve(SETTINGS, url=server.url)
                collector = Collector(settings, lambda: {"a"})
                async with AriRest(settings) as rest:
                    await collector.collect(rest, NOW)
                    before = asked(server)
                    server.requests.clear()
                    server.startup_time = "2026-11-22T10:00:00.000+0000"
                    server.answers["channels"] = [with_variables("b", OLD)]
                    picture = await collector.collect(rest, NOW)
                return before, asked(server), ids(picture), json.loads(picture.info)["status"]["startup_time"]

            return await second_picture()

    assert run(scenario()) == (["GET channels/a"], [], ["b"], "2026-11-22T10:00:00.000+0000")


def test_another_text_of_the_same_instant_is_no_restart(run):
    """The zone's offset changes twice a year; nor does an answer in between that says nothing change what is known."""

    async def scenario():
        async with FakeAri() as server:
            settings = evolve(SETTINGS, url=server.url)
            collector = Collector(settings, lambda: {"a"})
            async with AriRest(settings) as rest:
                for startup_time in (server.startup_time, "", "2026-11-22T06:59:21.339-0300"):
                    server.startup_time = startup_time
                    server.requests.clear()
                    await collector.collect(rest, NOW)
                same = asked(server)
                server.startup_time = "2026-11-22T09:59:22.000-0300"
                server.requests.clear()
                await collector.collect(rest, NOW)
                return same, asked(server)

    assert run(scenario()) == (["GET channels/a"], [])


def test_an_answer_that_is_no_list_is_left_to_the_core(run):
    """It reports what it cannot read, and concludes nothing; an unreadable info says nothing of a restart."""

    async def scenario():
        async with FakeAri() as server:
            server.answers["channels"] = [{"name": "without an id"}]
            server.startup_time = None
            picture, _ = await collect(server, known={"a"}, times=2)
            return picture.channels, asked(server)

    assert run(scenario()) == (b'[{"name": "without an id"}]', [])


def test_an_odd_answer_about_a_channel_leaves_the_question_open(run):
    """Neither a channel nor a 404, neither a value nor a 404: as if nothing had been answered."""

    async def scenario():
        async with FakeAri() as server:
            server.answers["channels"] = [{"id": "a"}]
            server.raw = {"channels/a/variable": b"{}", "channels/b": b"{}"}
            picture, collector = await collect(server, known={"a", "b"})
            return ids(picture), picture.variables, collector.counts.orphans, asked(server)[-1]

    assert run(scenario()) == (["a"], b"{}", 0, "GET channels")


def test_questions_are_bounded(run, monkeypatch):
    """No more channels than the bound are asked for; the others are a second list's matter."""
    monkeypatch.setattr("arimonitor_runner.ari.collection.CHANNELS_ASKED_MAX", 30)

    async def scenario():
        async with FakeAri() as server:
            picture, _ = await collect(server, known={str(n) for n in range(50)})
            return ids(picture), len(asked(server))

    assert run(scenario()) == ([], 31)
