"""Real captures as inputs, and the messages that they lead to."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from arimonitor_core.ari_events import SKIPPED_TYPES
from arimonitor_core.directory import Directory
from arimonitor_core.effects import PublishMessage
from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_core.monitor import RECORDING_VARIABLE, Monitor
from arimonitor_core.policies import Policies
from arimonitor_core.records import decode_record
from arimonitor_runner.directory_sources.text import load_directory

FIXTURES = Path(__file__).parents[2] / "fixtures"
CAPTURES = FIXTURES / "captures"
SERVER = "voip1"


class _Head(msgspec.Struct):
    """What tells an event that the core skips."""

    type: str
    variable: str = ""


_decode_head = msgspec.json.Decoder(_Head).decode


def list_captures(*folders: str) -> list[str]:
    """Every capture as `folder/name`, of all folders unless some are named."""
    return sorted(
        f"{path.parent.name}/{path.name.removesuffix('.gz').removesuffix('.ndjson')}"
        for path in CAPTURES.glob("*/*.ndjson*")
        if not folders or path.parent.name in folders
    )


def find_log(capture: str) -> Path:
    """The file of a capture, plain or gzipped."""
    plain = CAPTURES / f"{capture}.ndjson"
    return plain if plain.exists() else plain.with_name(f"{plain.name}.gz")


@cache
def load_capture(capture: str) -> tuple[Input, ...]:
    """The inputs of a capture, in order."""
    path = find_log(capture)
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    return tuple(decode_record(line) for line in lines)


def is_read(item: Input) -> bool:
    """Does the core look further into it than at its type? Of a call's events one in four."""
    if not isinstance(item, AriEventReceived):
        return True
    head = _decode_head(item.raw)
    if head.type == "ChannelVarset":
        return head.variable == RECORDING_VARIABLE
    return head.type not in SKIPPED_TYPES


@cache
def load_read(capture: str) -> tuple[Input, ...]:
    """The inputs of a capture without those that the core skips."""
    return tuple(filter(is_read, load_capture(capture)))


@cache
def directory() -> Directory:
    """The directory of the lab."""
    loaded = load_directory(FIXTURES / "directory", {})
    assert loaded.is_usable
    return loaded.directory


def new_monitor(policies: Policies | None = None) -> Monitor:
    """A monitor that knows the lab's directory and nothing else."""
    return Monitor(server=SERVER, directory=directory(), policies=policies)


def feed(monitor: Monitor, inputs: Iterable[Input]) -> list[PublishMessage]:
    """Messages that the inputs lead to."""
    return [effect for item in inputs for effect in monitor.handle(item) if isinstance(effect, PublishMessage)]


@cache
def replay_capture(capture: str) -> tuple[PublishMessage, ...]:
    """Messages of a whole capture."""
    return tuple(feed(new_monitor(), load_capture(capture)))


def said(message: PublishMessage) -> dict[str, Any]:
    """A message as the web system reads it, without what depends on other calls: the callnumber."""
    body: dict[str, Any] = json.loads(message.body)
    body["data"].pop("callnumber", None)
    return body


def by_call(messages: Sequence[PublishMessage], *types: str) -> dict[str, list[dict[str, Any]]]:
    """What was said of each call, by guid; only messages of the types named, all that concern calls if none is."""
    wanted = types or ("received-call", "push", "call-update")
    calls: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        if message.type in wanted:
            calls.setdefault(message.ordering_key, []).append(said(message))
    return calls


def statuses(told: Iterable[dict[str, Any]]) -> list[str]:
    """The channelstatus of a call's messages, in order."""
    return [body["data"]["channelstatus"] for body in told if body["operation"]["type"] == "received-call"]
