"""Calls that happen at once have nothing to do with each other, whatever phones they share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.replay.captures import by_call, feed, new_monitor
from tests.replay.renaming import list_whole_captures, merge_by_time, move

START = 1_795_345_000.0

placements = st.lists(st.tuples(st.sampled_from(list_whole_captures()), st.integers(0, 20_000)), min_size=2, max_size=4)
"""Captures and when each begins, in milliseconds."""


@given(placements)
def test_calls_of_several_captures_at_once_are_told_as_each_by_itself(placed: list[tuple[str, int]]) -> None:
    """Merged by time, every call is told of in the same words; only callnumbers are dealt out anew, each once."""
    streams = [
        move(capture, tag=f"{number:x}", start=START + begin_ms / 1000)
        for number, (capture, begin_ms) in enumerate(placed)
    ]
    alone = {}
    for stream in streams:
        alone |= by_call(feed(new_monitor(), stream))
    together = feed(new_monitor(), merge_by_time(*streams))
    assert by_call(together) == alone
    numbers = {message.callnumber for message in together}
    assert numbers == set(range(1, len(alone) + 1))
