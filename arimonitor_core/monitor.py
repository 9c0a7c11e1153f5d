"""The one door: every input goes in here, and what is to be done comes out.

The core reads no clock, no random source, no environment, no file and no socket, and it never logs. So the same inputs
give the same effects, byte for byte, in the daemon, in a replay, after a crash and on a standby.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from arimonitor_core import ari_events as ari
from arimonitor_core import correlation, transfers
from arimonitor_core.ari_answers import read_answers
from arimonitor_core.call import Call, Channel, Waiting
from arimonitor_core.calls import CallBook
from arimonitor_core.directory import Directory
from arimonitor_core.effects import Diagnostic, Effect, PrintEvent
from arimonitor_core.endpoints import EndpointBook
from arimonitor_core.event_filter import EventFilter
from arimonitor_core.history import History, HistoryRecord
from arimonitor_core.inputs import (
    AriEventReceived,
    CallsNumbered,
    ConnectionLost,
    ConnectionReplaced,
    ConnectionRestored,
    DeadlineReached,
    DirectoryChanged,
    FilterChanged,
    FilterMode,
    Input,
)
from arimonitor_core.policies import Policies
from arimonitor_core.push import PushDesk
from arimonitor_core.reconciliation import reconcile
from arimonitor_core.statistics import Statistics
from arimonitor_core.values import parse_time_ms

NOTHING: Final[Sequence[Effect]] = ()
RECORDING_VARIABLE: Final = ari.RECORDING_VARIABLE
RESTARTED: Final = "asterisk-restarted"
"""Reason of the diagnostic that says so."""

Handler = Callable[[CallBook, Any, int], Call | None]
"""What an event type does; a call returned may need a push."""

_EVENT_RECEIVED: Final = AriEventReceived
_decode_known: Final = ari.decode_known
_IGNORED_HEADS: Final = ari.IGNORED_HEADS
_IGNORED_KEY_BYTES: Final = ari.IGNORED_KEY_BYTES
_VARSET_MARK: Final = ari.VARSET_MARK
_VARSET_HEAD: Final = ari.VARSET_HEAD
_RECORDING_HEAD: Final = ari.RECORDING_HEAD
_VARSET: Final = ari.ChannelVarset
_CLOSING_BRACE: Final = ord("}")


class Monitor:
    """Follows all calls of one Asterisk.

    Args:
        server: this PBX's name, as messages and guids carry it.
        directory: clients and endpoints.
        policies: what the operator decided.
        first_callnumber: one more than the highest ever used on this server.
    """

    def __init__(
        self,
        *,
        server: str,
        directory: Directory,
        policies: Policies | None = None,
        first_callnumber: int = 1,
    ) -> None:
        self.book: Final = CallBook(server, directory, policies or Policies(), first_callnumber)
        self.endpoint_book: Final = EndpointBook(self.book)
        self.push_desk: Final = PushDesk(self.book, self.endpoint_book)
        self.filter: Final = EventFilter()
        self.lost_at: float | None = None
        self.startup_time: str = ""
        """When Asterisk was started, in its own words; empty: not known."""
        self._effects = self.book.effects
        self._event_counts = self.book.statistics.events
        self._handlers = self._event_handlers()
        self._inputs: dict[type, Callable[[Any], None]] = {
            ConnectionLost: self._on_lost,
            ConnectionRestored: self._on_restored,
            ConnectionReplaced: self._on_replaced,
            CallsNumbered: self._on_numbered,
            DirectoryChanged: self._on_directory,
            FilterChanged: self._on_filter,
            DeadlineReached: self._on_deadline,
        }
        self._due = float("inf")
        self._filtering = False
        # Half of all events carry the very millisecond of the one before.
        self._timestamp = ""
        self._at_ms = 0

    def _event_handlers(self) -> dict[type, Handler]:
        endpoints = self.endpoint_book
        return {
            ari.ChannelCreated: correlation.on_created,
            ari.ChannelDestroyed: correlation.on_destroyed,
            ari.ChannelStateChange: correlation.on_state_change,
            ari.ChannelDtmfReceived: correlation.on_dtmf,
            ari.ChannelHold: correlation.on_hold,
            ari.ChannelUnhold: correlation.on_unhold,
            ari.RecordingVarset: correlation.on_recording,
            ari.Dial: correlation.on_dial,
            ari.ChannelEnteredBridge: correlation.on_entered,
            ari.ChannelLeftBridge: correlation.on_left,
            ari.BridgeBlindTransfer: transfers.on_blind,
            ari.BridgeAttendedTransfer: transfers.on_attended,
            ari.PeerStatusChange: lambda _, event, at_ms: endpoints.on_peer_status(event, at_ms),
            ari.EndpointStateChange: lambda _, event, at_ms: endpoints.on_snapshot(event.endpoint, at_ms),
            ari.ContactStatusChange: lambda _, event, at_ms: endpoints.on_contact_status(event, at_ms),
        }

    def handle(self, item: Input) -> Sequence[Effect]:
        """Take one input; return what is to be done about it, in order. Bad data never raises.

        Deadlines that are due at the input's time are dealt with first, so that what happens does not depend on
        when a timer woke up.
        """
        if item.received_at >= self._due:
            self.push_desk.on_time(item.received_at)
            self._due = self.push_desk.next_due()
        if type(item) is not _EVENT_RECEIVED:
            self._inputs[type(item)](item)
        elif self._filtering:
            self._filter(item)
        else:
            raw = item.raw
            if (
                raw[2:3] == _VARSET_MARK
                and raw.startswith(_VARSET_HEAD)
                and not raw.startswith(_RECORDING_HEAD)
                and raw[-1] == _CLOSING_BRACE
            ):
                self._event_counts[_VARSET] += 1
            else:
                ignored = _IGNORED_HEADS.get(raw[:_IGNORED_KEY_BYTES])
                if ignored is not None and raw.startswith(ignored[0]) and raw[-1] == _CLOSING_BRACE:
                    self._event_counts[ignored[1]] += 1
                else:
                    try:
                        event: Any = _decode_known(raw)
                    except Exception:  # decoded once more, slowly, to name the reason
                        event = ari.decode_event(raw)
                    self._event_counts[type(event)] += 1
                    self._on_event(event, item)
        return self._take_effects() if self._effects else NOTHING

    def _on_event(self, event: Any, item: AriEventReceived) -> None:
        handler = self._handlers.get(type(event))
        if handler is None:
            self._on_unread(event, item)
            return
        timestamp = event.timestamp
        at_ms = self._at_ms if timestamp == self._timestamp else self._read_time(timestamp, item.received_at)
        call = handler(self.book, event, at_ms)
        if call is not None:
            dialed = event.exten if type(event) is ari.BridgeBlindTransfer else call.dialed
            self._consider_push(call, dialed, item.received_at, at_ms)

    def _read_time(self, timestamp: str, received_at: float) -> int:
        at_ms = parse_time_ms(timestamp)
        if at_ms is None:
            # When it happened is Asterisk's to say; here it did not, and the recorder's time has to do.
            self.book.statistics.diagnostics["malformed-timestamp"] += 1
            return round(received_at * 1000)
        self._timestamp, self._at_ms = timestamp, at_ms
        return at_ms

    def _on_unread(self, event: Any, item: AriEventReceived) -> None:
        """It needs no more than being counted; a recording that it announces is decoded for itself."""
        kind = type(event)
        if kind is ari.ChannelVarset:
            if event.variable == RECORDING_VARIABLE:
                self._on_event(ari.decode_recording(item.raw), item)
        elif kind is ari.UnhandledEvent:
            self.book.statistics.count_unhandled(event.type)
        elif kind is ari.MalformedEvent:
            self._report_malformed(event)

    def next_deadline(self) -> float | None:
        """When something is due that no event may announce (Unix seconds): feed `DeadlineReached` then."""
        return None if self._due == float("inf") else self._due

    def _take_effects(self) -> Sequence[Effect]:
        effects = self._effects.copy()
        self._effects.clear()
        return effects

    def _filter(self, item: AriEventReceived) -> None:
        """Every event's type is asked for, so every event is decoded."""
        event = ari.decode_event(item.raw)
        self._event_counts[type(event)] += 1
        if self._passes(event, item):
            self._on_event(event, item)

    def _passes(self, event: Any, item: AriEventReceived) -> bool:
        """Ask the event filter."""
        kind = type(event)
        name = event.type if kind is ari.UnhandledEvent else kind.__name__
        variable = event.variable if kind is ari.ChannelVarset else ""
        mode = self.filter.mode(name, variable)
        if "P" in mode:
            self.book.effects.append(PrintEvent(received_at=item.received_at, raw=item.raw))
        if "N" in mode:
            self.book.statistics.filtered[f"{name}/{variable}" if variable else name] += 1
            return False
        return True

    def _report_malformed(self, event: ari.MalformedEvent) -> None:
        self.book.report(Diagnostic(severity="warning", reason=event.reason, detail=event.detail))

    # -- events that need more than the book ---------------------------------------------------------------------

    def _consider_push(self, call: Call, endpoint: str, received_at: float, at_ms: int) -> None:
        self.push_desk.consider(call, endpoint, received_at, at_ms)
        self._due = self.push_desk.next_due()

    # -- inputs that are no events -------------------------------------------------------------------------------

    def _on_lost(self, item: ConnectionLost) -> None:
        if self.lost_at is None:
            self.lost_at = item.received_at

    def _on_restored(self, item: ConnectionRestored) -> None:
        answers = read_answers(item)
        for fault in answers.faults:
            self._report_malformed(fault)
        at_ms = round(item.received_at * 1000)
        lost_ms = None if self.lost_at is None else round(self.lost_at * 1000)
        self.lost_at = None
        restarted = self._has_restarted(answers.startup_time)
        for endpoint in answers.endpoints:
            self.endpoint_book.on_snapshot(endpoint, at_ms)
        untold = reconcile(self.book, answers, restarted=restarted, lost_ms=lost_ms, at_ms=at_ms)
        for call in untold:
            self._consider_push(call, call.dialed, item.received_at, at_ms)

    def _has_restarted(self, startup_time: str) -> bool:
        """Is it another Asterisk process than that known before? Where nothing is said of it, it is the same."""
        before = self.startup_time
        if not startup_time:
            return False
        self.startup_time = startup_time
        # One instant has many texts: the zone's offset changes twice a year.
        if not before or parse_time_ms(before) == parse_time_ms(startup_time):
            return False
        detail = f"started at {startup_time}, before that at {before}: every call known is over"
        self.book.report(Diagnostic(severity="warning", reason=RESTARTED, detail=detail))
        return True

    def _on_replaced(self, item: ConnectionReplaced) -> None:
        """Nothing: whoever continues from here has heard everything."""

    def _on_numbered(self, item: CallsNumbered) -> None:
        """The web system already knows these calls by these numbers."""
        self.book.adopt_numbers(item.numbers)

    def _on_directory(self, item: DirectoryChanged) -> None:
        self.book.change_directory(item.directory)

    def _on_filter(self, item: FilterChanged) -> None:
        self.filter.change(item.types, item.variables)
        self._filtering = not self.filter.is_open

    def _on_deadline(self, item: DeadlineReached) -> None:
        """Nothing more: time itself was dealt with before."""

    def resume(
        self,
        waiting: Iterable[Waiting],
        types: dict[str, FilterMode],
        variables: dict[str, FilterMode],
        lost_at: float | None,
        startup_time: str,
    ) -> None:
        """Go on where a snapshot was taken."""
        self.push_desk.waiting.extend(waiting)
        self._due = self.push_desk.next_due()
        self.filter.change(types, variables)
        self._filtering = not self.filter.is_open
        self.lost_at = lost_at
        self.startup_time = startup_time

    # -- questions -----------------------------------------------------------------------------------------------

    @property
    def statistics(self) -> Statistics:
        """Counters since the start."""
        return self.book.statistics

    @property
    def history(self) -> History:
        """Ended calls, bounded."""
        return self.book.history

    @property
    def next_callnumber(self) -> int:
        """The number that the next call told of will get."""
        return self.book.next_callnumber

    def active_calls(self) -> list[Call]:
        """The calls being followed, told of or not, oldest first."""
        return list(self.book.calls.values())

    def channel_ids(self) -> Collection[str]:
        """Ids of the channels that are believed to live, in the order in which they were first seen; a view."""
        return self.book.table.channels.keys()

    def find_calls(self, text: str) -> list[Call]:
        """Active calls that a guid, callnumber, channel name or id, or an endpoint's number names."""
        return [call for call in self.active_calls() if text in self._names(call)]

    def find_call(self, guid: str) -> Call | None:
        """The active call with this guid."""
        return self.book.calls_by_guid.get(guid)

    def find_history(self, guid: str) -> HistoryRecord | None:
        """The ended call with this guid, while it is remembered."""
        return self.book.history.find_guid(guid)

    def channels_of(self, call: Call) -> list[Channel]:
        """The living channels that belong to a call, legs that are only being rung included."""
        table = self.book.table
        return [one for one in table.channels.values() if table.find_calling(one)[1] is call]

    def _names(self, call: Call) -> set[str]:
        names = {call.guid, str(call.callnumber), call.origin, call.dialed, call.destiny, call.channel}
        for channel in self.channels_of(call):
            names |= {channel.id, channel.name}
        return names
