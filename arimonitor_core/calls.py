"""The calls being followed: how one begins, rings, is answered and ends, and what is told of it.

Here are the steps of a call's life and their consequences. Which event makes which step is decided in `correlation`,
`transfers` and `reconciliation`; which steps are legal is declared in `call_states`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from arimonitor_core import messages
from arimonitor_core.ari_events import ChannelSnapshot
from arimonitor_core.call import Call, CallKey, Channel, Key, Recording, Transfer
from arimonitor_core.call_states import ANSWERED, CLOSED
from arimonitor_core.channels import ChannelTable, live_call
from arimonitor_core.directory import RING_GROUP_TYPE, Directory
from arimonitor_core.effects import Diagnostic, Effect, PublishMessage
from arimonitor_core.history import History
from arimonitor_core.policies import Policies
from arimonitor_core.statistics import Statistics
from arimonitor_core.values import (
    derive_guid,
    endpoint_of_channel,
    is_number,
    parse_time_ms,
    without,
)

CALLNUMBER_MAX: Final = 2**53 - 1
"""The highest that every reader of JSON keeps exactly."""
GIVEN_LIMIT: Final = 100_000
"""How many callnumbers of calls that are not known here are remembered; more than one Asterisk has calls."""


class CallBook:
    """Calls by key, the channels they are made of, and the effects that came of the input being handled."""

    def __init__(self, server: str, directory: Directory, policies: Policies, first_callnumber: int) -> None:
        self.policies = policies
        self.directory = directory
        """What is known about numbers now."""
        self.writer = messages.Writer(server, directory, policies)
        self.table = ChannelTable()
        self.calls: dict[CallKey, Call] = {}
        self.calls_by_guid: dict[str, Call] = {}
        self.history = History(policies.history_limit)
        self.statistics = Statistics()
        self.next_callnumber = first_callnumber
        self.given_numbers: dict[str, int] = {}
        """By guid, numbers that another monitor gave to calls which are not known here yet, oldest first."""
        self.effects: list[Effect] = []
        self.unseen = False
        """Is what happens now concluded from what Asterisk shows, because nobody saw it happen?"""

    def change_directory(self, directory: Directory) -> None:
        """Know other numbers from now on."""
        self.directory = self.writer.directory = directory

    # -- what is told ------------------------------------------------------------------------------------------

    def publish(self, message: PublishMessage) -> None:
        """Hand a message out."""
        self.statistics.messages[message.routing_key] += 1
        self.effects.append(message)

    def report(self, diagnostic: Diagnostic) -> None:
        """Hand a diagnostic out; counted by reason."""
        self.statistics.diagnostics[diagnostic.reason] += 1
        self.effects.append(diagnostic)

    def _tell(self, call: Call, status: str, at_ms: int, ended_ms: int = 0) -> None:
        message = self.writer.received_call(call, status, at_ms, ended_ms)
        if ended_ms and call.recordings:
            self._store(call, message.message_id, ended_ms)
        self.publish(message)

    def _store(self, call: Call, message_id: str, ended_ms: int) -> None:
        """Its recordings are complete. MixMonitor records the ringing of calls that nobody answers, too."""
        if call.answered_ms:
            self.effects.append(self.writer.store_recordings(call, message_id, ended_ms))
        else:
            self.statistics.diagnostics["unanswered-recording"] += len(call.recordings)

    def update(self, call: Call, update: str, at_ms: int) -> None:
        """Tell of a change in a call that goes on, where the operator wants to hear of such."""
        if self.policies.call_update and call.state == ANSWERED:
            self.publish(self.writer.call_update(call, update, at_ms))

    def number(self, call: Call) -> None:
        """Give the call its callnumber, at the first message that needs one: calls never told of use none up."""
        if call.callnumber:
            return
        call.callnumber = self.given_numbers.pop(call.guid, 0)
        if not call.callnumber:
            call.callnumber = self.next_callnumber
            self.next_callnumber += 1

    def adopt_numbers(self, numbers: Mapping[str, object]) -> None:
        """Another monitor numbered these calls, by guid: the web system knows them so, whatever they were given here.

        The number of a call that is not known here yet waits for it. No number told of is ever given again.
        """
        for guid, number in numbers.items():
            if type(number) is not int or not 0 < number <= CALLNUMBER_MAX:
                detail = f"{guid[:40]}: {number!r:.40}"
                self.report(Diagnostic(severity="warning", reason="malformed-callnumber", detail=detail))
                continue
            self.next_callnumber = max(self.next_callnumber, number + 1)
            self.given_numbers.pop(guid, None)
            call = self.calls_by_guid.get(guid)
            if call is not None:
                call.callnumber = number
                continue
            self.given_numbers[guid] = number
            if len(self.given_numbers) > GIVEN_LIMIT:
                del self.given_numbers[next(iter(self.given_numbers))]

    # -- whose channel is it -----------------------------------------------------------------------------------

    def origin_of(self, snapshot: ChannelSnapshot) -> str:
        """Number of a caller: his endpoint, whatever caller id he shows; caller.number for a trunk or a stranger."""
        endpoint = endpoint_of_channel(snapshot.name)
        if is_number(endpoint) or endpoint in self.directory.endpoints:
            return endpoint
        return snapshot.caller.number or endpoint

    def party_of(self, channel: Channel) -> str:
        """Number of a party that was called: its endpoint, or what was dialed on a trunk."""
        endpoint = endpoint_of_channel(channel.name)
        if is_number(endpoint) or endpoint in self.directory.endpoints:
            return endpoint
        return channel.dialed or endpoint

    # -- the life of a call ------------------------------------------------------------------------------------

    def begin(self, snapshot: ChannelSnapshot, channel: Channel, dialed: str, at_ms: int) -> Call | None:
        """A call is born at its caller channel, keyed and named by that channel's creation."""
        created_ms = parse_time_ms(snapshot.creationtime)
        if created_ms is None:
            self.report(Diagnostic(severity="warning", reason="malformed-creationtime", detail=snapshot.creationtime))
            created_ms = at_ms
        key = CallKey(snapshot.creationtime, channel.id)
        if key in self.calls:
            return None
        origin = self.origin_of(snapshot)
        call = Call(
            key=key,
            guid=derive_guid(self.writer.server, key, created_ms),
            created_ms=created_ms,
            channel=snapshot.name,
            origin=origin,
            dialed=dialed,
            destiny=dialed,
            vhost=self.directory.vhost_of(origin) or self.directory.vhost_of(dialed),
            anchor=channel.id,
            members=(channel.id,),
            has_gap=not channel.fully_seen,
        )
        self.add(call)
        self.attach(channel, call)
        return call

    def add(self, call: Call) -> None:
        """Follow a call."""
        self.calls[call.key] = self.calls_by_guid[call.guid] = call

    def ring(self, call: Call, at_ms: int, message_ms: int | None = None) -> None:
        """Something is being rung: the web system hears of the call."""
        if not self._apply(call, "ring"):
            return
        call.opened_ms = at_ms
        if self.directory.type_of(call.dialed) == RING_GROUP_TYPE:
            call.ring_group = call.dialed
        self.number(call)
        self._tell(call, messages.OPEN, at_ms if message_ms is None else message_ms)

    def answer(self, call: Call, party: Channel | None, answered_ms: int, message_ms: int) -> None:
        """A called phone answered and is connected; no party: the dialplan itself answered (an AI entry)."""
        if not self._apply(call, "answer"):
            return
        call.answered_ms = answered_ms
        call.dial_status = "ANSWER"
        if party is not None:
            call.extra_channel = party.name
            self.talk(call, party)
        self._tell(call, messages.ONCALL, message_ms)

    def talk(self, call: Call, party: Channel) -> None:
        """From now on the origin's side talks with this party."""
        call.party = party.id
        call.destiny = self.party_of(party)
        if self.unseen:
            call.has_gap = True

    def transfer(self, call: Call, made: Transfer) -> None:
        """Note a transfer."""
        call.transfers = (*call.transfers, made)
        if not call.ring_group and self.directory.type_of(made.to) == RING_GROUP_TYPE:
            call.ring_group = made.to
        self.update(call, "transferred", made.at_ms)

    def end(self, call: Call, at_ms: int) -> None:
        """The last channel that talked in it ended, or a transfer joined it to another call."""
        published = call.is_published
        if self._apply(call, "hang_up"):
            if published:
                self._tell(call, messages.CLOSED if call.state == CLOSED else messages.UNANSWERED, at_ms, at_ms)
            self._forget(call, at_ms)

    def absorb(self, call: Call, at_ms: int) -> None:
        """It was never a call of its own: its channel is a leg of another one."""
        if self._apply(call, "absorb"):
            self._forget(call, at_ms)

    def lose(self, call: Call, lost_ms: int, at_ms: int) -> None:
        """Asterisk no longer knows it: it ended between the two instants, and nobody saw how."""
        published = call.is_published
        if not self._apply(call, "lose"):
            return
        if published and self._apply(call, "recover"):
            self._tell(call, messages.FORCECLOSE, at_ms, max(lost_ms, call.answered_ms))
        self._forget(call, at_ms)

    def _forget(self, call: Call, at_ms: int) -> None:
        self.statistics.calls[call.state] += 1
        self.history.add(call, at_ms)
        del self.calls[call.key], self.calls_by_guid[call.guid]

    def _apply(self, call: Call, event: str) -> bool:
        before = call.state
        if call.apply(event):
            if self.unseen:
                call.has_gap = True
            return True
        detail = f"{event} while {before}"
        self.report(Diagnostic(severity="warning", reason="illegal-transition", detail=detail, call_id=call.guid))
        return False

    # -- what belongs to a call --------------------------------------------------------------------------------

    def attach(self, channel: Channel, call: Call) -> None:
        """A channel belongs to a call, with the digits and recordings that it brings."""
        if channel.call is call:
            return
        channel.call = call
        if self.unseen:
            call.has_gap = True
        call.keys += channel.keys
        channel.keys = ()
        for path in channel.recordings:
            self._add_recording(channel, call, path)

    def join(self, channel: Channel, call: Call) -> None:
        """A channel talks in a call: the call lasts until it has ended."""
        self.attach(channel, call)
        if channel.id not in call.members:
            call.members = (*call.members, channel.id)

    def press(self, channel: Channel, key: Key) -> None:
        """A digit was pressed; it waits with its channel until that has a call."""
        call = live_call(channel)
        if call is None:
            channel.keys = (*channel.keys, key)
        else:
            call.keys = (*call.keys, key)

    def record(self, channel: Channel, path: str) -> None:
        """A channel announced a recording."""
        if path in channel.recordings:
            return
        channel.recordings = (*channel.recordings, path)
        call = live_call(channel)
        if call is not None:
            self._add_recording(channel, call, path)

    def _add_recording(self, channel: Channel, call: Call, path: str) -> None:
        if all(known.path != path for known in call.recordings):
            if self.unseen:
                call.has_gap = True
            own = not channel.is_local or channel.id == call.key.channel_id
            call.recordings = (*call.recordings, Recording(path, own))

    def drop_member(self, channel: Channel, call: Call, at_ms: int) -> None:
        """A channel that belongs to the call is gone."""
        if channel.id not in call.members:
            return
        call.members = without(call.members, channel.id)
        if not call.members:
            self.end(call, at_ms)
        elif call.anchor == channel.id:
            self.speak_for(call, call.members[0])

    def speak_for(self, call: Call, channel_id: str) -> None:
        """Another channel stands on the origin's side from now on."""
        call.anchor = channel_id
        if call.party == channel_id:
            call.party = ""
