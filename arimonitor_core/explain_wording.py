"""What Asterisk said and what became of a call because of it, as English sentences. Pure functions on typed events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from arimonitor_core import ari_events as ari
from arimonitor_core.effects import Diagnostic, Effect, PublishMessage
from arimonitor_core.values import seconds

Facts = Mapping[str, Any]
"""A call's fields by name, at one moment."""
NameOf = Callable[[str], str]
"""A channel's name by its id; the id itself where it is unknown."""

_DIAL_WORDS: Final = {
    "RINGING": "{peer} rings, dialed by {caller}.",
    "PROGRESS": "{peer} sends tones or an announcement to {caller}.",
    "PROCEEDING": "{peer} is being looked for on behalf of {caller}.",
    "ANSWER": "{peer}, dialed by {caller}, answered.",
}

_CHANNEL_WORDS: Final[Mapping[type, str]] = {
    ari.ChannelDestroyed: "{event.channel.name} is gone: cause {event.cause}, {event.cause_txt}.",
    ari.ChannelStateChange: "{event.channel.name} is now {event.channel.state}.",
    ari.ChannelHangupRequest: "{event.channel.name} hangs up, or is told to.",
    ari.ChannelDtmfReceived: "{event.channel.name} pressed {event.digit}.",
    ari.ChannelHold: "{event.channel.name} put the other side on hold.",
    ari.ChannelUnhold: "{event.channel.name} took the other side back from hold.",
    ari.ChannelLeftBridge: "{event.channel.name} left a bridge.",
}


def mentioned(event: object) -> list[ari.ChannelSnapshot]:
    """The channels that an event speaks of, in the order of its fields; may be empty."""
    if not isinstance(event, msgspec.Struct):
        return []
    values = (getattr(event, name) for name in event.__struct_fields__)
    return [value for value in values if isinstance(value, ari.ChannelSnapshot)]


def describe_event(event: object, name_of: NameOf) -> str:
    """Say what Asterisk reported, in one sentence; empty for an event that speaks of no channel."""
    match event:
        case ari.ChannelCreated():
            return _describe_creation(event.channel)
        case ari.RecordingVarset() if event.channel is not None:
            return f"{event.channel.name} announced the recording {event.value or '(no name)'}."
        case ari.Dial():
            return _describe_dial(event)
        case ari.ChannelEnteredBridge():
            return f"{event.channel.name} entered a bridge, {_company(event, name_of)}."
        case ari.BridgeBlindTransfer() | ari.BridgeAttendedTransfer():
            return _describe_transfer(event)
    return _CHANNEL_WORDS.get(type(event), "").format(event=event)


def _describe_creation(channel: ari.BornChannel) -> str:
    place = f"extension {channel.dialplan.exten or '(none)'} of context {channel.dialplan.context or '(none)'}"
    return f"{channel.name} was created with caller id {channel.caller.number or '(none)'}, at {place}."


def _describe_dial(event: ari.Dial) -> str:
    caller = event.caller.name if event.caller is not None else "no channel"
    peer = event.peer.name
    if event.forwarded is not None:
        return f"{peer}, dialed by {caller}, forwards to {event.forwarded.name}."
    if not event.dialstatus:
        what = f" ({event.dialstring})" if event.dialstring else ""
        return f"{caller} dials {peer}{what}."
    words = _DIAL_WORDS.get(event.dialstatus)
    if words is not None:
        return words.format(peer=peer, caller=caller)
    return f"The dialing of {peer} by {caller} ended: {event.dialstatus}."


def _company(event: ari.ChannelEnteredBridge, name_of: NameOf) -> str:
    others = [name_of(one) for one in event.bridge.channels if one != event.channel.id]
    return f"with {_listed(others)}" if others else "alone so far"


def _describe_transfer(event: ari.BridgeBlindTransfer | ari.BridgeAttendedTransfer) -> str:
    result = "" if event.result == "Success" else f" That failed: {event.result or 'no result given'}."
    sent = event.transferee.name if event.transferee is not None else "the other side"
    if isinstance(event, ari.BridgeBlindTransfer):
        return f"{event.channel.name} sent {sent} to extension {event.exten or '(none)'}, a blind transfer.{result}"
    # With a feature code the transferer has but one channel, which is both legs.
    legs = _listed(list(dict.fromkeys((event.transferer_first_leg.name, event.transferer_second_leg.name))))
    target = event.transfer_target.name if event.transfer_target is not None else "the other side"
    return f"{legs} left {sent} and {target} to each other, an attended transfer.{result}"


def describe_birth(facts: Facts) -> str:
    """Say how a call begins."""
    vhost = facts["vhost"] or "none, no number of it belongs to a client"
    return f"The call begins: origin {facts['origin']}, dialed {facts['dialed']}, vhost {vhost}."


