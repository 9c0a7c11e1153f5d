"""Names, numbers, times and identifiers as Asterisk and the directory write them."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import RFC_4122, UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arimonitor_core import values
from arimonitor_core.call import CallKey


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T06:28:59.061-0300", 1795339739061),
        ("2026-11-22T09:28:59.061+0000", 1795339739061),
        ("2026-11-22T09:28:59.061+00:00", 1795339739061),
        ("2026-11-22T09:28:59.061", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_time_is_read_with_its_offset_or_not_at_all(text: str, expected: int | None) -> None:
    """A time without an offset names no instant."""
    assert values.parse_time_ms(text) == expected


def _read_plainly(text: str) -> int | None:
    """What a time means, without any memory of others."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else round(moment.timestamp() * 1000)


_PIECES = st.tuples(
    st.sampled_from(["2026-11-22T06:28", "2026-11-22 06:28", "2026-W47-7T06:28", "20261122T0628", "2026-13-22T06:28"]),
    st.sampled_from([":", "", "."]),
    st.sampled_from(["59", "00", "60", "7", "07", "\u0667\u0667", ""]),
    st.sampled_from([".", ",", ":", ""]),
    st.sampled_from(["061", "0", "999", "06", "0617", "000456", "+61", " 61", "\u0660\u0666\u0661", ""]),
    st.sampled_from(
        ["-0300", "+0000", "Z", "-03:00", "-03", "+05:30:30", "-03:00:00.0005", "", "+9900", "\u221203:00"]
    ),
)


@given(st.lists(_PIECES.map("".join), max_size=12))
@example(["2026-11-22T06:28:59.061-0300", "2026-11-22T06:28:00.999-0300", "2026-11-22T06:28:5.061-0300"])
def test_what_was_read_before_changes_no_time(texts: list[str]) -> None:
    """Minutes are remembered, by their text."""
    assert [values.parse_time_ms(text) for text in texts] == [_read_plainly(text) for text in texts]


def test_many_minutes_are_forgotten_again() -> None:
    """A day of one call a minute, seen twice."""
    texts = [f"2026-11-22T{hour:02}:{minute:02}:01.5{hour:02}+0000" for hour in range(24) for minute in range(60)]
    for text in (*texts, *texts):
        assert values.parse_time_ms(text) == _read_plainly(text)


@given(st.datetimes(timezones=st.just(UTC)), st.text(max_size=8), st.text(max_size=20))
def test_a_guid_is_a_uuid7_of_its_creation(moment: datetime, server: str, channel_id: str) -> None:
    """Version, variant and time are right, and the same call has the same guid."""
    created_ms = round(moment.timestamp() * 1000) & 0xFFFF_FFFF_FFFF
    key = CallKey(moment.isoformat(), channel_id)
    guid = values.derive_guid(server, key, created_ms)
    parsed = UUID(guid)
    assert str(parsed) == guid
    assert (parsed.version, parsed.variant, parsed.int >> 80) == (7, RFC_4122, created_ms)
    assert values.derive_guid(server, key, created_ms) == guid


def test_calls_of_one_millisecond_have_guids_of_their_own() -> None:
    """Channel id, creationtime and server each tell two calls apart."""
    guids = {
        values.derive_guid(server, CallKey(text, channel), 1795339739061)
        for server in ("voip1", "voip2")
        for text in ("2026-11-22T06:28:59.061-0300", "2026-11-22T09:28:59.061+0000")
        for channel in ("pbx-1.0", "pbx-1.1")
    }
    assert len(guids) == 8


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("PJSIP/1121-0000002a", "1121"),
        ("PJSIP/porta-1-0000002a", "porta-1"),
        ("SIP/1121-0000002a", "1121"),
        ("Local/1132@membro-00000001;1", "1132"),
        ("Local/1132@membro-00000001;2", "1132"),
        ("DAHDI/1-1", "1-1"),
        ("OutgoingSpoolFailed", "OutgoingSpoolFailed"),
        ("", ""),
    ],
)
def test_a_channels_name_says_whose_it_is(name: str, endpoint: str) -> None:
    """Technology, unique suffix and a Local channel's context are no part of the endpoint."""
    assert values.endpoint_of_channel(name) == endpoint


@pytest.mark.parametrize(
    ("dialstring", "number"),
    [
        ("1122", "1122"), ("PJSIP/1142", "1142"), ("1132@membro", "1132"), ("trunk/sip:5511999@host", "5511999"),
        ("11977776666@tronco", "11977776666"), ("PJSIP/tronco", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_dialstring_says_what_was_dialed(dialstring: str, number: str) -> None:
    """With or without technology, context or SIP address."""
    assert values.dialed_number(dialstring) == number


def test_the_halves_of_a_local_channel_name_each_other() -> None:
    """Only Local channels have halves."""
    assert values.other_half("Local/1@a-00000001;1") == "Local/1@a-00000001;2"
    assert values.other_half("Local/1@a-00000001;2") == "Local/1@a-00000001;1"
    assert values.is_local_half("Local/1@a-00000001;2")
    assert not values.is_local_half("PJSIP/1121-00000001")


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("sip:1121@10.0.0.7:5060;transport=udp", "10.0.0.7"),
        ("sips:1121@10.0.0.7", "10.0.0.7"),
        ("sip:10.0.0.7:5060", "10.0.0.7"),
        ("sip:1121@[2001:db8::1]:5060", "2001:db8::1"),
        ("", ""),
    ],
)
def test_a_contact_says_its_address(uri: str, host: str) -> None:
    """IPv4, IPv6 and names, with or without user, port and parameters."""
    assert values.host_of_uri(uri) == host


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/var/spool/asterisk/monitor/a-1.2.wav", "http://audio.example/voip1/a-1.2.mp3"),
        ("a.wav", "http://audio.example/voip1/a.mp3"),
        ("a", "http://audio.example/voip1/a.mp3"),
        ("/etc/../x/../secret.wav", "http://audio.example/voip1/secret.mp3"),
        ("c:\\rec\\a.wav", "http://audio.example/voip1/a.mp3"),
    ],
)
def test_a_recordings_url_is_made_of_its_file_name_alone(path: str, url: str) -> None:
    """No directory of the PBX shows in it."""
    assert values.recording_url("http://audio.example/voip1/", path) == url
    assert values.recording_url("http://audio.example/voip1", path) == url


def test_numbers_and_extensions_are_told_from_other_words() -> None:
    """What a person can dial, and what only the dialplan knows."""
    assert values.is_number("1121")
    assert values.is_number("+5511988887777")
    assert values.is_number("*8")
    assert not values.is_number("tronco")
    assert not values.is_number("")
    assert values.is_dialable("1122")
    assert not values.is_dialable("s")
    assert not values.is_dialable("")


def test_seconds_are_whole_and_never_negative() -> None:
    """Events of different channels may step back in time."""
    assert [values.seconds(ms) for ms in (-1, 0, 999, 1000, 1999)] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("one", "expected"), [("a", ("b", "c")), ("b", ("a", "c")), ("c", ("a", "b")), ("d", ("a", "b", "c"))]
)
def test_an_id_is_taken_out_wherever_it_stands(one: str, expected: tuple[str, ...]) -> None:
    """One that is not there leaves all as it is."""
    assert values.without(("a", "b", "c"), one) == expected
