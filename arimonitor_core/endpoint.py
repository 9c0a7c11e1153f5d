"""One endpoint, and one address that endpoints register from: raw facts as Asterisk told them."""

from __future__ import annotations

from typing import Literal

import msgspec


class EndpointState(msgspec.Struct, eq=False, forbid_unknown_fields=True):
    """What is known of one endpoint."""

    status: str = ""
    """As last told to the web system; empty: never."""
    online: bool | None = None
    """Can it be called? None: nobody said."""
    address: str = ""
    """Address of its last contact."""


class Address(msgspec.Struct, eq=False, forbid_unknown_fields=True):
    """One address that customers' endpoints register from (v2.7's REMOTEIPS)."""

    dns: str = ""
    whitelist: Literal["N", "Y"] = "N"
    dateinserted: int = 0
    """Unix seconds."""
