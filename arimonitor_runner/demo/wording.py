"""Messages in words, for people who watch the demonstration."""

from __future__ import annotations

from typing import Any

Data = dict[str, Any]
"""`data` of one message of the wire contract."""


def describe(kind: str, data: Data) -> tuple[str, str]:
    """What a message says: a word to colour it by, and a sentence.

    `kind` is `operation.type`, or `connection`: then `data["is"]` says what became of it.
    """
    if kind == "connection":
        return kind, str(data["is"])
    if kind == "push":
        return "push", f"wake the app of {data['endpoint']}: {data['origin']} calls it"
    if kind == "endpoint-status":
        return "endpoint-status", f"{data['endpoint']} is {data['status'].lower()}"
    status = str(data["channelstatus"])
    sentence = {
        "open": _opened,
        "oncall": _answered,
        "closed": _closed,
        "unanswered": _unanswered,
        "FORCECLOSE": _recovered,
    }[status](data)
    return status, f"#{data['callnumber']:<2} {sentence}"


def _opened(data: Data) -> str:
    what = f" ({data['destiny_type']})" if data["destiny_type"] in ("ring-group", "ia") else ""
    return f"{data['origin']} calls {data['destiny']}{what}"


def _answered(data: Data) -> str:
    return f"{data['destiny']} answered {data['origin']} after {data['ringduration']} s"


def _closed(data: Data) -> str:
    group = f" of group {data['ringgroup']}" if data.get("ringgroup", data["destiny"]) != data["destiny"] else ""
    parts = [f"{data['origin']} talked {data['callduration']} s, at the end with {data['destiny']}{group}"]
    parts += [f"{made['kind']} transfer by {made['by']}" for made in data.get("transfer", [])]
    parts += [f"keys {data['dtmf']}"] if data["dtmf"] else []
    return ", ".join(parts)


def _unanswered(data: Data) -> str:
    return f"nobody answered {data['origin']} at {data['destiny']}: {data['ringduration']} s"


def _recovered(data: Data) -> str:
    how = f"talked about {data['callduration']} s" if data["callstatus"] == 2 else "never answered"
    return f"{data['origin']} > {data['destiny']} ended unseen, {how}"
