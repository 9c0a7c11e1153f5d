"""Which channel belongs to which call: dialing says who is rung, talking says who answered.

The rules are facts of Asterisk, found on real traffic (docs/architecture.md, "Correlation"):

* A Dial event ties a called leg to its caller; through Local pairs up to the caller at the root.
* Who answered is the other real channel in the caller's component, never what a variable says: that covers groups
  through Local channels, redirects, pickups and queues at once. The answer's time is that of Dial ANSWER.
* While the caller's side is alive, a component without it is a consultation and changes nothing.
* Events of different channels arrive out of order: nothing here waits for a certain order.
"""

from __future__ import annotations

from typing import Final

from arimonitor_core.ari_events import (
    BornChannel,
    BridgeSnapshot,
    ChannelCreated,
    ChannelDestroyed,
    ChannelDtmfReceived,
    ChannelEnteredBridge,
    ChannelHold,
    ChannelLeftBridge,
    ChannelSnapshot,
    ChannelStateChange,
    ChannelUnhold,
    Dial,
    RecordingVarset,
)
from arimonitor_core.call import Call, Channel, Key
from arimonitor_core.call_states import ANNOUNCED, ANSWERED, RINGING
from arimonitor_core.calls import CallBook
from arimonitor_core.channels import live_call
from arimonitor_core.effects import Diagnostic
from arimonitor_core.values import dialed_number, endpoint_of_channel, is_dialable, is_number, parse_time_ms

SPOOL_FAILED: Final = "OutgoingSpoolFailed"
UNFINISHED_DIALING: Final = frozenset({"", "RINGING", "PROGRESS", "PROCEEDING", "ANSWER"})
"""Dial statuses of a leg that may still be talked with; every other one ended its dialing."""


def see(book: CallBook, snapshot: ChannelSnapshot, at_ms: int) -> Channel | None:
    """The channel of a snapshot, with what any snapshot may show in passing: a recording, an AI entry."""
    channel = book.table.channels.get(snapshot.id)
    if channel is None or channel.name != snapshot.name or not channel.exten:
        channel = book.table.see(snapshot)
        if channel is None:
            return None
    variables = snapshot.channelvars
    if variables is not None and variables.recording and variables.recording not in channel.recordings:
        book.record(channel, variables.recording)
    if channel.call is None and snapshot.dialplan.exten in book.directory.ai_entries:
        _enter_ai(book, snapshot, channel, at_ms)
    return channel


def _enter_ai(book: CallBook, snapshot: ChannelSnapshot, channel: Channel, at_ms: int) -> None:
    """An originated leg of our own that was sent to an AI entry makes a call of it, when its snapshot shows that first.

    A leg that somebody dials shows its caller's extension as well: it is no caller.
    """
    called = channel.dialer or snapshot.dialplan.app_name.startswith("App")
    if snapshot.state == "Up" and not called and endpoint_of_channel(snapshot.name) in book.directory.endpoints:
        call = book.begin(snapshot, channel, snapshot.dialplan.exten, at_ms)
        if call is not None:
            # Where nobody saw it enter: most are callers who dialed the entry, which answers at once.
            entered_ms = at_ms if channel.fully_seen else call.created_ms
            book.ring(call, entered_ms, at_ms)
            book.answer(call, None, entered_ms, at_ms)


def refusal(snapshot: BornChannel) -> str:
    """Why a created channel begins no call (requirement A2); empty: it does."""
    if SPOOL_FAILED in (snapshot.dialplan.exten, snapshot.dialplan.context) or snapshot.name.startswith(SPOOL_FAILED):
        return "refused-spool-failed"
    if not is_dialable(snapshot.dialplan.exten):
        return "refused-exten-s" if snapshot.dialplan.exten == "s" else "refused-exten"
    if not snapshot.caller.number:
        return "refused-no-caller"
    return ""


def on_created(book: CallBook, event: ChannelCreated, at_ms: int) -> Call | None:
    """A call may be born. It stays untold until something is rung, but an AI entry is trusted. Returns it."""
    snapshot = event.channel
    channel = see(book, snapshot, at_ms)
    if channel is None:
        return None
    channel.fully_seen = True
    if channel.call is not None or channel.dialer:
        return None
    reason = refusal(snapshot) or ("refused-local" if channel.is_local else "")
    if reason:
        book.statistics.diagnostics[reason] += 1
        return None
    call = book.begin(snapshot, channel, snapshot.dialplan.exten, at_ms)
    if call is not None and call.dialed in book.directory.ai_entries:
        book.ring(call, at_ms)
    return call


def on_destroyed(book: CallBook, event: ChannelDestroyed, at_ms: int) -> None:
    """A channel is gone; with the last one that talked in it a call ends."""
    channel = see(book, event.channel, at_ms)
    if channel is None:
        return
    call = live_call(channel)
    book.table.remove(channel)
    if call is None:
        return
    if channel.id == call.anchor:
        call.cause = event.cause if 0 <= event.cause < 1000 else 0
        call.cause_text = event.cause_txt
    book.drop_member(channel, call, at_ms)


