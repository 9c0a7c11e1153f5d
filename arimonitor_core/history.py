"""A bounded memory of ended calls (v2.7's XCallnumber), cheap to keep and slow to search, which is the right way round.

Records are kept as encoded bytes (JSON, as a snapshot holds them): the garbage collector does not traverse them, and
one takes less than half a kilobyte.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from arimonitor_core.call import Call


class HistoryRecord(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What is remembered of an ended call. Times are milliseconds since the Unix epoch; 0: it never happened."""

    guid: str
    callnumber: int
    state: str
    """The final state: closed, unanswered, discarded, recovered."""
    offrec: bool
    """It ended while the websocket was down and was recovered."""
    origin: str
    dialed: str
    destiny: str
    channel: str
    extra_channel: str
    channel_id: str
    created_ms: int
    opened_ms: int
    answered_ms: int
    ended_ms: int
    linked_guid: str

    def mentions(self, text: str) -> bool:
        """Is the text its guid, its number, one of its parties or channels?"""
        known = (self.guid, str(self.callnumber), self.origin, self.dialed, self.destiny, self.channel,
                 self.extra_channel, self.channel_id)  # fmt: skip
        return text in known


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(HistoryRecord).decode


class History:
    """The last `limit` ended calls, oldest first."""

    def __init__(self, limit: int) -> None:
        self._records: deque[bytes] = deque(maxlen=limit)

    def add(self, call: Call, ended_ms: int) -> None:
        """Remember a call that is over."""
        self._records.append(
            _encode(
                HistoryRecord(
                    guid=call.guid,
                    callnumber=call.callnumber,
                    state=call.state,
                    offrec=call.state == "recovered",
                    origin=call.origin,
                    dialed=call.dialed,
                    destiny=call.destiny,
                    channel=call.channel,
                    extra_channel=call.extra_channel,
                    channel_id=call.key.channel_id,
                    created_ms=call.created_ms,
                    opened_ms=call.opened_ms,
                    answered_ms=call.answered_ms,
                    ended_ms=ended_ms,
                    linked_guid=call.linked_guid,
                )
            )
        )

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[HistoryRecord]:
        return map(_decode, self._records)

    def find(self, text: str) -> list[HistoryRecord]:
        """The records that a guid, callnumber, channel name or id, or an endpoint's number names; newest first."""
        return [record for record in map(_decode, reversed(self._records)) if record.mentions(text)]

    def find_guid(self, guid: str) -> HistoryRecord | None:
        """The record of one call; None if it was never known or is forgotten."""
        needle = guid.encode()
        return next((_decode(raw) for raw in reversed(self._records) if needle in raw), None)

    def dump(self) -> list[msgspec.Raw]:
        """The encoded records, for a snapshot."""
        return list(map(msgspec.Raw, self._records))

    def load(self, records: Iterable[msgspec.Raw]) -> None:
        """Records that `dump` gave; each is decoded once, so that damage shows here and not later."""
        for raw in records:
            _decode(raw)
            self._records.append(bytes(raw))
