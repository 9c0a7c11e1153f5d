"""Segments that are cut off or damaged: what is read is true, what is lost is said, and reading goes on behind it."""

from __future__ import annotations

import random
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from arimonitor_core.inputs import AriEventReceived, ConnectionReplaced, Input
from arimonitor_runner.journal import JournalEnd, JournalProblem, find_end, list_segments, scanning
from arimonitor_runner.journal import format as fmt
from arimonitor_runner.journal.scanning import Frame, read_frames
from arimonitor_runner.journal.segments import segment_path
from tests.replay.captures import list_captures, load_capture
from tests.runner.journals import build_events, comparable, read_all, write_journal

BATCH = 40


@cache
def whole_segment() -> tuple[bytes, list[Any], list[Frame]]:
    """A segment of several frames: its bytes, its records, its frames."""
    records = [
        record for capture in list_captures("asterisk-16", "asterisk-22")[::30] for record in load_capture(capture)
    ]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fmt, "FRAME_BYTES_MAX", 100_000)
        path = Path(folder)
        write_journal(path, *(records[begin : begin + BATCH] for begin in range(0, len(records), BATCH)))
        (segment,) = list_segments(path)
        with segment.path.open("rb") as file:
            data = file.read()
            frames = [part for part in read_frames(file, fmt.SEGMENT_HEADER_BYTES, len(data)) if isinstance(part, list)]
    assert len(frames) > 3
    return data, comparable(records), frames


def end_of(chunk: scanning.Chunk) -> int:
    return chunk.offset + fmt.CHUNK_HEADER_BYTES + chunk.header.payload_length


@contextmanager
def journal_of(data: bytes) -> Iterator[Path]:
    """A folder whose only segment has these bytes."""
    folder = Path(tempfile.mkdtemp())
    try:
        segment_path(folder, 1).write_bytes(data)
        yield folder
    finally:
        shutil.rmtree(folder)


@given(st.data())
def test_a_cut_at_any_byte_leaves_a_prefix_and_is_reported(data: st.DataObject) -> None:
    """What a crash does to the end. Where the cut is between two chunks there is nothing to be seen."""
    whole, records, frames = whole_segment()
    chunks = [chunk for frame in frames for chunk in frame]
    ends = [fmt.SEGMENT_HEADER_BYTES, *map(end_of, chunks)]
    near = st.sampled_from(ends).flatmap(lambda end: st.integers(max(0, end - 40), min(len(whole), end + 40)))
    size = data.draw(st.one_of(st.integers(0, len(whole)), near))
    complete = [chunk for chunk in chunks if end_of(chunk) <= size]
    count = complete[-1].header.last_position if complete else 0
    with journal_of(whole[:size]) as folder:
        positions, back, problems = read_all(folder)
        assert find_end(folder).position == count
    assert positions == list(range(1, count + 1))
    assert back == records[:count]
    begin = end_of(complete[-1]) if complete else fmt.SEGMENT_HEADER_BYTES if size >= fmt.SEGMENT_HEADER_BYTES else 0
    if size in ends:
        assert problems == []
    else:
        (problem,) = problems
        assert (problem.kind, problem.offset, problem.lost) == ("torn", begin, None)
        assert f"the last {size - begin} bytes" in problem.text


@given(st.data())
def test_a_changed_byte_is_reported_and_costs_the_rest_of_its_frame_at_most(data: st.DataObject) -> None:
    """Never a wrong record; every frame but the one that holds the byte is whole."""
    whole, records, frames = whole_segment()
    places = [frame[0].offset for frame in frames]
    near = st.sampled_from(places).flatmap(lambda at: st.integers(at, at + fmt.CHUNK_HEADER_BYTES))
    offset = data.draw(st.one_of(st.integers(0, len(whole) - 1), near))
    change = data.draw(st.integers(1, 255))
    damaged = bytearray(whole)
    damaged[offset] ^= change
    with journal_of(bytes(damaged)) as folder:
        positions, back, problems = read_all(folder)
        end = find_end(folder)
    assert back == [records[position - 1] for position in positions]
    (problem,) = problems
    assert problem.kind in {"damaged", "torn"}
    hit = next((frame for frame in frames if frame[0].offset <= offset < end_of(frame[-1])), None)
    lost = set(range(1, len(records) + 1)) - set(positions)
    if hit is None:
        assert (problem.offset, problem.lost, lost) == (0, None, set())
        return
    chunk = next(chunk for chunk in hit if offset < end_of(chunk))
    assert problem.offset == chunk.offset
    assert lost == set(range(chunk.header.first_position, hit[-1].header.last_position + 1))
    if chunk is not frames[-1][-1]:
        # Somewhere behind it is a chunk that tells its positions.
        assert problem.lost == (min(lost), max(lost))
        assert end.position == len(records)
    else:
        assert problem.lost is None


