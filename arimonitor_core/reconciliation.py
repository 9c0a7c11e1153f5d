"""After a (re)connect: what Asterisk shows now against what was known, as one input.

Calls of which no channel is left ended unseen; calls that live are caught up with (who talks with whom is asked of
the bridges, whose creation tells when an unseen answer was); calls that began meanwhile are adopted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from arimonitor_core.ari_answers import Answers, ListedChannel
from arimonitor_core.ari_events import BridgeSnapshot
from arimonitor_core.call import Call, Channel
from arimonitor_core.call_states import ANNOUNCED
from arimonitor_core.calls import CallBook
from arimonitor_core.channels import live_call
from arimonitor_core.correlation import answer_ai, consider, refusal, see
from arimonitor_core.transfers import merge
from arimonitor_core.values import dialed_number, is_dialable, is_local_half, parse_time_ms, without

CALLING_APPLICATIONS: Final = frozenset({"Dial", "Queue", "FollowMe"})
"""Applications that ring somebody on behalf of the channel that runs them."""
CALLED_APPLICATIONS: Final = frozenset({"AppDial", "AppDial2", "AppQueue"})
"""What Asterisk shows as the application of a leg that is rung."""


def reconcile(book: CallBook, answers: Answers, *, restarted: bool, lost_ms: int | None, at_ms: int) -> list[Call]:
    """Bring the calls up to what Asterisk shows.

    `restarted`: it is another Asterisk process than before, so whatever was known is dead. `lost_ms` is when the
    connection went down, None where it did not as far as anybody knows; `at_ms` is now, and the time of all messages.
    Returns the calls that were adopted and that nothing rings yet: they may need a push.
    """
    if lost_ms is not None:
        for call in book.calls.values():
            call.has_gap = True
        for channel in book.table.channels.values():
            channel.fully_seen = False
    ended_ms = at_ms if lost_ms is None else lost_ms
    book.unseen = True
    channels = answers.channels
    bridges = [bridge for bridge in answers.bridges if not bridge.is_waiting_room]
    if restarted:
        _bury_all(book, ended_ms, at_ms)
    elif answers.is_complete:
        _bury_missing(book, channels, ended_ms, at_ms)
    for snapshot in channels:
        listed = see(book, snapshot, at_ms)
        if listed is not None and not listed.dialed and snapshot.dialplan.app_name in CALLED_APPLICATIONS:
            # Nobody saw it being dialed; a leg's own number is what was dialed, a trunk's too.
            listed.dialed = dialed_number(snapshot.caller.number)
    _replace_bridges(book, bridges)
    untold = _adopt(book, channels, at_ms)
    _catch_up(book, channels, bridges, at_ms)
    book.unseen = False
    return untold


def _bury_all(book: CallBook, ended_ms: int, at_ms: int) -> None:
    """Asterisk began anew: no event of what was before can come, and its ids are free."""
    book.table.clear()
    for call in list(book.calls.values()):
        book.lose(call, ended_ms, at_ms)


def _bury_missing(book: CallBook, channels: Sequence[ListedChannel], ended_ms: int, at_ms: int) -> None:
    heirs = _find_heirs(book, channels)
    present = {snapshot.id for snapshot in channels}
    missing = [channel for channel in book.table.channels.values() if channel.id not in present]
    shrunk: dict[str, Call] = {}
    for channel in missing:
        book.table.remove(channel)
        call = live_call(channel)
        if call is not None and channel.id in call.members:
            call.members = without(call.members, channel.id)
            call.has_gap = True
            shrunk[call.guid] = call
    for call in shrunk.values():
        heir = heirs.get(call.guid)
        if not call.members and heir is not None:
            book.join(heir, call)
        if not call.members:
            book.lose(call, ended_ms, at_ms)
        elif call.anchor not in call.members:
            book.speak_for(call, call.members[0])


def _find_heirs(book: CallBook, channels: Sequence[ListedChannel]) -> dict[str, Channel]:
    """By guid, the phone that goes on with a call of which nobody known is left: the caller transferred it unseen.

    It is one that was rung for the call and is up, or else the oldest stranger that is up and that Asterisk links to
    the call's caller. A link is not asked for more: a consultation, a pickup or a parked call shares one conversation
    under two of them.
    """
    rung: dict[str, Channel] = {}
    linked: dict[str, Channel] = {}
    called = {call.key.channel_id: call for call in book.calls.values()}
    for snapshot in sorted(channels, key=_age):
        leg = book.table.channels.get(snapshot.id)
        if snapshot.state != "Up" or is_local_half(snapshot.name):
            continue
        if leg is None:
            call = called.get(snapshot.channelvars.linkedid or "") if snapshot.channelvars is not None else None
            stranger = book.table.see(snapshot) if call is not None else None
            if call is not None and stranger is not None:
                linked.setdefault(call.guid, stranger)
        elif leg.dialer:
            call = book.table.find_calling(leg)[1]
            if call is not None:
                rung.setdefault(call.guid, leg)
    return linked | rung


def _age(snapshot: ListedChannel) -> tuple[bool, int, str]:
    """Sorts the oldest first, and those last that do not tell."""
    created_ms = parse_time_ms(snapshot.creationtime)
    return created_ms is None, created_ms or 0, snapshot.id


def _replace_bridges(book: CallBook, bridges: Iterable[BridgeSnapshot]) -> None:
    table = book.table
    table.bridges.clear()
    for channel in table.channels.values():
        channel.bridge = ""
    for bridge in bridges:
        for channel_id in bridge.channels:
            member = table.channels.get(channel_id)
            if member is not None:
                table.enter(member, bridge.id)


def _adopt(book: CallBook, channels: Sequence[ListedChannel], at_ms: int) -> list[Call]:
    """Calls that began, or began to ring, unseen. Their `open` is told now."""
    untold: list[Call] = []
    for caller in sorted(channels, key=_age):
        channel = book.table.channels.get(caller.id)
        if channel is None or channel.dialer or caller.dialplan.app_name in CALLED_APPLICATIONS:
            continue
        calls_somebody = caller.dialplan.app_name in CALLING_APPLICATIONS
        if channel.is_local and not (calls_somebody and channel.name.endswith("1")):
            continue  # of Local channels only an originated `;1` calls by itself (click-to-call)
        if channel.call is not None:
            if calls_somebody and channel.call.state == ANNOUNCED:
                book.ring(channel.call, _first_leg_ms(caller, channels), at_ms)
        elif calls_somebody or refusal(caller) == "":
            call = book.begin(caller, channel, _number_dialed(caller), at_ms)
            if call is None:
                continue
            if calls_somebody or call.dialed in book.directory.ai_entries:
                book.ring(call, call.created_ms, at_ms)
            else:
                untold.append(call)
    return untold


def _first_leg_ms(caller: ListedChannel, channels: Sequence[ListedChannel]) -> int:
    """When the first leg that rings for a caller was born; his own birth where none shows him as connected."""
    born = [
        parse_time_ms(leg.creationtime) or 0
        for leg in channels
        if leg.dialplan.app_name in CALLED_APPLICATIONS and leg.connected.number == caller.caller.number
    ]
    created_ms = parse_time_ms(caller.creationtime) or 0
    return min((leg_ms for leg_ms in born if leg_ms >= created_ms), default=created_ms)


def _number_dialed(caller: ListedChannel) -> str:
    """The number that an adopted caller dialed: where he is, else whom he is connected to or rings first."""
    if is_dialable(caller.dialplan.exten):
        return caller.dialplan.exten
    return dialed_number(caller.connected.number) or dialed_number(caller.dialplan.app_data.split("&")[0].split(",")[0])


def _catch_up(book: CallBook, channels: Sequence[ListedChannel], bridges: Iterable[BridgeSnapshot], at_ms: int) -> None:
    """Who talks with whom by now? Answers that nobody saw are as old as the bridge, through Local pairs the younger."""
    created_ms = {bridge.id: parse_time_ms(bridge.creationtime) or at_ms for bridge in bridges}
    for bridge in bridges:
        member = next((book.table.channels[one] for one in bridge.channels if one in book.table.channels), None)
        if member is not None:
            component = book.table.component(member)
            _join_calls(book, [live_call(channel) for channel in component], at_ms)
            joined_ms = max(created_ms.get(channel.bridge, 0) for channel in component)
            consider(book, member, joined_ms, at_ms)
    for snapshot in channels:
        channel = book.table.channels.get(snapshot.id)
        call = live_call(channel) if channel is not None else None
        if call is not None and call.anchor == snapshot.id:
            answer_ai(book, call, snapshot, at_ms)


def _join_calls(book: CallBook, calls: Iterable[Call | None], at_ms: int) -> None:
    """Two told calls in one conversation: a transfer joined them unseen; the older one goes on."""
    told = {call.guid: call for call in calls if call is not None and call.is_published}
    by_age = sorted(told.values(), key=lambda call: (call.created_ms, call.guid))
    for other in by_age[1:]:
        merge(book, by_age[0], other, "", at_ms)
