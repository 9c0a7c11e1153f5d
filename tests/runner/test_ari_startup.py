"""When Asterisk started, as its answers say it or do not."""

from __future__ import annotations

import pytest

from arimonitor_runner.ari.startup import read_startup_ms

NOON_MS = 1_795_348_800_000


@pytest.mark.parametrize("text", ["2026-11-22T12:00:00.000+0000", "2026-11-22T09:00:00.000-0300"])
def test_one_instant_has_many_texts(text: str) -> None:
    """By the zone that Asterisk runs in."""
    info = b'{"build":{},"status":{"startup_time":"%b","last_reload_time":null}}' % text.encode()
    assert read_startup_ms(info) == NOON_MS


@pytest.mark.parametrize(
    "info",
    [
        b"",
        b"[]",
        b"{}",
        b'{"status":{}}',
        b'{"status":{"startup_time":null}}',
        b'{"status":{"startup_time":7}}',
        b'{"status":{"startup_time":""}}',
        b'{"status":{"startup_time":"yesterday"}}',
        b'{"status":{"startup_time":"2026-11-22T12:00:00"}}',
        b'{"status":{"startup_time":"\xff"}}',
        b"[" * 100_000,
    ],
)
def test_an_answer_that_names_no_instant_says_nothing(info: bytes) -> None:
    """Whatever Asterisk, or something in front of it, answers."""
    assert read_startup_ms(info) == 0
