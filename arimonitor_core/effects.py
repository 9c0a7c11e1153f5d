"""What the core asks the runner to do. Effects are imperative, complete, and deterministic down to their bytes."""

from __future__ import annotations

from typing import Literal

import msgspec
from attrs import frozen


class PublishMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Send one message to the web system (the wire contract is in `messages`)."""

    vhost: str
    """RabbitMQ virtual host; empty where no number of the call belongs to a client."""
    type: str
    """`operation.type`: received-call, push, endpoint-status, call-update, recording."""
    routing_key: str
    """`<type>.<channelstatus>` or `<type>`."""
    message_id: str
    """Deterministic: a repeat carries the same id, so that a consumer can drop it."""
    ordering_key: str
    """Messages with the same key go out in the order given: the call's guid, or the endpoint."""
    timestamp: int
    """Unix seconds of the event that caused it."""
    callnumber: int
    """The call's number; 0 for messages that belong to no call. The highest one must survive a restart."""
    body: bytes
    """The JSON text, UTF-8, without a line end."""


class RecordedFile(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One recording of a call, as the call's message names it."""

    path: str
    """Of the WAV on the PBX; any text: a channel variable said so."""
    url: str
    """What the message calls it."""
    is_linked: bool
    """Its URL is the message's `urlfilename` too."""


class StoreRecordings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Make the links of an answered call that is over work. Comes directly before the message that holds them.

    Times are milliseconds since the Unix epoch.
    """

    message_id: str
    """The message that waits for them."""
    guid: str
    callnumber: int
    vhost: str
    client: str
    """Code of the client; empty where no number of the call belongs to one."""
    origin: str
    destiny: str
    created_ms: int
    answered_ms: int
    ended_ms: int
    files: tuple[RecordedFile, ...]
    """In the order of the message's `recordings`; never empty."""


@frozen(kw_only=True)
class Diagnostic:
    """Something worth telling an operator; nothing was done about it beyond what the reason says."""

    severity: Literal["debug", "info", "warning", "error"]
    reason: str
    """Stable word, counted in the statistics: malformed-json, illegal-transition, refused-exten-s ..."""
    detail: str = ""
    call_id: str = ""
    """The call's guid, where it concerns one."""


@frozen(kw_only=True)
class PrintEvent:
    """The event filter says P or NP: show this event to the operator."""

    received_at: float
    raw: bytes


LastingEffect = PublishMessage | StoreRecordings
"""What is to be stored, and must be done once whatever happens; the others are told at once and forgotten."""

Effect = LastingEffect | Diagnostic | PrintEvent