def on_state_change(book: CallBook, event: ChannelStateChange, at_ms: int) -> None:
    """`Up` of a caller means nothing, except where the dialplan itself is the party that answers."""
    channel = see(book, event.channel, at_ms)
    call = live_call(channel) if channel is not None else None
    if call is not None and call.anchor == event.channel.id:
        answer_ai(book, call, event.channel, at_ms)


def answer_ai(book: CallBook, call: Call, caller: ChannelSnapshot, at_ms: int) -> None:
    """An AI entry has answered when the caller's channel is `Up`; where nobody saw that, at once."""
    if caller.state == "Up" and call.state == RINGING and call.dialed in book.directory.ai_entries:
        book.answer(call, None, call.opened_ms if book.unseen else at_ms, at_ms)


def on_hold(book: CallBook, event: ChannelHold, at_ms: int) -> None:
    """A phone put the other side on hold."""
    _update(book, event.channel, "held", at_ms)


def on_unhold(book: CallBook, event: ChannelUnhold, at_ms: int) -> None:
    """A phone took the other side back."""
    _update(book, event.channel, "resumed", at_ms)


def _update(book: CallBook, snapshot: ChannelSnapshot, update: str, at_ms: int) -> None:
    channel = see(book, snapshot, at_ms)
    call = live_call(channel) if channel is not None else None
    if call is not None:
        book.update(call, update, at_ms)


def on_dtmf(book: CallBook, event: ChannelDtmfReceived, at_ms: int) -> None:
    """A digit; Asterisk 16 may send one twice, and nothing tells a copy from a key pressed twice."""
    channel = see(book, event.channel, at_ms)
    if channel is None or channel.is_local:
        return  # a Local half only carries the digits of the phone behind it
    if len(event.digit) != 1:
        book.report(Diagnostic(severity="warning", reason="malformed-digit", detail=event.digit[:40]))
        return
    book.press(channel, Key(at_ms, event.digit, book.origin_of(event.channel)))


def on_recording(book: CallBook, event: RecordingVarset, at_ms: int) -> None:
    """A channel announced a recording; one without a channel was set for all of Asterisk."""
    channel = see(book, event.channel, at_ms) if event.channel is not None else None
    if channel is not None and event.value:
        book.record(channel, event.value)


def on_dial(book: CallBook, event: Dial, at_ms: int) -> None:
    """A leg is dialed, rings, answers or ends its dialing."""
    peer = see(book, event.peer, at_ms)
    if peer is not None and event.dialstatus == "ANSWER" and not peer.answered_ms:
        peer.answered_ms = at_ms
    if event.caller is None:
        return
    caller = see(book, event.caller, at_ms)
    if caller is None:
        return
    if peer is not None:
        _tie(book, caller, peer, event, at_ms)
    forwarded = see(book, event.forwarded, at_ms) if event.forwarded is not None else None
    if forwarded is not None and not forwarded.dialer:
        forwarded.dialer = caller.id
    _advance(book, event, event.caller, caller, peer, at_ms)


def _advance(
    book: CallBook, event: Dial, shown: ChannelSnapshot, caller: Channel, peer: Channel | None, at_ms: int
) -> None:
    """What does the dialing make of the call that it is done for?"""
    root, call = book.table.find_calling(caller)
    if event.dialstatus not in UNFINISHED_DIALING:
        if call is not None and call.state == RINGING:
            call.dial_status = event.dialstatus
    elif peer is not None:
        # A Local half whose root is not known dials for an originate or a consultation: that is no call.
        if call is None and (root is caller or not caller.is_local) and not caller.name.endswith(";2"):
            call = _begin_at_dial(book, shown, caller, peer, at_ms)
        if call is not None and call.state == ANNOUNCED:
            book.ring(call, at_ms)


def _begin_at_dial(book: CallBook, shown: ChannelSnapshot, caller: Channel, peer: Channel, at_ms: int) -> Call | None:
    """An outgoing leg that dials somebody itself (click-to-call) is a caller from now on."""
    exten = shown.dialplan.exten
    dialed = exten if is_dialable(exten) else caller.exten or peer.dialed or book.party_of(peer)
    return book.begin(shown, caller, dialed, at_ms)


def _tie(book: CallBook, caller: Channel, peer: Channel, event: Dial, at_ms: int) -> None:
    """The peer is a leg of the caller's; if it was taken for a caller itself (pickup), it was none."""
    if event.dialstring and not peer.dialed:
        peer.dialed = dialed_number(event.dialstring)
    if caller is peer:
        return
    peer.dialer = caller.id
    own = live_call(peer)
    if own is not None and own.state == ANNOUNCED and own is not live_call(caller):
        book.absorb(own, at_ms)


