"""Facts of a call projected onto the wire contract (docs/messages.md). The only place that knows wire fields.

Names, spelling and order of the wire fields are the web system's: never "correct" one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from arimonitor_core.call import Call, Key
from arimonitor_core.directory import Directory
from arimonitor_core.effects import PublishMessage, RecordedFile, StoreRecordings
from arimonitor_core.policies import Policies
from arimonitor_core.values import recording_url, seconds

RECEIVED_CALL: Final = "received-call"
PUSH: Final = "push"
ENDPOINT_STATUS: Final = "endpoint-status"
CALL_UPDATE: Final = "call-update"
RECORDING: Final = "recording"

EVENT_CODES: Final = {
    RECEIVED_CALL: "8000",
    ENDPOINT_STATUS: "8013",
    PUSH: "8015",
    CALL_UPDATE: "8016",
    RECORDING: "8017",
}

OPEN: Final = "open"
ONCALL: Final = "oncall"
CLOSED: Final = "closed"
UNANSWERED: Final = "unanswered"
FORCECLOSE: Final = "FORCECLOSE"

ACCURACY_EXACT: Final = "exact"
ACCURACY_GAP: Final = "gap"

CALLSTATUS_RINGING: Final = 1
CALLSTATUS_ANSWERED: Final = 2

_encode: Final = msgspec.json.Encoder().encode

_CALLNUMBER: Final = re.compile(rb'(?<="callnumber":)\d+')
"""No text can hold what stands before it: its quotes would be escaped."""
_LINKS: Final = re.compile(rb'"urlfilename":"(?:[^"\\]|\\.)*","recordings":\[(?:"(?:[^"\\]|\\.)*",?)*\]')
"""The two fields that hold links, which stand together."""


class Writer:
    """Writes the messages of one server."""

    def __init__(self, server: str, directory: Directory, policies: Policies) -> None:
        self.server = server
        self.directory = directory
        self._policies = policies

    def received_call(self, call: Call, status: str, at_ms: int, ended_ms: int = 0) -> PublishMessage:
        """`received-call` (8000): `status` is one of open, oncall, closed, unanswered, FORCECLOSE."""
        said = self._policies.forceclose_status if status == FORCECLOSE else status
        data = self._parties(call, said)
        data |= self._durations(call, status, ended_ms)
        if status in (CLOSED, FORCECLOSE):
            data |= self._recordings(call)
        if status == CLOSED:
            keys = sorted(call.keys, key=_pressed_at)
            data["dtmf"] = "".join(key.digit for key in keys)
            data["keys"] = [{"digit": key.digit, "by": key.by, "at": key.at_ms / 1000} for key in keys]
        if status in (CLOSED, UNANSWERED, FORCECLOSE):
            data["dialstatus"] = call.dial_status
            data["hangupcause"] = call.cause
            data["hangupcause_txt"] = call.cause_text
        return self._publish(
            RECEIVED_CALL, call, data, at_ms, key=f"{RECEIVED_CALL}.{said}", message_id=f"{call.guid}:{said}"
        )

    def _parties(self, call: Call, status: str) -> dict[str, Any]:
        directory = self.directory
        answered = bool(call.answered_ms)
        data: dict[str, Any] = {
            "origin": call.origin,
            "destiny": call.destiny,
            "origin_type": directory.type_of(call.origin),
            "destiny_type": directory.type_of(call.destiny),
            "callnumber": call.callnumber,
            "guid": call.guid,
            "channelstatus": status,
            "callstatus": CALLSTATUS_ANSWERED if answered else CALLSTATUS_RINGING,
            "server": self.server,
            "channel": call.channel,
            "creationtime": call.key.creationtime,
            "accuracy": ACCURACY_GAP if call.has_gap else ACCURACY_EXACT,
        }
        if call.ring_group:
            data["ringgroup"] = call.ring_group
        if call.transfers:
            data["transfer"] = _transfers(call)
        if call.linked_guid:
            data["linked_guid"] = call.linked_guid
        return data

    def _durations(self, call: Call, status: str, ended_ms: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        if call.answered_ms:
            data["extra_channel"] = call.extra_channel
            data["ringduration"] = seconds(call.answered_ms - call.opened_ms)
        elif status == UNANSWERED:
            data["ringduration"] = seconds(ended_ms - call.opened_ms)
        if status in (CLOSED, FORCECLOSE):
            data["callduration"] = seconds(ended_ms - call.answered_ms) if call.answered_ms else 0
        return data

    def _recordings(self, call: Call) -> dict[str, Any]:
        files = self._files(call)
        return {
            "urlfilename": next((file.url for file in files if file.is_linked), ""),
            "recordings": [file.url for file in files],
        }

    def _files(self, call: Call) -> list[RecordedFile]:
        base = self._policies.audio_base_url
        linked = next((recording for recording in call.recordings if recording.own), None)
        return [
            RecordedFile(recording.path, recording_url(base, recording.path), recording is linked)
            for recording in call.recordings
        ]

    def store_recordings(self, call: Call, message_id: str, ended_ms: int) -> StoreRecordings:
        """What the links in a call's last message need; the call has recordings."""
        directory = self.directory
        client = directory.find_client(call.origin) or directory.find_client(call.dialed)
        return StoreRecordings(
            message_id=message_id,
            guid=call.guid,
            callnumber=call.callnumber,
            vhost=call.vhost,
            client=client.code if client is not None else "",
            origin=call.origin,
            destiny=call.destiny,
            created_ms=call.created_ms,
            answered_ms=call.answered_ms,
            ended_ms=ended_ms,
            files=tuple(self._files(call)),
        )

    def push(self, call: Call, endpoint: str, at_ms: int) -> PublishMessage:
        """`push` (8015): wake the app of an offline endpoint that a call waits for."""
        data = {"endpoint": endpoint, "origin": call.origin, "guid": call.guid, "callnumber": call.callnumber}
        vhost = self.directory.vhost_of(endpoint)
        return self._publish(PUSH, call, data, at_ms, key=PUSH, message_id=f"{call.guid}:push:{endpoint}", vhost=vhost)

    def call_update(self, call: Call, update: str, at_ms: int) -> PublishMessage:
        """`call-update` (8016): the call was transferred, held or resumed."""
        data = {"guid": call.guid, "callnumber": call.callnumber, "update": update, "destiny": call.destiny,
                "transfer": _transfers(call)}  # fmt: skip
        message_id = f"{call.guid}:{update}:{at_ms}"
        return self._publish(CALL_UPDATE, call, data, at_ms, key=f"{CALL_UPDATE}.{update}", message_id=message_id)

    def endpoint_status(self, endpoint: str, status: str, address: str, cause: str, at_ms: int) -> PublishMessage:
        """`endpoint-status` (8013): an endpoint's state changed, or was seen for the first time."""
        data = {"endpoint": endpoint, "status": status, "address": address, "cause": cause}
        vhost = self.directory.vhost_of(endpoint)
        return PublishMessage(
            vhost=vhost,
            type=ENDPOINT_STATUS,
            routing_key=ENDPOINT_STATUS,
            message_id=f"{self.server}:{endpoint}:{status}:{at_ms}",
            ordering_key=f"endpoint:{endpoint}",
            timestamp=at_ms // 1000,
            callnumber=0,
            body=_body(ENDPOINT_STATUS, at_ms, vhost, data),
        )

    def _publish(
        self, kind: str, call: Call, data: dict[str, Any], at_ms: int, *, key: str, message_id: str, vhost: str = ""
    ) -> PublishMessage:
        vhost = vhost or call.vhost
        return PublishMessage(
            vhost=vhost,
            type=kind,
            routing_key=key,
            message_id=message_id,
            ordering_key=call.guid,
            timestamp=at_ms // 1000,
            callnumber=call.callnumber,
            body=_body(kind, at_ms, vhost, data),
        )