def test_damage_in_several_places_is_reported_by_place(tmp_path: Path) -> None:
    """Each with the positions lost by it; what lies between is read."""
    whole, records, frames = whole_segment()
    damaged = bytearray(whole)
    for frame in (frames[0], frames[2]):
        damaged[frame[1].offset + 50] ^= 1
    segment_path(tmp_path, 1).write_bytes(damaged)
    positions, back, problems = read_all(tmp_path)
    assert back == [records[position - 1] for position in positions]
    assert [(one.offset, one.lost) for one in problems] == [
        (frame[1].offset, (frame[1].header.first_position, frame[-1].header.last_position))
        for frame in (frames[0], frames[2])
    ]
    first, last = problems[0].lost or (0, 0)
    assert f"byte {frames[0][1].offset}: " in str(problems[0])
    assert str(problems[0]).endswith(f"positions {first} to {last} are lost")


def test_damage_before_what_is_asked_for_is_not_reported(tmp_path: Path) -> None:
    """A restart from a snapshot does not need it."""
    whole, records, frames = whole_segment()
    damaged = bytearray(whole)
    damaged[frames[0][1].offset + 50] ^= 1
    segment_path(tmp_path, 1).write_bytes(damaged)
    after = frames[0][-1].header.last_position
    assert read_all(tmp_path, after=after) == (list(range(after + 1, len(records) + 1)), records[after:], [])
    _, _, problems = read_all(tmp_path, after=after - 1)
    assert [problem.lost for problem in problems] == [(frames[0][1].header.first_position, after)]


def test_a_chunk_that_is_missing_without_a_trace_is_noticed(tmp_path: Path) -> None:
    """Cut out exactly: what follows in its frame does not continue what was before."""
    whole, records, frames = whole_segment()
    gone = frames[1][1]
    segment_path(tmp_path, 1).write_bytes(whole[: gone.offset] + whole[end_of(gone) :])
    positions, back, (problem,) = read_all(tmp_path)
    assert back == [records[position - 1] for position in positions]
    assert problem.lost == (gone.header.first_position, frames[1][-1].header.last_position)


def test_a_frame_that_is_missing_without_a_trace_is_noticed(tmp_path: Path) -> None:
    """Its positions are."""
    whole, _, frames = whole_segment()
    segment_path(tmp_path, 1).write_bytes(whole[: frames[1][0].offset] + whole[frames[2][0].offset :])
    _, _, (problem,) = read_all(tmp_path)
    assert (problem.kind, problem.offset) == ("missing", frames[1][0].offset)
    assert problem.lost == (frames[1][0].header.first_position, frames[1][-1].header.last_position)


def test_what_stands_between_two_chunks_loses_nothing_of_another_frame(tmp_path: Path) -> None:
    """Reading finds its way by the next chunk's marker; one inside of the rubbish does not deceive it."""
    whole, records, frames = whole_segment()
    place = frames[1][0].offset
    rubbish = fmt.MARKER + bytes(100) + fmt.MARKER
    segment_path(tmp_path, 1).write_bytes(whole[:place] + rubbish + whole[place:])
    positions, back, (problem,) = read_all(tmp_path)
    assert (positions, back) == (list(range(1, len(records) + 1)), records)
    assert (problem.offset, problem.text, problem.lost) == (place, f"{len(rubbish)} bytes cannot be read", None)