def on_entered(book: CallBook, event: ChannelEnteredBridge, at_ms: int) -> None:
    """Somebody can be heard by others now."""
    channel = see(book, event.channel, at_ms)
    if channel is not None and not event.bridge.is_waiting_room:
        book.table.enter(channel, event.bridge.id)
        consider(book, channel, at_ms)


def on_left(book: CallBook, event: ChannelLeftBridge, at_ms: int) -> None:
    """Leaving by itself changes no call: a channel ends, or enters another bridge."""
    channel = see(book, event.channel, at_ms)
    if channel is not None:
        if not channel.bridge:
            _talked_unseen(book, channel, event.bridge, at_ms)
        book.table.leave(channel, event.bridge.id)


def _talked_unseen(book: CallBook, channel: Channel, bridge: BridgeSnapshot, at_ms: int) -> None:
    """Right after a gap: a conversation ended between Asterisk's list of channels and that of bridges.

    Neither list shows it, but whom the one leaves behind is said when he leaves.
    """
    others = [book.table.channels[one] for one in bridge.channels if one in book.table.channels]
    calls = [live_call(one) for one in (channel, *others)]
    if bridge.is_waiting_room or not others or not any(call is not None and call.has_gap for call in calls):
        return
    for one in (*others, channel):
        book.table.enter(one, bridge.id)
    book.unseen = True
    consider(book, channel, parse_time_ms(bridge.creationtime) or at_ms, at_ms)
    book.unseen = False


def consider(book: CallBook, channel: Channel, at_ms: int, message_ms: int | None = None) -> None:
    """Who talks with whom in this channel's component, and what does that make of their calls?

    `at_ms` is when they were joined: the answer's time for a party whose Dial ANSWER nobody saw. `message_ms` is the
    time of the messages; None: that of what happened.
    """
    component = book.table.component(channel)
    if len(component) == 1:
        return
    calls: list[Call] = []
    for member in component:
        call = live_call(member)
        if call is not None and call not in calls:
            calls.append(call)
    if len(calls) > 1:
        calls = _absorb_untold(book, calls, at_ms)
    for call in calls:
        anchor = book.table.channels.get(call.anchor)
        if anchor is None or not call.is_published:
            continue
        if anchor in component:
            _connect(book, call, anchor, component, at_ms, message_ms)
        else:
            _consult(book, call, component)


def _absorb_untold(book: CallBook, calls: list[Call], at_ms: int) -> list[Call]:
    """Callers that nobody was told of and that talk in a published call are parties of that one."""
    published = [call for call in calls if call.is_published]
    if published:
        for call in calls:
            if not call.is_published:
                book.absorb(call, at_ms)
    return published


def _connect(
    book: CallBook, call: Call, anchor: Channel, component: list[Channel], at_ms: int, message_ms: int | None
) -> None:
    """The origin's side is connected with somebody."""
    if anchor.is_local:
        anchor = _own_side(book, call, anchor, component)
    parties = []
    for member in component:
        if member is anchor or live_call(member) not in (None, call):
            continue
        if member.is_local:
            _note_consultation(call, member)
            book.attach(member, call)
        else:
            book.join(member, call)
            parties.append(member)
    if not parties:
        return
    party = next((member for member in parties if member.id == call.party), None)
    if party is None:
        party = max(parties, key=lambda member: member.answered_ms)
    if call.state == RINGING:
        answered_ms = party.answered_ms or at_ms
        book.answer(call, party, answered_ms, answered_ms if message_ms is None else message_ms)
    elif call.state == ANSWERED and call.party != party.id:
        book.talk(call, party)


def _own_side(book: CallBook, call: Call, anchor: Channel, component: list[Channel]) -> Channel:
    """A call that a Local half makes (click-to-call): its own phone is the one that the other half dialed.

    Where nobody saw the dialing, it is the one that the other half talks with.
    """
    half = book.table.find_other_half(anchor)
    for member in component:
        if half is None or member.is_local:
            continue
        if member.dialer == half.id or (not member.dialer and member.bridge == half.bridge):
            book.join(member, call)
            call.anchor = member.id
            return member
    return anchor


def _consult(book: CallBook, call: Call, component: list[Channel]) -> None:
    """Somebody of the call talks aside: that is part of the call, but who is consulted is no party of it yet."""
    for member in component:
        if live_call(member) is None:
            _note_consultation(call, member)
            book.attach(member, call)


def _note_consultation(call: Call, half: Channel) -> None:
    """Somebody of an answered call entered a bridge with a Local half: its name holds whom he consults."""
    if call.state == ANSWERED and half.call is not call:
        call.consulted = consulted_number(half) or call.consulted


def consulted_number(half: Channel) -> str:
    """The number of a consultation stands only in the name of the Local `;1` that nobody dialed; else empty."""
    if not half.is_local or half.dialer or not half.name.endswith("1"):
        return ""
    number = endpoint_of_channel(half.name)
    return number if is_number(number) else ""
