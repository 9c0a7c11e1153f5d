"""Every capture leads to the messages that Asterisk's own records say it should."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from tests.core.contract import check_message
from tests.replay.captures import CAPTURES, FIXTURES, feed, list_captures, load_capture, new_monitor, replay_capture

NO_TRUTH_OF_ITS_OWN = "second_monitor_same_app"
"""Two logs that are one stream cut in two: neither is whole."""

TRUTHS = sorted(
    f"{path.parent.name}/{path.name.partition('.')[0]}"
    for path in CAPTURES.glob("*/*.truth.json*")
    if not path.name.startswith(NO_TRUTH_OF_ITS_OWN)
)


@cache
def load_judge() -> ModuleType:
    """The lab's judge, which knows nothing of the core: it runs a command and reads messages."""
    spec = importlib.util.spec_from_file_location("judge", FIXTURES / "asterisk" / "judge.py")
    assert spec is not None
    assert spec.loader is not None
    judge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(judge)
    types, vhosts = judge.read_directory(FIXTURES / "directory")
    judge.TYPES.update(types)
    judge.VHOSTS.update(vhosts)
    return judge


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The judge with replays in this process instead of a command's."""
    loaded = load_judge()

    def replay_here(command: str, log: Path, **_: str) -> list[bytes]:
        capture = f"{log.parent.name}/{log.name.partition('.')[0]}"
        return [message.body for message in replay_capture(capture)]

    monkeypatch.setattr(loaded, "replay", replay_here)
    return loaded


def test_there_are_captures_of_both_versions_full_and_lean() -> None:
    """An empty folder would make every other test here pass."""
    folders = [truth.partition("/")[0] for truth in TRUTHS]
    for folder in ("asterisk-22", "asterisk-22-lean", "asterisk-16", "asterisk-16-lean"):
        assert folders.count(folder) > 40


@pytest.mark.parametrize("capture", TRUTHS)
def test_a_capture_leads_to_the_messages_that_are_true(capture: str, judge: ModuleType) -> None:
    """The messages of every call agree with CEL, CDR and the scenario's script."""
    folder, _, name = capture.partition("/")
    assert judge.judge(CAPTURES / folder, name, "") == []


@pytest.mark.parametrize("capture", list_captures())
def test_every_message_of_a_capture_keeps_the_contract(capture: str) -> None:
    """Names, types and presence of every field."""
    for message in replay_capture(capture):
        check_message(message)


@pytest.mark.parametrize("capture", TRUTHS)
def test_a_capture_leads_to_the_same_bytes_in_a_second_monitor(capture: str) -> None:
    """Nothing is kept outside of the monitor."""
    again = feed(new_monitor(), load_capture(capture))
    assert again == list(replay_capture(capture))
