"""Everything that can change the core's state. Each input carries its time; what is not an input cannot matter.

Times named `received_at` are Unix seconds (UTC), as the recorder took them when the input arrived. They decide only
when deadlines are due; what a message says comes from the times that Asterisk put into its events.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from attrs import Factory, frozen

from arimonitor_core.directory import Directory

FilterMode = Literal["N", "Y", "P", "NP"]
"""What becomes of an event: drop, process, print and process, print and drop."""


class AriEventReceived(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One websocket message of ARI, verbatim. Positional and compared by identity.

    There are thousands a second, and a frozen attrs class takes ten times as long to make as this one.
    """

    received_at: float
    raw: bytes
    """The JSON text as Asterisk sent it; anything at all is allowed in it."""


@frozen(kw_only=True)
class ConnectionLost:
    """The ARI websocket is gone; what Asterisk does from now on is unseen."""

    received_at: float


@frozen(kw_only=True)
class ConnectionRestored:
    """The connection is up (for the first time, or again) and this is what Asterisk shows."""

    received_at: float
    channels: bytes = b"[]"
    """Answer of GET /channels, verbatim."""
    bridges: bytes = b"[]"
    """Answer of GET /bridges, verbatim."""
    endpoints: bytes = b"[]"
    """Answer of GET /endpoints, verbatim."""
    info: bytes = b"{}"
    """Answer of GET /asterisk/info?only=status, verbatim; empty where nobody asked."""
    variables: bytes = b"{}"
    """Channel variables that were read one by one, where the snapshots bring none: {channel id: {name: value}}."""


@frozen(kw_only=True)
class ConnectionReplaced:
    """A successor listens from here on and continues from here: nothing was lost, nobody else writes after this."""

    received_at: float


@frozen(kw_only=True)
class DirectoryChanged:
    """Clients or endpoints changed; calls that are already followed keep their vhost."""

    received_at: float
    directory: Directory


@frozen(kw_only=True)
class CallsNumbered:
    """Another monitor of the same Asterisk, which publishes at present, gave calls their callnumbers."""

    received_at: float
    numbers: dict[str, int] = Factory(dict)
    """callnumber by guid; that of an empty guid belongs to a call that nobody remembers."""


@frozen(kw_only=True)
class FilterChanged:
    """An operator changed the event filter."""

    received_at: float
    types: dict[str, FilterMode] = Factory(dict)
    """By ARI event type; only the types named change."""
    variables: dict[str, FilterMode] = Factory(dict)
    """By ChannelVarset variable; only the variables named change."""


@frozen(kw_only=True)
class DeadlineReached:
    """Time went on without an event, at least to this instant."""

    received_at: float


Input = (
    AriEventReceived
    | ConnectionLost
    | ConnectionRestored
    | ConnectionReplaced
    | DirectoryChanged
    | CallsNumbered
    | FilterChanged
    | DeadlineReached
)
