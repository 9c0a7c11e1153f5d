"""Capture log records: what is written is read back, what cannot be read says why."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arimonitor_core.directory import Client, Directory, Endpoint, MqServer, RingGroup
from arimonitor_core.errors import RecordError
from arimonitor_core.inputs import (
    AriEventReceived,
    CallsNumbered,
    ConnectionLost,
    ConnectionReplaced,
    ConnectionRestored,
    DeadlineReached,
    DirectoryChanged,
    FilterChanged,
    Input,
)
from arimonitor_core.records import RECEIVED_AT_MAX, decode_record, encode_record

CAPTURES = Path(__file__).parents[2] / "fixtures" / "captures"
NOON = 1795345104.128555
EVENT = b'{"type":"ChannelCreated","channel":{"id":"a b","caller":{"name":"Jo\xc3\xa3o"}}}'
DIRECTORY = Directory.of(
    clients=[Client(code="112", name="Vila", vhost="vila-madalena", mq_server="mq1", ftp_wav=True)],
    endpoints=[Endpoint(number="1121", type="unidade"), Endpoint(number="77", type="apto", client="112")],
    ring_groups=[RingGroup(number="1120", members=("1121", "1122"), strategy="sequential", client="112")],
    ai_entries={"95", "94"},
    mq_servers=[MqServer(name="mq1", url="amqp://user:secret@127.0.0.1")],
)

times = st.integers(0, int(RECEIVED_AT_MAX) * 10**6 - 1).map(lambda microseconds: microseconds / 10**6)
modes = st.dictionaries(st.text(max_size=20), st.sampled_from(["N", "Y", "P", "NP"]), max_size=4)
texts = st.text(max_size=8)
directories = st.builds(
    Directory.of,
    clients=st.lists(
        st.builds(Client, code=texts, name=texts, vhost=texts, mq_server=texts, ftp_wav=st.booleans()), max_size=3
    ),
    endpoints=st.lists(st.builds(Endpoint, number=texts, type=texts, client=texts), max_size=3),
    ring_groups=st.lists(
        st.builds(
            RingGroup,
            number=texts,
            members=st.lists(texts, max_size=3).map(tuple),
            strategy=st.sampled_from(["parallel", "sequential"]),
            client=texts,
        ),
        max_size=3,
    ),
    ai_entries=st.sets(texts, max_size=3),
)


def read_lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines(keepends=True)


def same(one: Input, other: Input) -> bool:
    """Compare inputs; events are compared by identity otherwise."""
    if isinstance(one, AriEventReceived) and isinstance(other, AriEventReceived):
        return (one.received_at, one.raw) == (other.received_at, other.raw)
    return one == other


def refusal(line: bytes) -> str:
    with pytest.raises(RecordError) as caught:
        decode_record(line)
    return str(caught.value)


def test_every_captured_line_is_a_record_and_its_event_survives_byte_for_byte() -> None:
    """All real captures: reading and writing an event line changes no byte of it."""
    lines = [line for path in sorted(CAPTURES.glob("*/*.ndjson*")) for line in read_lines(path)]
    assert len(lines) > 1000
    for line in lines:
        record = decode_record(line)
        if isinstance(record, AriEventReceived):
            assert encode_record(record) == line
        else:
            assert same(decode_record(encode_record(record)), record)


def test_an_event_line_is_the_time_and_the_event_as_it_came() -> None:
    """The form that a capture program writes."""
    line = b'{"received_at":1795345104.128555,"event":' + EVENT + b"}\n"
    record = decode_record(line)
    assert isinstance(record, AriEventReceived)
    assert (record.received_at, record.raw) == (NOON, EVENT)
    assert encode_record(record) == line


def test_a_line_may_hold_blanks_and_whole_seconds() -> None:
    """Lines written by hand or by another program's JSON encoder are read too."""
    record = decode_record(b' { "event" : {"type": "x"} , "received_at" : 7 } \r\n')
    assert isinstance(record, AriEventReceived)
    assert (record.received_at, record.raw) == (7.0, b'{"type": "x"}')


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"text",
        b'"a string"',
        b"null",
        b"5",
        b'{\n  "type": "Dial"\n}',
        b' {"type":"Dial"}',
        b'{"type":"Dial"} ',
        b'{"type":"Dial"',
        b'{}},"event":{}',
        b"\xff\xfe",
        b'{"digit":"\\ud800"}',
        b"[" * 1_000_000,
    ],
)
def test_an_event_that_is_not_one_line_of_json_is_kept_as_base64(raw: bytes) -> None:
    """Whatever arrived stays exactly what it was, and the log stays one record a line."""
    line = encode_record(AriEventReceived(NOON, raw))
    assert line.count(b"\n") == 1
    assert b'"event":"' in line
    record = decode_record(line)
    assert isinstance(record, AriEventReceived)
    assert record.raw == raw