def test_the_next_chunk_is_found_however_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its marker lies across two blocks of the search."""
    monkeypatch.setattr(scanning, "SEARCH_BYTES", 16)
    whole, records, frames = whole_segment()
    place = frames[1][0].offset
    for length in range(40, 60):
        segment_path(tmp_path, 1).write_bytes(whole[:place] + bytes(length) + whole[place:])
        _, back, (problem,) = read_all(tmp_path)
        assert (len(back), problem.offset) == (len(records), place)


def test_a_segment_that_ends_too_early_is_noticed_at_the_next_one(tmp_path: Path) -> None:
    """Cut between two chunks, or torn: the next segment's name tells what is missing."""
    records = build_events(30)
    write_journal(tmp_path, records[:10], records[10:20])
    (first,) = list_segments(tmp_path)
    data = first.path.read_bytes()
    with first.path.open("rb") as file:
        (frame,) = read_frames(file, fmt.SEGMENT_HEADER_BYTES, len(data))
    assert isinstance(frame, list)
    write_journal(tmp_path, records[20:], first_position=21)
    for size, kind in ((frame[1].offset, "missing"), (frame[1].offset + 5, "torn"), (3, "torn"), (0, "torn")):
        first.path.write_bytes(data[:size])
        positions, _, (problem,) = read_all(tmp_path)
        lost = sorted(set(range(1, 31)) - set(positions))
        assert (problem.kind, problem.lost) == (kind, (lost[0], 20))
        assert find_end(tmp_path).position == 30


def test_a_pause_in_the_positions_is_reported(tmp_path: Path) -> None:
    """After a power cut that took the journal's end, positions go on behind everything that ever had an effect."""
    write_journal(tmp_path, build_events(10))
    write_journal(tmp_path, build_events(5), first_position=16)
    positions, _, (problem,) = read_all(tmp_path)
    assert positions == [*range(1, 11), *range(16, 21)]
    assert (problem.kind, problem.path.name, problem.lost) == ("missing", f"{16:020}.journal", (11, 15))


def test_a_segment_ends_where_the_next_one_begins(tmp_path: Path) -> None:
    """A disk may refuse to take back an append that failed; its records were appended again, elsewhere."""
    records = build_events(20)
    write_journal(tmp_path, records[:10], build_events(7, first=100))
    write_journal(tmp_path, records[10:], first_position=11)
    assert read_all(tmp_path) == (list(range(1, 21)), comparable(records), [])


def test_a_repeated_frame_is_given_out_once(tmp_path: Path) -> None:
    """Positions never go back."""
    whole, records, frames = whole_segment()
    begin, end = frames[1][0].offset, frames[2][0].offset
    segment_path(tmp_path, 1).write_bytes(whole[:end] + whole[begin:end] + whole[end:])
    positions, back, _ = read_all(tmp_path)
    assert (positions, back) == (list(range(1, len(records) + 1)), records)


def test_a_segment_of_a_later_format_is_passed_over(tmp_path: Path) -> None:
    """And said."""
    write_journal(tmp_path, build_events(3))
    write_journal(tmp_path, build_events(3), first_position=4)
    first, last = list_segments(tmp_path)
    for segment, lost in ((first, (1, 3)), (last, None)):
        data = segment.path.read_bytes()
        text = struct.pack("<8sIQd", b"ARIMJNL\n", 2, segment.first_position, 0.0)
        header = text + struct.pack("<I", fmt.crc32(text))
        segment.path.write_bytes(header + data[len(header) :])
        positions, _, (problem,) = read_all(tmp_path)
        assert (problem.kind, problem.lost, len(positions)) == ("unreadable", lost, 3)
        assert problem.text == "written in format 2, this program reads format 1"
        segment.path.write_bytes(data)


def test_a_damaged_header_costs_no_record(tmp_path: Path) -> None:
    """The name tells where the segment begins."""
    records = build_events(3)
    write_journal(tmp_path, records)
    (segment,) = list_segments(tmp_path)
    segment.path.write_bytes(b"X" * fmt.SEGMENT_HEADER_BYTES + segment.path.read_bytes()[fmt.SEGMENT_HEADER_BYTES :])
    positions, back, (problem,) = read_all(tmp_path)
    assert (positions, back, problem.offset, problem.lost) == ([1, 2, 3], comparable(records), 0, None)


