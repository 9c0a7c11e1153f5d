"""Captures of a real Asterisk, played on the made-up one among its own calls.

What must be told of their calls is what a monitor says that hears nothing else: other calls, crashes and handovers must
not change a word of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import msgspec
from attrs import Factory, define

from arimonitor_core.inputs import AriEventReceived, ConnectionRestored, DeadlineReached, Input
from tests.replay.captures import by_call, feed, is_read, load_capture, new_monitor
from tests.replay.pbx import channels_of
from tests.replay.renaming import list_whole_captures, move
from tests.simulation.asterisk import Asterisk, Bridge, Channel, Script
from tests.simulation.clock import BEGINNING

EVENTS_MAX = 700
"""Of one capture, so that a world stays quick."""
SHOWING = (b'"type":"ChannelDialplan"', b'"type":"ChannelConnectedLine"', b'"type":"BridgeCreated"')
"""Events that the monitor does not ask for, and that show what GET /channels would."""
UNFIT = ("second_monitor", "peers_register")

_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:?\d\d")
_ENDPOINT_EVENT = re.compile(rb'"type":"(?:Peer|Contact|Endpoint)Sta[a-zA-Z]*"')


@define(eq=False)
class Recording:
    """One capture that was played."""

    capture: str
    script: int = 0
    heard: list[AriEventReceived] = Factory(list)
    is_over: bool = False

    def tell(self, endpoints: bytes) -> dict[str, list[dict[str, Any]]]:
        """What a monitor that hears only this says of each call, by guid."""
        before = ConnectionRestored(received_at=BEGINNING, endpoints=endpoints)
        after = [DeadlineReached(received_at=self.heard[-1].received_at + 60)] if self.heard else []
        inputs: list[Input] = [before, *self.heard, *after]
        return by_call(feed(new_monitor(), inputs), "received-call", "push")


@cache
def list_fit() -> list[str]:
    """Full captures, for only they show at every moment what lives, that are neither broken nor too long."""
    return [
        capture
        for capture in list_whole_captures()
        if capture.startswith(("asterisk-16/", "asterisk-22/"))
        and not any(word in capture for word in UNFIT)
        and len(_telling(capture)) <= EVENTS_MAX
    ]


@cache
def _telling(capture: str) -> tuple[AriEventReceived, ...]:
    """The events of a capture that are heard or that show something."""
    return tuple(
        item
        for item in load_capture(capture)
        if isinstance(item, AriEventReceived)
        and not _ENDPOINT_EVENT.search(item.raw)
        and (is_read(item) or any(sign in item.raw for sign in SHOWING) or b'"type":"BridgeDestroyed"' in item.raw)
    )


@cache
def _tagged(capture: str, tag: str) -> list[tuple[float, bytes, bool]]:
    """Seconds since the beginning, event with other ids, and whether it is heard."""
    events = _telling(capture)
    moved = move(capture, tag=tag, start=events[0].received_at, events=events)
    began = events[0].received_at
    return [(one.received_at - began, one.raw, is_read(one)) for one in moved]


def play_recording(pbx: Asterisk, recording: Recording, tag: str) -> Script:
    """Let it happen again, now."""
    recording.script = pbx.script
    began = BEGINNING + pbx.loop.time()
    events = _tagged(recording.capture, tag)
    shift = timedelta(milliseconds=round((began - _begin_of(recording.capture)) * 1000))
    times: dict[bytes, bytes] = {}

    def moved(match: re.Match[bytes]) -> bytes:
        text = match[0]
        if text not in times:
            at = datetime.fromisoformat(text.decode()) + shift
            times[text] = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}{at:%z}".encode()
        return times[text]

    passed = 0.0
    for offset_s, raw, is_heard in events:
        if offset_s > passed:
            yield offset_s - passed
            passed = offset_s
        fresh = _TIME.sub(moved, raw)
        objects = _show(pbx, msgspec.json.decode(fresh))
        if is_heard:
            recording.heard.append(AriEventReceived(round(BEGINNING + pbx.loop.time(), 6), fresh))
            pbx.pass_on("ChannelDtmfReceived" if b"Dtmf" in fresh else "", fresh, objects)
    recording.is_over = True


@cache
def _begin_of(capture: str) -> float:
    return _telling(capture)[0].received_at


def _show(pbx: Asterisk, event: dict[str, Any]) -> list[str]:
    """Let REST answers show what an event shows; gives the objects that it speaks of."""
    objects = []
    for shown in channels_of(event):
        objects.append(shown["id"])
        _show_channel(pbx, shown)
    for shown in _bridges_of(event):
        objects.append(shown["id"])
        if shown["id"] not in pbx.buried:
            bridge = pbx.bridges.setdefault(shown["id"], Bridge(shown["id"], 0))
            bridge.own_snapshot = shown
    _move(pbx, event)
    return objects


def _bridges_of(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    names = ("bridge", "bridge_from", "transferer_first_leg_bridge", "transferer_second_leg_bridge")
    yield from (event[name] for name in names if name in event)


def _show_channel(pbx: Asterisk, shown: dict[str, Any]) -> None:
    if shown["id"] in pbx.buried:
        return
    channel = pbx.channels.get(shown["id"])
    if channel is None:
        channel = Channel(shown["id"], shown["name"], "", "", "", 0)
        pbx.channels[channel.id] = channel
    if channel.own_snapshot is None or channel.own_snapshot["creationtime"] != shown["creationtime"]:
        # A masquerade (refer_replaces) gives a living channel another creation: a monitor that did not hear of it
        # before the gap cannot know that it is the same call.
        pbx.ever.append((pbx.script, channel.id, shown["creationtime"], channel.name))
    channel.own_snapshot = shown
    if shown["dialplan"]["app_name"] == "MixMonitor":
        channel.recording = shown["dialplan"]["app_data"]


def _move(pbx: Asterisk, event: dict[str, Any]) -> None:
    """Who is in a bridge is what entering and leaving say."""
    kind = event["type"]
    if kind == "ChannelDestroyed":
        pbx.bury(event["channel"]["id"])
    elif kind == "BridgeDestroyed":
        pbx.buried.add(event["bridge"]["id"])
        pbx.bridges.pop(event["bridge"]["id"], None)
    elif kind in {"ChannelEnteredBridge", "ChannelLeftBridge"}:
        channel = pbx.channels.get(event["channel"]["id"])
        bridge = pbx.bridges.get(event["bridge"]["id"])
        if channel is None or bridge is None:
            return
        for one in pbx.bridges.values():
            if channel.id in one.channels and (one is bridge or kind == "ChannelEnteredBridge"):
                one.channels.remove(channel.id)
        if kind == "ChannelEnteredBridge":
            bridge.channels.append(channel.id)
        channel.bridge = bridge if channel.id in bridge.channels else None