def test_answers_of_a_pretty_printing_asterisk_survive() -> None:
    """A snapshot is verbatim as well, with its line ends."""
    pretty = b'[\n  {"id": "1"}\n]'
    record = ConnectionRestored(received_at=NOON, channels=pretty, bridges=b"[]", endpoints=b"<html>")
    assert decode_record(encode_record(record)) == record


def test_each_kind_is_written_as_documented() -> None:
    """The format other programs rely on."""
    head = b'{"received_at":1795345104.128555,'
    assert encode_record(ConnectionLost(received_at=NOON)) == head + b'"connection":"lost"}\n'
    assert encode_record(ConnectionRestored(received_at=NOON, channels=b'[{"id":"1"}]')) == (
        head + b'"connection":"restored","channels":[{"id":"1"}],"bridges":[],"endpoints":[]}\n'
    )
    asked = ConnectionRestored(received_at=NOON, info=b'{"status":{}}', variables=b'{"1":{"X":"y"}}')
    assert encode_record(asked) == (
        head + b'"connection":"restored","channels":[],"bridges":[],"endpoints":[],'
        b'"info":{"status":{}},"variables":{"1":{"X":"y"}}}\n'
    )
    assert encode_record(ConnectionReplaced(received_at=NOON)) == head + b'"connection":"replaced"}\n'
    assert encode_record(CallsNumbered(received_at=NOON, numbers={"a": 17})) == head + b'"numbers":{"a":17}}\n'
    assert encode_record(DeadlineReached(received_at=NOON)) == head + b'"deadline":true}\n'
    assert encode_record(FilterChanged(received_at=NOON, types={"Dial": "P"})) == (
        head + b'"filter":{"types":{"Dial":"P"},"variables":{}}}\n'
    )
    assert encode_record(DirectoryChanged(received_at=NOON, directory=DIRECTORY)) == (
        head + b'"directory":{"clients":[{"code":"112","name":"Vila","vhost":"vila-madalena","mq_server":"mq1",'
        b'"ftp_wav":true,"audio":[]}],"endpoints":[{"number":"1121","type":"unidade","client":""},'
        b'{"number":"77","type":"apto","client":"112"}],"ring_groups":[{"number":"1120","members":["1121","1122"],'
        b'"strategy":"sequential","client":"112"}],"ai_entries":["94","95"]}}\n'
    )


def test_a_directory_record_holds_no_rabbitmq_server() -> None:
    """Their URLs hold passwords, and a journal is no place for them."""
    line = encode_record(DirectoryChanged(received_at=NOON, directory=DIRECTORY))
    assert b"secret" not in line
    record = decode_record(line)
    assert isinstance(record, DirectoryChanged)
    assert record.directory.mq_servers == {}
    assert record.directory.clients == DIRECTORY.clients


def test_what_a_directory_or_a_filter_leaves_out_is_empty() -> None:
    """Hand-written records may say only what they mean."""
    record = decode_record(b'{"received_at":1,"directory":{"endpoints":[{"number":"1121"}]}}')
    expected = Directory.of(endpoints=[Endpoint(number="1121")], ai_entries=())
    assert record == DirectoryChanged(received_at=1.0, directory=expected)
    assert decode_record(b'{"received_at":1,"filter":{}}') == FilterChanged(received_at=1.0)


