"""Records into segments and back: what is written is read, over any number of segments and runs."""

from __future__ import annotations

import stat
import struct
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from arimonitor_core.errors import RecordError
from arimonitor_core.inputs import (
    AriEventReceived,
    ConnectionLost,
    ConnectionReplaced,
    DeadlineReached,
    FilterChanged,
    Input,
)
from arimonitor_runner.journal import JournalEnd, JournalWriter, find_end, list_segments, read_batches
from arimonitor_runner.journal.format import FRAME_BYTES_MAX, decode_records, encode_records
from tests.replay.captures import list_captures, load_capture
from tests.runner.journals import SETTINGS, build_events, comparable, read_all, write_journal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the journal is; it does not exist yet."""
    return tmp_path / "state" / "journal"


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


events = st.builds(AriEventReceived, st.floats(), st.binary(max_size=300))
times = st.floats(min_value=0, max_value=2**33, exclude_max=True)
others = st.one_of(
    st.builds(ConnectionLost, received_at=times),
    st.builds(ConnectionReplaced, received_at=times),
    st.builds(DeadlineReached, received_at=times),
    st.builds(FilterChanged, received_at=times, types=st.dictionaries(st.text(max_size=5), st.just("NP"), max_size=2)),
)


@given(st.lists(st.one_of(events, others), min_size=1, max_size=40))
def test_any_record_comes_back_as_it_was_to_the_bit(records: list[Input]) -> None:
    """Any bytes, any time that a float can be, in any mixture of events and others."""
    ((count, raw),) = list(encode_records(records))
    back, errors = decode_records(raw, count)
    assert errors == {}
    assert [bits(one.received_at) for one in back] == [bits(one.received_at) for one in records]
    for one, was in zip(back, records, strict=True):
        assert type(one) is type(was)
        if isinstance(was, AriEventReceived):
            assert isinstance(one, AriEventReceived)
            assert one.raw == was.raw
        else:
            assert one == was


@pytest.mark.parametrize("size", [1, 7, 500])
def test_captures_come_back_record_by_record(folder: Path, size: int) -> None:
    """Real records, the answers of Asterisk's REST interface among them."""
    records = [record for capture in list_captures()[::12] for record in load_capture(capture)]
    write_journal(folder, *(records[begin : begin + size] for begin in range(0, len(records), size)))
    positions, back, problems = read_all(folder)
    assert problems == []
    assert positions == list(range(1, len(records) + 1))
    assert back == comparable(records)


def test_a_folder_without_a_journal_is_an_empty_journal(folder: Path) -> None:
    """Whether it exists or not."""
    assert read_all(folder) == ([], [], [])
    assert find_end(folder) == JournalEnd(position=0, received_at=0.0, is_replaced=False)
    assert write_journal(folder) == 0
    assert read_all(folder) == ([], [], [])


def test_files_are_nobody_elses_business(folder: Path) -> None:
    """0700 and 0600."""
    write_journal(folder, build_events(1))
    (segment,) = list_segments(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(segment.path.stat().st_mode) == 0o600


def test_a_second_run_goes_on_in_a_segment_of_its_own(folder: Path) -> None:
    """Positions go on; a reader sees one journal."""
    records = build_events(30)
    last = write_journal(folder, records[:10], records[10:20])
    write_journal(folder, records[20:], first_position=last + 1)
    assert [segment.first_position for segment in list_segments(folder)] == [1, 21]
    assert read_all(folder) == (list(range(1, 31)), comparable(records), [])


def test_a_segment_is_followed_by_another_when_it_is_large_enough(folder: Path) -> None:
    """Each is named after its first record."""
    records = build_events(40_000)
    settings = evolve(SETTINGS, segment_bytes_max=2**16)
    write_journal(folder, *(records[begin : begin + 100] for begin in range(0, 40_000, 100)), settings=settings)
    segments = list_segments(folder)
    assert len(segments) > 2
    assert all(2**16 <= segment.path.stat().st_size < 2**16 + 10_000 for segment in segments[:-1])
    assert read_all(folder) == (list(range(1, 40_001)), comparable(records), [])


def test_a_segment_is_followed_by_another_when_it_is_old_enough(folder: Path) -> None:
    """By the clock at the next append."""
    clock = [1000.0]
    writer = JournalWriter.open(folder, evolve(SETTINGS, segment_age_max_s=60), 1, now=lambda: clock[0])
    for at in (1000.0, 1059.9, 1060.0, 1100.0):
        clock[0] = at
        writer.append(build_events(1))
    writer.close()
    assert [segment.first_position for segment in list_segments(folder)] == [1, 3]


@pytest.mark.parametrize("after", [0, 1, 9, 10, 11, 555, 999, 1000, 1001])
def test_reading_begins_after_any_position(folder: Path, after: int) -> None:
    """Inside of a batch, a frame, a segment, at their ends, and behind all."""
    records = build_events(1000)
    write_journal(folder, *(records[begin : begin + 10] for begin in range(0, 600, 10)))
    write_journal(folder, records[600:], first_position=601)
    assert read_all(folder, after=after) == (list(range(after + 1, 1001)), comparable(records[after:]), [])


def test_batches_are_read_as_they_were_appended(folder: Path) -> None:
    """Many at a time is what a restart wants."""
    records = build_events(10)
    write_journal(folder, records[:3], records[3:4], records[4:])
    batches = read_batches(folder, on_problem=pytest.fail)
    assert [(first, len(batch)) for first, batch in batches] == [(1, 3), (4, 1), (5, 6)]


def test_a_batch_of_many_bytes_becomes_several_chunks(folder: Path) -> None:
    """And one record larger than a frame is a frame of its own."""
    large: list[Input] = [AriEventReceived(float(n), bytes([n]) * (FRAME_BYTES_MAX // 2)) for n in range(5)]
    huge: list[Input] = [AriEventReceived(9.0, b"\xff" * (3 * FRAME_BYTES_MAX))]
    small = build_events(2)
    write_journal(folder, [*large, *huge, *small], small)
    assert read_all(folder) == (list(range(1, 11)), comparable([*large, *huge, *small, *small]), [])


def test_appending_nothing_is_nothing(folder: Path) -> None:
    """No file, no position."""
    writer = JournalWriter.open(folder, SETTINGS, 5)
    assert writer.append([]) == 4
    writer.close()
    assert list_segments(folder) == []


def test_the_end_is_found_in_the_last_segment(folder: Path) -> None:
    """Position and time of the last record, and whether a successor took over there."""
    write_journal(folder, build_events(10))
    write_journal(folder, build_events(5), [ConnectionReplaced(received_at=7.5)], first_position=11)
    assert find_end(folder) == JournalEnd(position=16, received_at=7.5, is_replaced=True)
    write_journal(folder, [DeadlineReached(received_at=8.5)], first_position=17)
    assert find_end(folder) == JournalEnd(position=17, received_at=8.5, is_replaced=False)


def test_a_time_that_no_record_can_hold_is_refused_and_harms_nothing(folder: Path) -> None:
    """Our own misuse: it is raised; the batch is not appended, the next one is."""
    writer = JournalWriter.open(folder, SETTINGS, 1)
    writer.append(build_events(3))
    with pytest.raises(RecordError, match="received_at"):
        writer.append([*build_events(1), ConnectionLost(received_at=-1.0)])
    assert writer.append(build_events(3, first=4)) == 6
    writer.close()
    assert read_all(folder) == (list(range(1, 7)), comparable(build_events(6)), [])
