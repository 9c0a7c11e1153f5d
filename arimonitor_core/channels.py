"""All living channels and bridges, and the two relations over them that correlation needs.

*Dialing*: who dialed whom, up to the caller. *Talking*: the component of channels that bridges join, through Local
pairs. Everything is indexed by channel id; the only use of a name is to find the other half of a Local channel,
because no ARI event says which two halves belong together.
"""

from __future__ import annotations

from typing import Final

from arimonitor_core.ari_events import ChannelSnapshot
from arimonitor_core.call import Call, Channel
from arimonitor_core.call_states import FINAL_STATES
from arimonitor_core.values import is_dialable, is_local_half, other_half, without

_FINAL_STATES: Final = FINAL_STATES
GONE_LIMIT: Final = 4096
"""How many ids of destroyed channels are remembered: events that come late must not bring them back to life."""


def live_call(channel: Channel) -> Call | None:
    """The call that a channel belongs to, if that goes on."""
    call = channel.call
    return None if call is None or call.state in _FINAL_STATES else call


class ChannelTable:
    """Channels by id, bridges by id."""

    def __init__(self) -> None:
        self.channels: dict[str, Channel] = {}
        self.bridges: dict[str, tuple[str, ...]] = {}
        """Ids of the channels in each bridge, in order of entering."""
        self.gone: dict[str, None] = {}
        """Ids of destroyed channels, oldest first."""
        self.halves: dict[str, str] = {}
        """Ids of the living Local halves by name, the latest of those that share one."""

    def clear(self) -> None:
        """Forget everything, the dead too."""
        for table in (self.channels, self.bridges, self.gone, self.halves):
            table.clear()

    def see(self, snapshot: ChannelSnapshot) -> Channel | None:
        """The channel that a snapshot speaks of, new or known; None if it was destroyed already."""
        channel = self.channels.get(snapshot.id)
        if channel is None:
            if snapshot.id in self.gone:
                return None
            channel = Channel(snapshot.id, snapshot.name)
            self.channels[snapshot.id] = channel
            self._index_half(channel)
        elif channel.name != snapshot.name:
            self._rename(channel, snapshot.name)
        if not channel.exten and is_dialable(snapshot.dialplan.exten):
            channel.exten = snapshot.dialplan.exten
        return channel

    def _index_half(self, channel: Channel) -> None:
        channel.is_local = is_local_half(channel.name)
        if channel.is_local:
            self.halves[channel.name] = channel.id

    def _rename(self, channel: Channel, name: str) -> None:
        if self.halves.get(channel.name) == channel.id:
            del self.halves[channel.name]
        channel.name = name
        self._index_half(channel)

    def remove(self, channel: Channel) -> None:
        """A channel was destroyed."""
        self.leave(channel, channel.bridge)
        self.channels.pop(channel.id, None)
        if self.halves.get(channel.name) == channel.id:
            del self.halves[channel.name]
        self.bury(channel.id)

    def bury(self, channel_id: str) -> None:
        """Remember that an id is dead."""
        self.gone[channel_id] = None
        if len(self.gone) > GONE_LIMIT:
            del self.gone[next(iter(self.gone))]

    def enter(self, channel: Channel, bridge_id: str) -> None:
        """A channel is in a bridge now, whatever was said of it before."""
        if channel.bridge != bridge_id:
            self.leave(channel, channel.bridge)
            channel.bridge = bridge_id
            self.bridges[bridge_id] = (*self.bridges.get(bridge_id, ()), channel.id)

    def leave(self, channel: Channel, bridge_id: str) -> None:
        """A channel left a bridge; nothing happens if it is in another one by now."""
        if bridge_id and channel.bridge == bridge_id:
            channel.bridge = ""
            rest = without(self.bridges.get(bridge_id, ()), channel.id)
            if rest:
                self.bridges[bridge_id] = rest
            else:
                self.bridges.pop(bridge_id, None)

    def find_other_half(self, channel: Channel) -> Channel | None:
        """The other half of a Local channel, while it lives."""
        return self.channels.get(self.halves.get(other_half(channel.name), "")) if channel.is_local else None

    def component(self, channel: Channel) -> list[Channel]:
        """The channels joined with this one by bridges and by Local pairs whose two halves are both bridged."""
        found, known = [channel], {channel.id}
        for member in found:  # grows while it is read
            for channel_id in self.bridges.get(member.bridge, ()):
                if channel_id not in known and channel_id in self.channels:
                    known.add(channel_id)
                    found.append(self.channels[channel_id])
            if member.is_local and member.bridge:
                half = self.find_other_half(member)
                if half is not None and half.bridge and half.id not in known:
                    known.add(half.id)
                    found.append(half)
        return found

    def find_calling(self, channel: Channel) -> tuple[Channel, Call | None]:
        """Up the dialing relation: the channel at the root, and the call that it calls in, if any.

        A Local `;2` was dialed by whoever dialed its `;1`.
        """
        call = live_call(channel)
        if call is not None:
            return channel, call
        passed: set[str] = set()
        while channel.id not in passed:
            passed.add(channel.id)
            call = live_call(channel)
            if call is not None:
                return channel, call
            above = self.channels.get(channel.dialer)
            if above is None and channel.is_local and channel.name.endswith("2"):
                above = self.find_other_half(channel)
            if above is None:
                break
            channel = above
        return channel, None