@given(
    record=st.one_of(
        st.builds(AriEventReceived, times, st.binary(max_size=60)),
        st.builds(ConnectionLost, received_at=times),
        st.builds(ConnectionRestored, received_at=times, channels=st.binary(max_size=20), bridges=st.just(b"[{}]")),
        st.builds(ConnectionRestored, received_at=times, info=st.binary(max_size=9), variables=st.binary(max_size=9)),
        st.builds(ConnectionReplaced, received_at=times),
        st.builds(CallsNumbered, received_at=times, numbers=st.dictionaries(texts, st.integers(-9, 2**64 - 1))),
        st.builds(DeadlineReached, received_at=times),
        st.builds(FilterChanged, received_at=times, types=modes, variables=modes),
        st.builds(DirectoryChanged, received_at=times, directory=directories),
    )
)
def test_every_input_is_read_back_as_it_was_written(record: Input) -> None:
    """The round trip, on one line, whatever the bytes and to the microsecond."""
    line = encode_record(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    again = decode_record(line)
    assert same(again, record)
    assert encode_record(again) == line


@given(line=st.binary(max_size=80))
@example(line=b'{"received_at":1,"ev\xffent":1}')
@example(line=b'{"a":"\\ud800"}')
def test_any_bytes_are_a_record_or_a_record_error(line: bytes) -> None:
    """Nothing but RecordError comes out, whatever the disk or an editor did to the line."""
    with contextlib.suppress(RecordError):
        record = decode_record(line)
        assert same(decode_record(encode_record(record)), record)


@given(data=st.data())
def test_a_damaged_record_is_a_record_or_a_record_error(data: st.DataObject) -> None:
    """One byte changed, cut or doubled somewhere in a good line."""
    inputs: list[Input] = [DirectoryChanged(received_at=NOON, directory=DIRECTORY), AriEventReceived(NOON, EVENT)]
    line = encode_record(data.draw(st.sampled_from(inputs)))
    where = data.draw(st.integers(0, len(line) - 1))
    damaged = line[:where] + data.draw(st.binary(max_size=2)) + line[where + data.draw(st.integers(0, 2)) :]
    with contextlib.suppress(RecordError):
        again = decode_record(damaged)
        assert same(decode_record(encode_record(again)), again)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not a line of JSON with an object in it: Input data was truncated"),
        (b"[1]", "not a line of JSON with an object in it: Expected `object`, got `array`"),
        (b'{"received_at":1,"event":{}', "Input data was truncated"),
        (b'{"received_at":1,"event":{}} {}', "trailing characters"),
        (b'{"received_at":1,"ev\xffent":{}}', "not UTF-8 at byte 2"),
        (b'{"received_at":1,"event":' + b"[" * 1_000_000, "nested too deeply"),
        (b'{"event":{}}', "received_at is missing"),
        (b'{"received_at":null,"event":{}}', "received_at: Expected `float`, got `null`"),
        (b'{"received_at":"1","event":{}}', "received_at: Expected `float`, got `str`"),
        (b'{"received_at":true,"event":{}}', "received_at: Expected `float`, got `bool`"),
        (b'{"received_at":NaN,"event":{}}', "JSON is malformed"),
        (b'{"received_at":1e999,"event":{}}', "received_at: Number out of range"),
        (b'{"received_at":8589934592,"event":{}}', "received_at: 8589934592.0 is no time between 0 and 8589934592"),
        (b'{"received_at":-1,"event":{}}', "received_at: -1.0 is no time"),
        (b'{"received_at":1' + b"0" * 5000 + b',"event":{}}', "received_at: Number out of range"),
        (b'{"received_at":1}', "these keys: none"),
        (b'{"received_at":1,"event":{},"note":1}', "no kind of record has received_at and these keys: event note"),
        (b'{"received_at":1,"event":5}', "event: neither an object nor an array nor base64 in a string"),
        (b'{"received_at":1,"event":"hello!"}', "event: a string that is not base64"),
        (b'{"received_at":1,"connection":"restored"}', 'connection: expected "lost", got "restored"'),
        (b'{"received_at":1,"connection":"lo\xffst"}', 'connection: expected "lost", got "lo\\xffst"'),
        (
            b'{"received_at":1,"connection":"lost","channels":[],"bridges":[],"endpoints":[]}',
            'connection: expected "restored", got "lost"',
        ),
        (
            b'{"received_at":1,"connection":"restored","channels":7,"bridges":[],"endpoints":[]}',
            "channels: neither an object nor an array",
        ),
        (b'{"received_at":1,"connection":"gone"}', 'connection: expected "lost", got "gone"'),
        (b'{"received_at":1,"numbers":{"a":"17"}}', "numbers: Expected `int`, got `str`"),
        (b'{"received_at":1,"deadline":false}', "deadline: expected true, got false"),
        (b'{"received_at":1,"filter":{"types":{"Dial":"Q"}}}', "filter: Invalid enum value 'Q'"),
        (b'{"received_at":1,"filter":{"Dial":"N"}}', "filter: Object contains unknown field `Dial`"),
        (b'{"received_at":1,"directory":{"mq_servers":[]}}', "directory: Object contains unknown field `mq_servers`"),
        (b'{"received_at":1,"directory":{"clients":[{}]}}', "directory.clients: Object missing required field `code`"),
        (
            b'{"received_at":1,"directory":{"clients":[{"code":"112","vhsot":"x"}]}}',
            "directory.clients: unknown key vhsot",
        ),
        (
            b'{"received_at":1,"directory":{"endpoints":[{"number":1121}]}}',
            "directory.endpoints: Expected `str`, got `int`",
        ),
        (
            b'{"received_at":1,"directory":{"ring_groups":[{"number":"1","strategy":"random"}]}}',
            "directory.ring_groups: Invalid enum value 'random'",
        ),
        (b'{"received_at":1,"directory":{"ai_entries":"94"}}', "directory: Expected `array`, got `str`"),
    ],
)
def test_a_line_that_is_no_record_says_what_is_wrong(line: bytes, reason: str) -> None:
    """The reason names the key and the fault, in a bounded number of characters."""
    text = refusal(line)
    assert reason in text
    assert len(text) < 400


@pytest.mark.parametrize("received_at", [float("nan"), float("inf"), -1.0, RECEIVED_AT_MAX])
def test_an_input_with_an_impossible_time_is_not_written(received_at: float) -> None:
    """A log that cannot be read back is never begun."""
    with pytest.raises(RecordError, match="received_at"):
        encode_record(ConnectionLost(received_at=received_at))
