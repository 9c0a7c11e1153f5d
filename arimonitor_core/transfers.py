"""Blind and attended transfers: who leaves, who stays, and which call goes on."""

from __future__ import annotations

from typing import Final

from arimonitor_core.ari_events import BridgeAttendedTransfer, BridgeBlindTransfer, ChannelSnapshot
from arimonitor_core.call import Call, Channel, Transfer
from arimonitor_core.calls import CallBook
from arimonitor_core.channels import live_call
from arimonitor_core.correlation import consider, consulted_number, see

SUCCESS: Final = "Success"


def on_blind(book: CallBook, event: BridgeBlindTransfer, at_ms: int) -> Call | None:
    """Somebody sent the other side to an extension; listed when it is made, answered or not. Returns the call."""
    transferer = see(book, event.channel, at_ms)
    transferee = see(book, event.transferee, at_ms) if event.transferee is not None else None
    call = _call_of(transferer, transferee)
    if call is None or event.result != SUCCESS:
        book.statistics.diagnostics["transfer-ignored"] += 1
        return None
    by = book.origin_of(event.channel)
    if _is_repeat(call, "blind", by, at_ms):
        return None
    if event.replace_channel is not None:
        surrogate = see(book, event.replace_channel, at_ms)
        if surrogate is not None and live_call(surrogate) is None:
            book.attach(surrogate, call)
    book.transfer(call, Transfer("blind", by, event.exten, at_ms))
    _hand_over(book, call, event.channel, transferee, at_ms)
    return call


def on_attended(book: CallBook, event: BridgeAttendedTransfer, at_ms: int) -> None:
    """Somebody joined the two sides that he talked with: the call of his first leg goes on. Nobody is dialed by it."""
    first, second = see(book, event.transferer_first_leg, at_ms), see(book, event.transferer_second_leg, at_ms)
    transferee = see(book, event.transferee, at_ms) if event.transferee is not None else None
    target = see(book, event.transfer_target, at_ms) if event.transfer_target is not None else None
    call = _call_of(first, transferee)
    if call is None or event.result != SUCCESS:
        book.statistics.diagnostics["transfer-ignored"] += 1
        return
    by = book.origin_of(event.transferer_first_leg)
    if _is_repeat(call, "attended", by, at_ms):
        return
    other = _call_of(second, target)
    if other is call:
        other = None
    to = _number_dialed(book, call, other, event, transferee, target)
    made = Transfer("attended", by, to, at_ms)
    if other is not None:
        merge(book, call, other, event.transferer_second_leg.id, at_ms)
    call.consulted = ""
    _hand_over(book, call, event.transferer_first_leg, transferee, at_ms)
    anchor = book.table.channels.get(call.anchor)
    if anchor is not None:
        consider(book, anchor, at_ms)
    book.transfer(call, made)  # last, so that an update names who talks now


def _call_of(*channels: Channel | None) -> Call | None:
    """The first published call among those of the channels."""
    for channel in channels:
        call = live_call(channel) if channel is not None else None
        if call is not None and call.is_published:
            return call
    return None


def _is_repeat(call: Call, kind: str, by: str, at_ms: int) -> bool:
    """Is that transfer listed already? The same event delivered twice is one transfer."""
    return any((made.kind, made.by, made.at_ms) == (kind, by, at_ms) for made in call.transfers)


def _hand_over(book: CallBook, call: Call, transferer: ChannelSnapshot, transferee: Channel | None, at_ms: int) -> None:
    """If the origin's side transferred, whom it leaves behind speaks for it from now on."""
    if call.anchor != transferer.id:
        return
    if transferee is not None and not transferee.is_local:
        own = live_call(transferee)
        if own is not None and own is not call:  # taken for a caller at a reconnect that the transfer's events overtook
            merge(book, call, own, "", at_ms)
        book.join(transferee, call)
        book.speak_for(call, transferee.id)
        return
    left = [member for member in call.members if member != transferer.id]
    if left:
        book.speak_for(call, left[0])


def _number_dialed(
    book: CallBook,
    call: Call,
    other: Call | None,
    event: BridgeAttendedTransfer,
    transferee: Channel | None,
    target: Channel | None,
) -> str:
    """The number that was dialed for an attended transfer."""
    if other is not None:
        second = event.transferer_second_leg.id
        return other.dialed if second in (other.key.channel_id, other.anchor) else other.origin
    if call.consulted:
        return call.consulted
    seen = [channel for channel in (target, transferee) if channel is not None]
    for channel in seen:
        for member in book.table.component(channel):
            number = consulted_number(member)
            if number:
                return number
    return book.party_of(target) if target is not None else ""


def merge(book: CallBook, call: Call, other: Call, second_leg: str, at_ms: int) -> None:
    """The other call ends here; who talked in it talks in this one from now on."""
    members = [book.table.channels.get(member) for member in other.members if member != second_leg]
    other.linked_guid = call.guid
    book.end(other, at_ms)
    for member in members:
        if member is not None:
            book.join(member, call)
