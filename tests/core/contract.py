"""The wire contract as a check: names, types and presence of every field of every message that the core publishes."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import UUID

from arimonitor_core.effects import PublishMessage

TEXT, WHOLE, NUMBER, LIST = str, int, float, list

CALL_FIELDS: dict[str, type] = {
    "origin": TEXT, "destiny": TEXT, "origin_type": TEXT, "destiny_type": TEXT, "callnumber": WHOLE, "guid": TEXT,
    "channelstatus": TEXT, "callstatus": WHOLE, "server": TEXT, "channel": TEXT, "creationtime": TEXT,
    "accuracy": TEXT,
}  # fmt: skip
"""In all messages of a call."""
SOMETIMES: dict[str, type] = {"ringgroup": TEXT, "transfer": LIST, "linked_guid": TEXT}
ANSWERED: dict[str, type] = {"extra_channel": TEXT, "ringduration": WHOLE}
ENDED: dict[str, type] = {"dialstatus": TEXT, "hangupcause": WHOLE, "hangupcause_txt": TEXT}
RECORDED: dict[str, type] = {"callduration": WHOLE, "urlfilename": TEXT, "recordings": LIST}

BY_STATUS: dict[str, dict[str, type]] = {
    "open": {},
    "oncall": ANSWERED,
    "closed": ANSWERED | RECORDED | ENDED | {"dtmf": TEXT, "keys": LIST},
    "unanswered": {"ringduration": WHOLE} | ENDED,
    "FORCECLOSE": RECORDED | ENDED,
}
OTHERS: dict[str, tuple[str, dict[str, type]]] = {
    "push": ("8015", {"endpoint": TEXT, "origin": TEXT, "guid": TEXT, "callnumber": WHOLE}),
    "endpoint-status": ("8013", {"endpoint": TEXT, "status": TEXT, "address": TEXT, "cause": TEXT}),
    "call-update": (
        "8016", {"guid": TEXT, "callnumber": WHOLE, "update": TEXT, "destiny": TEXT, "transfer": LIST},
    ),
    "recording": (
        "8017", {"guid": TEXT, "callnumber": WHOLE, "urlfilename": TEXT, "status": TEXT, "reason": TEXT},
    ),
}  # fmt: skip
ITEMS: dict[str, dict[str, type]] = {
    "transfer": {"kind": TEXT, "by": TEXT, "to": TEXT, "at": NUMBER},
    "keys": {"digit": TEXT, "by": TEXT, "at": NUMBER},
}


def check_message(message: PublishMessage, *, server: str = "voip1", forceclose_status: str = "FORCECLOSE") -> None:
    """Fail where a message is not what the contract says."""
    body = json.loads(message.body)
    assert list(body) == ["operation", "data"]
    operation, data = body["operation"], body["data"]
    assert list(operation) == ["type", "event_code", "timestamp", "vhost"]
    _check_fields(operation, {"type": TEXT, "event_code": TEXT, "timestamp": WHOLE, "vhost": TEXT})
    assert (operation["type"], operation["timestamp"], operation["vhost"]) == (
        message.type, message.timestamp, message.vhost,
    )  # fmt: skip
    if message.type == "received-call":
        assert operation["event_code"] == "8000"
        _check_call(message, data, server, forceclose_status)
    else:
        code, fields = OTHERS[message.type]
        assert operation["event_code"] == code
        _check_fields(data, fields)
        update = f".{data['update']}" if message.type == "call-update" else ""
        assert message.routing_key == message.type + update
        _check_identity(message, data)


def _check_call(message: PublishMessage, data: dict[str, Any], server: str, forceclose_status: str) -> None:
    said = data["channelstatus"]
    is_lost = said == forceclose_status and "dtmf" not in data
    status = "FORCECLOSE" if is_lost else said
    answered = data["callstatus"] == 2
    assert data["callstatus"] in {1, 2}
    required = CALL_FIELDS | BY_STATUS[status] | (ANSWERED if answered and status != "open" else {})
    _check_fields(data, required | {name: kind for name, kind in SOMETIMES.items() if name in data})
    assert answered == (status in {"oncall", "closed"}) or status == "FORCECLOSE"
    assert data["server"] == server
    assert data["accuracy"] in ({"gap"} if is_lost else {"exact", "gap"})
    assert message.routing_key == f"received-call.{said}"
    assert message.message_id == f"{data['guid']}:{said}"
    _check_identity(message, data)
    for name in ("ringduration", "callduration", "hangupcause"):
        assert data.get(name, 0) >= 0
    assert re.fullmatch(r"(https?://\S+\.mp3)?", data.get("urlfilename", ""))
    assert all(url.endswith(".mp3") for url in data.get("recordings", []))
    assert data.get("dtmf", "") == "".join(key["digit"] for key in data.get("keys", []))


def _check_identity(message: PublishMessage, data: dict[str, Any]) -> None:
    """Messages of one call share guid, number and order; others belong to no call."""
    if "guid" not in data:
        assert (message.callnumber, message.ordering_key) == (0, f"endpoint:{data['endpoint']}")
        return
    assert UUID(data["guid"]).version == 7
    assert message.ordering_key == data["guid"]
    assert message.callnumber == data["callnumber"] > 0


def _check_fields(data: dict[str, Any], expected: dict[str, type]) -> None:
    assert data.keys() == expected.keys()
    for name, kind in expected.items():
        assert type(data[name]) is kind, f"{name} is {data[name]!r}"
    for name, fields in ITEMS.items():
        for item in data.get(name, []):
            _check_fields(item, fields)
