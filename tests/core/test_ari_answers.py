"""What Asterisk answered when it was asked: typed, and its faults beside it."""

from __future__ import annotations

from typing import Any

import pytest

from arimonitor_core.ari_answers import Answers, ListedVars, read_answers
from arimonitor_core.inputs import ConnectionRestored

STARTED = "2026-11-22T09:59:21.339-0300"


def read(**answers: bytes) -> Answers:
    return read_answers(ConnectionRestored(received_at=1.0, **answers))


def reasons(answers: Answers) -> list[str]:
    return [fault.reason for fault in answers.faults]


def test_where_nothing_was_asked_nothing_is_wrong() -> None:
    """The picture of an Asterisk that does nothing."""
    answers = read()
    assert (answers.channels, answers.bridges, answers.endpoints, answers.startup_time) == ([], [], [], "")
    assert answers.is_complete
    assert answers.faults == []


def test_a_bad_item_never_takes_the_good_ones_down() -> None:
    """Each is read by itself; an answer that is no list is one bad item."""
    answers = read(bridges=b'[{"id":"b1"},{"id":7},{"id":"b2","channels":["c"]}]')
    assert [bridge.id for bridge in answers.bridges] == ["b1", "b2"]
    assert reasons(answers) == ["malformed-shape"]
    assert reasons(read(bridges=b"<html>")) == ["malformed-json"]


@pytest.mark.parametrize(
    ("answer", "complete"),
    [("channels", False), ("bridges", False), ("endpoints", True), ("info", True), ("variables", True)],
)
def test_only_unread_channels_and_bridges_make_the_picture_incomplete(answer: str, complete: bool) -> None:
    """Of the others none is an absence."""
    answers = read(**{answer: b"<html>"})
    assert answers.is_complete is complete
    assert reasons(answers) == ["malformed-json"]


@pytest.mark.parametrize(
    ("info", "startup_time", "said"),
    [
        (b'{"status":{"startup_time":"%b","last_reload_time":"x"}}' % STARTED.encode(), STARTED, []),
        (b"{}", "", []),
        (b'{"status":{}}', "", []),
        (b'{"status":{"startup_time":""}}', "", []),
        (b'{"status":{"startup_time":"yesterday"}}', "", ["malformed-startup-time"]),
        (b'{"status":{"startup_time":7}}', "", ["malformed-shape"]),
        (b'{"status":null}', "", ["malformed-shape"]),
        (b"[]", "", ["malformed-shape"]),
        (b"\xff", "", ["malformed-json"]),
    ],
)
def test_the_startup_time_is_a_time_or_not_there(info: bytes, startup_time: str, said: list[str]) -> None:
    """Junk is reported and nothing else."""
    answers = read(info=info)
    assert (answers.startup_time, reasons(answers)) == (startup_time, said)


@pytest.mark.parametrize(
    ("own", "variables", "expected", "said"),
    [
        ("{}", b"{}", None, []),
        ('{"channelvars":{"CHANNEL(linkedid)":"a"}}', b"{}", ListedVars(linkedid="a"), []),
        (
            "{}", b'{"c":{"MIXMONITOR_FILENAME":"/a.wav","CHANNEL(linkedid)":"a","DIALEDPEERNAME":"b"}}',
            ListedVars(recording="/a.wav", linkedid="a"), [],
        ),
        (
            '{"channelvars":{"MIXMONITOR_FILENAME":"/own.wav","CHANNEL(linkedid)":""}}',
            b'{"c":{"MIXMONITOR_FILENAME":"/a.wav","CHANNEL(linkedid)":"a"}}',
            ListedVars(recording="/own.wav", linkedid="a"), [],
        ),
        ("{}", b'{"d":{"MIXMONITOR_FILENAME":"/a.wav"},"c":{"MIXMONITOR_FILENAME":null}}', ListedVars(), []),
        ("{}", b'{"c":{"MIXMONITOR_FILENAME":["/a.wav"]}}', None, ["malformed-shape"]),
        ("{}", b'{"c":"/a.wav"}', None, ["malformed-shape"]),
        ("{}", b'["c"]', None, ["malformed-shape"]),
    ],
)  # fmt: skip
def test_variables_that_were_read_stand_in_for_those_that_are_not_shown(
    own: str, variables: bytes, expected: Any, said: list[str]
) -> None:
    """What the snapshot shows is stronger; an empty text there says that it is not set. Junk is reported."""
    channel = '{"id":"c","name":"PJSIP/1121-00000001",' + own[1:].strip("}") + "}" * own.count("{")
    answers = read(channels=f"[{channel}]".replace(",}", "}").encode(), variables=variables)
    assert [one.channelvars for one in answers.channels] == [expected]
    assert reasons(answers) == said
