"""What the evidence of a trial says: gaps, messages, events, against what truly happened."""

from __future__ import annotations

import gzip
import json
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import frozen

from arimonitor_core.inputs import AriEventReceived, ConnectionLost, ConnectionRestored, Input
from arimonitor_core.records import decode_record
from arimonitor_runner.settings import LEAN_EVENTS
from tests.live.trials import Evidence
from tests.runner.rabbit import Delivered
from tests.runner.replays import messages_of

BLUR_S = 0.1
"""Between an event's own time and that of the CEL record of the same."""
EDGE_S = 0.25
"""Events of different channels so close to the beginning or end of a connection may have changed their order."""


@frozen
class Heard:
    """An event of a channel."""

    at: float
    """Asterisk's time."""
    channel: str
    text: str
    """All of it but for the application's name: the same for everyone who hears it."""


def read_event(item: Input) -> Heard | None:
    """None for what is no event of a channel, or not of a type that every daemon gets."""
    if not isinstance(item, AriEventReceived):
        return None
    event = json.loads(item.raw)
    channel = event.get("channel") or event.get("peer") or event.get("caller")
    if channel is None or "id" not in channel or event["type"] not in LEAN_EVENTS:
        return None
    event.pop("application", None)
    at = datetime.fromisoformat(event["timestamp"]).timestamp()
    return Heard(at, channel["id"], json.dumps(event, sort_keys=True))


def read_recorded(evidence: Evidence) -> list[Input]:
    """The recorder's log, as the lab packed it."""
    path = evidence.folder / f"{evidence.name}.ndjson.gz"
    return [decode_record(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def split_connections(journal: Iterable[Input]) -> Iterator[tuple[ConnectionRestored, list[Heard]]]:
    """Each connection's picture of Asterisk, and what was heard on it."""
    picture: ConnectionRestored | None = None
    heard: list[Heard] = []
    for item in journal:
        if isinstance(item, ConnectionRestored | ConnectionLost):
            if picture is not None:
                yield picture, heard
            picture, heard = item if isinstance(item, ConnectionRestored) else None, []
        elif (event := read_event(item)) is not None:
            heard.append(event)
    if picture is not None:
        yield picture, heard


def find_gaps(judge: ModuleType, journal: Sequence[Input]) -> list[Any]:
    """The judge's gaps, by the journal: each from a connection's last event to the first one of the next."""
    found, lost = [], None
    for picture, heard in split_connections(journal):
        times = [event.at for event in heard]
        told = picture.received_at
        if lost is not None:
            # Events of the time between subscription and picture come after the picture.
            found.append(judge.Gap(lost, min([told, *times]), told, BLUR_S))
        lost = max([told, *times])
    return found


def compare_events(journal: Sequence[Input], recorded: Sequence[Input]) -> list[str]:
    """What the journal lacks of the recorder's log while the daemon was connected, and what it has twice."""
    wrong = []
    known = [event for event in map(read_event, recorded) if event is not None]
    truly = Counter(event.text for event in known)
    journaled = count_events(journal)
    wrong += [f"journaled {count} times: {text}" for text, count in journaled.items() if count > truly[text]]
    of_channel = defaultdict(list)
    for event in known:
        of_channel[event.channel].append(event.text)
    for _, heard in split_connections(journal):
        if not heard:
            continue
        texts = {event.text for event in heard}
        begin, end = min(event.at for event in heard) + EDGE_S, max(event.at for event in heard) - EDGE_S
        wrong += [f"not journaled: {e.text}" for e in known if begin < e.at < end and e.text not in texts]
        wrong += _find_holes(heard, of_channel)
    return wrong


def count_events(inputs: Iterable[Input]) -> Counter[str]:
    """Each event of a channel, and how often it is there."""
    return Counter(event.text for event in map(read_event, inputs) if event is not None)


def _find_holes(heard: Sequence[Heard], of_channel: dict[str, list[str]]) -> Iterator[str]:
    """A connection hears all of a channel's events from some one on and up to some other.

    Those of one millisecond, of the channel and of its bridge, may come in another order than to the recorder.
    """
    mine = defaultdict(list)
    for event in heard:
        mine[event.channel].append(event.text)
    for channel, texts in mine.items():
        truly = of_channel[channel]
        begin = min((truly.index(text) for text in texts if text in truly), default=0)
        if Counter(texts) != Counter(truly[begin : begin + len(texts)]):
            yield f"channel {channel}: heard {texts}, sent {truly[begin : begin + len(texts)]}"


def first_deliveries(evidence: Evidence) -> dict[str, Delivered]:
    """Each message as a consumer takes it that drops repeats, by message_id."""
    first: dict[str, Delivered] = {}
    for delivered in evidence.delivered:
        first.setdefault(delivered[1].message_id, delivered)
    return first


def find_contradictions(evidence: Evidence) -> list[str]:
    """Messages that came again with other contents."""
    bodies = defaultdict(set)
    for _, properties, body in evidence.delivered:
        bodies[properties.message_id].add(body)
    return [f"{message_id}: {found}" for message_id, found in bodies.items() if len(found) > 1]


def compare_with_unbroken(evidence: Evidence, directory: Path) -> list[str]:
    """Where the daemon's messages of calls differ, byte for byte, from what the recorder's log leads to.

    Two monitors may see calls begin in another order and number them so; all else is the same.
    """
    wanted = [(one.message_id, one.body) for one in messages_of(read_recorded(evidence), "pbx", directory=directory)]
    told = [(message_id, body) for message_id, (_, _, body) in first_deliveries(evidence).items()]
    mine, unbroken = _by_call(told), _by_call(wanted)
    return [
        f"{mine.get(guid)}, unbroken: {unbroken.get(guid)}"
        for guid in mine.keys() | unbroken
        if mine.get(guid) != unbroken.get(guid)
    ]


def _by_call(messages: Iterable[tuple[str, bytes]]) -> dict[str, list[tuple[str, bytes]]]:
    calls = defaultdict(list)
    for message_id, body in messages:
        if guid := json.loads(body)["data"].get("guid"):
            calls[guid].append((message_id, re.sub(rb'"callnumber":\d+', b'"callnumber":0', body)))
    return dict(calls)


def judge_messages(judge: ModuleType, evidence: Evidence) -> list[str]:
    """What the lab's judge finds wrong with the daemon's messages."""
    lines = evidence.folder / f"{evidence.name}.messages"
    lines.write_bytes(b"".join(body + b"\n" for _, _, body in first_deliveries(evidence).values()))
    command = f"cat {shlex.quote(str(lines))}"
    return judge.judge(evidence.folder, evidence.name, command, find_gaps(judge, evidence.journal))


def count(judge: ModuleType, evidence: Evidence) -> dict[str, int]:
    """Figures for a report."""
    truth = json.loads((evidence.folder / f"{evidence.name}.truth.json").read_text())
    first, gaps = first_deliveries(evidence), find_gaps(judge, evidence.journal)
    ends = [json.loads(body)["data"] for _, _, body in first.values()]
    told = {data["channel"] for data in ends if "channelstatus" in data}
    published = [call["record"] for call in truth["calls"] if judge.published(call)]
    return {
        "calls placed": len(truth["calls"]),
        "calls told": len(told),
        "unseen from birth to end": sum(record["channel"] not in told for record in published),
        "calls with a gap": len({data["guid"] for data in ends if data.get("accuracy") == "gap"}),
        "messages": len(first),
        "repeats": len(evidence.delivered) - len(first),
        "gaps": len(gaps),
        "seconds in gaps": round(sum(gap.told - gap.lost for gap in gaps)),
        "journaled inputs": len(evidence.journal),
    }