def renumber(body: bytes, callnumber: int) -> bytes:
    """A message of a call with another callnumber, everything else byte for byte; one of no call stays as it is."""
    return _CALLNUMBER.sub(b"%d" % callnumber, body, count=1)


def relink(body: bytes, urlfilename: str, recordings: Sequence[str]) -> bytes:
    """A closed or FORCECLOSE message with other links, everything else byte for byte."""
    links = b'"urlfilename":%b,"recordings":%b' % (_encode(urlfilename), _encode(recordings))
    return _LINKS.sub(lambda _found: links, body, count=1)


def recording(
    *, guid: str, callnumber: int, vhost: str, urlfilename: str, status: str, reason: str, at_ms: int
) -> PublishMessage:
    """`recording` (8017): what became of a recording that the call's last message could not tell.

    Args:
        guid: of its call.
        callnumber: likewise.
        vhost: of the call's messages.
        urlfilename: where it is, or would have been.
        status: stored-late, stored-elsewhere or lost.
        reason: why, for a person.
        at_ms: when that became known, in milliseconds since the Unix epoch.
    """
    data = {
        "guid": guid,
        "callnumber": callnumber,
        "urlfilename": urlfilename,
        "status": status,
        "reason": reason,
    }
    return PublishMessage(
        vhost=vhost,
        type=RECORDING,
        routing_key=RECORDING,
        message_id=f"{guid}:{RECORDING}:{urlfilename.rpartition('/')[2]}:{status}",
        ordering_key=guid,
        timestamp=at_ms // 1000,
        callnumber=callnumber,
        body=_body(RECORDING, at_ms, vhost, data),
    )


def _body(kind: str, at_ms: int, vhost: str, data: dict[str, Any]) -> bytes:
    operation = {"type": kind, "event_code": EVENT_CODES[kind], "timestamp": at_ms // 1000, "vhost": vhost}
    return _encode({"operation": operation, "data": data})


def _pressed_at(key: Key) -> int:
    return key.at_ms


def _transfers(call: Call) -> list[dict[str, Any]]:
    return [{"kind": made.kind, "by": made.by, "to": made.to, "at": made.at_ms / 1000} for made in call.transfers]
