"""Living channels and bridges, who dialed whom, and who talks with whom."""

from __future__ import annotations

from arimonitor_core.ari_events import ChannelSnapshot, Dialplan
from arimonitor_core.call import Channel
from arimonitor_core.channels import GONE_LIMIT, ChannelTable


def see(table: ChannelTable, channel_id: str, name: str = "", exten: str = "") -> Channel:
    channel = table.see(ChannelSnapshot(channel_id, name or f"PJSIP/{channel_id}-00000001", dialplan=Dialplan(exten)))
    assert channel is not None
    return channel


def test_a_channel_is_known_by_its_id_whatever_it_is_called() -> None:
    """A masquerade changes the name only."""
    table = ChannelTable()
    channel = see(table, "a", "PJSIP/1121-00000001")
    assert see(table, "a", "PJSIP/1122-00000002") is channel
    assert channel.name == "PJSIP/1122-00000002"


def test_a_channel_keeps_the_first_extension_that_can_be_dialed() -> None:
    """Asterisk's own extensions say nothing of whom somebody wants."""
    table = ChannelTable()
    channel = see(table, "a", exten="s")
    assert channel.exten == ""
    assert see(table, "a", exten="1122").exten == "1122"
    assert see(table, "a", exten="1123").exten == "1122"


def test_events_that_come_late_do_not_bring_a_channel_back() -> None:
    """A bounded number of ids is remembered, the latest."""
    table = ChannelTable()
    table.remove(see(table, "a"))
    assert table.see(ChannelSnapshot("a", "x")) is None
    for number in range(GONE_LIMIT):
        table.bury(str(number))
    assert len(table.gone) == GONE_LIMIT
    assert table.see(ChannelSnapshot("a", "x")) is not None


def test_the_other_half_of_a_local_channel_is_found_by_name() -> None:
    """While it lives, and under the name that it has now."""
    table = ChannelTable()
    first, second = see(table, "a", "Local/1@m-00000001;1"), see(table, "b", "Local/1@m-00000001;2")
    assert table.find_other_half(first) is second
    assert table.find_other_half(second) is first
    assert table.find_other_half(see(table, "c")) is None
    see(table, "b", "PJSIP/1122-00000007")
    assert table.find_other_half(first) is None
    assert not second.is_local
    table.remove(first)
    assert table.find_other_half(see(table, "d", "Local/1@m-00000001;2")) is None


def test_a_channel_that_takes_a_halfs_name_is_that_half() -> None:
    """The one that lost the name must not take it along when it ends."""
    table = ChannelTable()
    old, new = see(table, "a", "Local/1@m-00000001;1"), see(table, "b", "Local/1@m-00000001;1")
    see(table, "a", "PJSIP/9-00000001")
    assert table.find_other_half(see(table, "c", "Local/1@m-00000001;2")) is new
    see(table, "a", "Local/1@m-00000001;1")
    table.remove(new)
    assert table.find_other_half(see(table, "c", "Local/1@m-00000001;2")) is old


def test_a_channel_is_in_one_bridge_at_a_time() -> None:
    """Entering another leaves the first; leaving the first then does nothing."""
    table = ChannelTable()
    channel, other = see(table, "a"), see(table, "b")
    table.enter(channel, "one")
    table.enter(other, "one")
    table.enter(channel, "one")
    assert table.bridges == {"one": ("a", "b")}
    table.enter(channel, "two")
    table.leave(channel, "one")
    assert table.bridges == {"one": ("b",), "two": ("a",)}
    table.leave(channel, "two")
    table.leave(channel, "")
    assert table.bridges == {"one": ("b",)}
    table.remove(other)
    assert table.bridges == {}


def test_a_component_goes_through_bridges_and_local_pairs() -> None:
    """Both halves of a pair must be bridged, or nobody hears anybody through it."""
    table = ChannelTable()
    caller, callee = see(table, "a"), see(table, "b")
    first, second = see(table, "1", "Local/1@m-00000001;1"), see(table, "2", "Local/1@m-00000001;2")
    table.enter(caller, "x")
    table.enter(first, "x")
    assert table.component(caller) == [caller, first]
    table.enter(second, "y")
    table.enter(callee, "y")
    assert table.component(caller) == [caller, first, second, callee]
    assert table.component(callee) == [callee, second, first, caller]
    table.leave(first, "x")
    assert table.component(first) == [first]


def test_a_bridge_member_that_is_no_channel_is_no_neighbour() -> None:
    """A document may name one."""
    table = ChannelTable()
    channel = see(table, "a")
    table.enter(channel, "x")
    table.bridges["x"] = ("a", "ghost")
    assert table.component(channel) == [channel]


def test_the_root_of_a_dialing_is_found_through_local_pairs() -> None:
    """A `;2` was dialed by whoever dialed its `;1`; a circle ends somewhere."""
    table = ChannelTable()
    caller, leg = see(table, "a"), see(table, "b")
    first, second = see(table, "1", "Local/1@m-00000001;1"), see(table, "2", "Local/1@m-00000001;2")
    first.dialer, leg.dialer = "a", "2"
    assert table.find_calling(leg) == (caller, None)
    caller.dialer = "b"
    root, call = table.find_calling(leg)
    assert (root.id in {"a", "b", "1", "2"}, call) == (True, None)
    assert table.find_calling(second)[1] is None


def test_a_half_whose_other_half_is_gone_is_its_own_root() -> None:
    """Nobody knows who dialed it."""
    table = ChannelTable()
    second = see(table, "2", "Local/1@m-00000001;2")
    assert table.find_calling(second) == (second, None)