def build_chunk(raw: bytes, *, count: int, raw_length: int | None = None, first_position: int = 1) -> bytes:
    """A chunk with a right checksum, whatever is in it."""
    return fmt.encode_chunk(
        zstandard.ZstdCompressor().compress(raw),
        begins_frame=True,
        raw_length=len(raw) if raw_length is None else raw_length,
        count=count,
        first_position=first_position,
    )


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (build_chunk(b"", count=0, raw_length=0), "bytes cannot be read"),
        (build_chunk(b"x" * 12, count=1), "1 records in 12 bytes"),
        (build_chunk(bytes(13) + b"more", count=1), "1 records end at byte 13 of 17"),
        (build_chunk(bytes(13), count=1, raw_length=14), "13 bytes instead of 14"),
        (fmt.encode_chunk(b"no zstd", begins_frame=True, raw_length=13, count=1, first_position=1), "zstd"),
    ],
)
def test_a_chunk_that_was_written_wrong_is_damage_too(tmp_path: Path, chunk: bytes, reason: str) -> None:
    """Its checksum is right, its contents contradict it."""
    segment_path(tmp_path, 1).write_bytes(fmt.encode_segment_header(1, 0.0) + chunk)
    positions, _, (problem,) = read_all(tmp_path)
    assert (positions, problem.kind, problem.offset) == ([], "damaged", fmt.SEGMENT_HEADER_BYTES)
    assert reason in problem.text
    assert find_end(tmp_path).received_at == 0.0


def columns(*records: tuple[int, float, bytes]) -> bytes:
    """A chunk's raw bytes."""
    kinds, times, parts = zip(*records, strict=True)
    count = len(records)
    lengths = struct.pack(f"<{count}I", *map(len, parts))
    return bytes(kinds) + struct.pack(f"<{count}d", *times) + lengths + b"".join(parts)


def test_a_record_of_an_unknown_kind_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    """Each by its position."""
    lost = (1, 2.0, b'{"received_at":2,"connection":"found"}')
    raw = columns(lost, (0, 3.0, b"a"), (0, 4.0, b"b"), (9, 5.0, b"?"), (0, 6.0, b"c"))
    segment_path(tmp_path, 1).write_bytes(fmt.encode_segment_header(1, 0.0) + build_chunk(raw, count=5))
    positions, back, problems = read_all(tmp_path)
    assert (positions, back) == ([2, 3, 5], [(3.0, b"a"), (4.0, b"b"), (6.0, b"c")])
    assert [problem.lost for problem in problems] == [(1, 1), (4, 4)]
    assert "expected" in problems[0].text
    assert "kind 9" in problems[1].text
    assert find_end(tmp_path) == JournalEnd(position=5, received_at=6.0, is_replaced=False)


def test_the_end_is_found_before_damage_and_beyond_it(tmp_path: Path) -> None:
    """Positions that were given out stay given out, although their records cannot be read."""
    replaced: list[Input] = [ConnectionReplaced(received_at=5.0)]
    write_journal(tmp_path, replaced, build_events(10), build_events(10))
    (segment,) = list_segments(tmp_path)
    data = bytearray(segment.path.read_bytes())
    with segment.path.open("rb") as file:
        (frame,) = read_frames(file, fmt.SEGMENT_HEADER_BYTES, len(data))
    assert isinstance(frame, list)
    data[frame[1].offset + 40] ^= 1
    segment.path.write_bytes(data)
    assert find_end(tmp_path) == JournalEnd(position=21, received_at=5.0, is_replaced=False)
    segment_path(tmp_path, 22).write_bytes(b"")
    assert find_end(tmp_path) == JournalEnd(position=21, received_at=5.0, is_replaced=False)
    segment_path(tmp_path, 30).write_bytes(b"ARIM")
    assert find_end(tmp_path) == JournalEnd(position=29, received_at=5.0, is_replaced=False)


def test_the_end_is_found_behind_a_record_larger_than_the_tail_that_is_looked_at(tmp_path: Path) -> None:
    """Random bytes do not get smaller."""
    huge = random.Random(1).randbytes(2 * 1024 * 1024)
    write_journal(tmp_path, [AriEventReceived(3.5, huge)])
    assert find_end(tmp_path) == JournalEnd(position=1, received_at=3.5, is_replaced=False)


def test_a_segment_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    """Here it is a folder: root may read everything else."""
    write_journal(tmp_path, build_events(3))
    segment_path(tmp_path, 4).mkdir()
    write_journal(tmp_path, build_events(3), first_position=6)
    positions, _, (problem,) = read_all(tmp_path)
    assert positions == [1, 2, 3, 6, 7, 8]
    assert (problem.kind, problem.lost) == ("unreadable", (4, 5))
    assert "Is a directory" in problem.text


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path) -> None:
    """Here it is a file."""
    path = tmp_path / "journal"
    path.write_bytes(b"")
    positions, _, (problem,) = read_all(path)
    assert (positions, problem.path, problem.kind) == ([], path, "unreadable")
    assert isinstance(problem, JournalProblem)