def describe_changes(before: Facts, after: Facts, event: object, name_of: NameOf) -> Iterator[str]:
    """Say what became of a call by one input, each change with its reason."""
    for made in after["transfers"][len(before["transfers"]) :]:
        article = "An" if made.kind == "attended" else "A"
        yield f"{article} {made.kind} transfer by {made.by} to {made.to or '(no number)'} is noted."
    if before["state"] != after["state"]:
        yield _describe_state(before, after, event)
    yield from _describe_parties(before, after, name_of)
    yield from _describe_notes(before, after)


def _describe_state(before: Facts, after: Facts, event: object) -> str:
    match after["state"]:
        case "ringing" if isinstance(event, ari.Dial):
            reason = "a leg was dialed for it, so it really rings somebody"
        case "ringing":
            reason = "an entry of the AI is trusted, or Asterisk shows that somebody was dialed"
        case "answered" if after["extra_channel"]:
            waited_s = (after["answered_ms"] - after["opened_ms"]) / 1000
            phone = after["extra_channel"]
            reason = f"{phone} answered {waited_s:.3f} s after the first leg was dialed, and is connected"
        case "answered":
            reason = "the entry of the AI answered: the caller's channel is up"
        case "discarded" if not isinstance(event, ari.ChannelDestroyed | None):
            reason = "its channel is a leg of another call, not a caller"
        case "discarded":
            reason = "it ended before anything was rung, so nobody is told of it"
        case "recovered":
            reason = "after the gap Asterisk no longer knows any channel of it"
        case _ if after["linked_guid"]:
            reason = "a transfer joined it to another call"
        case "unanswered":
            reason = "its last channel ended before anybody answered"
        case _:
            reason = "the last channel that talked in it is gone"
    return f"From {before['state']} to {after['state']}: {reason}."


def _describe_parties(before: Facts, after: Facts, name_of: NameOf) -> Iterator[str]:
    if before["destiny"] != after["destiny"]:
        yield f"The destiny is {after['destiny']} from now on; it was {before['destiny']}."
    if before["anchor"] != after["anchor"]:
        yield f"{name_of(after['anchor'])} stands on the origin's side from now on."
    for joined in (one for one in after["members"] if one not in before["members"]):
        yield f"{name_of(joined)} talks in the call: it lasts until that has ended."
    gone = [name_of(one) for one in before["members"] if one not in after["members"]]
    if gone and after["members"]:
        yield f"{_listed(gone)} left; the call goes on with {_listed([name_of(one) for one in after['members']])}."
    if after["consulted"] and before["consulted"] != after["consulted"]:
        yield f"{after['consulted']} is being consulted."


def _describe_notes(before: Facts, after: Facts) -> Iterator[str]:
    if before["callnumber"] != after["callnumber"]:
        instead = f" in place of {before['callnumber']}" if before["callnumber"] else ""
        yield f"It gets callnumber {after['callnumber']}{instead}."
    if not before["ring_group"] and after["ring_group"]:
        yield f"{after['ring_group']} is a ring group."
    for key in after["keys"][len(before["keys"]) :]:
        yield f"Digit {key.digit} by {key.by} is noted."
    for recording in after["recordings"][len(before["recordings"]) :]:
        which = "" if recording.own else ", of a consultation or a forward,"
        yield f"The recording {recording.path}{which} is noted."
    if before["dial_status"] != after["dial_status"]:
        yield f"Its dial status is {after['dial_status']}."
    if before["cause"] != after["cause"]:
        yield f"Its hangup cause is {after['cause']}, {after['cause_text'] or 'without a text'}."
    if after["has_gap"] and not before["has_gap"]:
        yield "Part of it passed unseen: what is told of it may be incomplete from now on."
    if before["linked_guid"] != after["linked_guid"]:
        yield f"It goes on as call {after['linked_guid']}."
    for endpoint in after["pushed"][len(before["pushed"]) :]:
        yield f"{endpoint} is offline as far as anybody knows: its app is woken."


def describe_effects(effects: Iterable[Effect], guid: str) -> Iterator[str]:
    """Say what was published or complained of that belongs to a call."""
    for effect in effects:
        if isinstance(effect, PublishMessage) and effect.ordering_key == guid:
            yield f"Published to vhost {effect.vhost or '(none)'}: {effect.routing_key}."
        elif isinstance(effect, Diagnostic) and effect.call_id == guid:
            yield f"Complaint: {' '.join(filter(None, (effect.reason, effect.detail)))}."


def describe_outcome(facts: Facts) -> str:
    """Say in one sentence what the call is, or was."""
    number = f"Call {facts['callnumber']}" if facts["callnumber"] else "A call without a number"
    text = f"{number}: {facts['origin']} dialed {facts['dialed']}"
    if facts["answered_ms"]:
        waited = seconds(facts["answered_ms"] - facts["opened_ms"])
        text += f", answered after {waited} s, in the end with {facts['destiny']}"
    return f"{text}; {facts['state']}."


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
