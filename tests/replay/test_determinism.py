"""The same log gives the same bytes in another process, another time zone and with another hash seed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.replay.captures import FIXTURES, SERVER, find_log, replay_capture

CAPTURES = (
    "asterisk-16/attended_transfer",
    "asterisk-16-lean/two_gaps",
    "asterisk-22/ring_group_local_channels",
    "asterisk-22/peers_register_and_drop",
    "asterisk-22-lean/push_registers_then_answers",
)


@pytest.mark.parametrize(("zone", "seed"), [("Asia/Kathmandu", "1"), ("America/St_Johns", "4294967295")])
def test_a_replay_elsewhere_prints_the_same_bytes(zone: str, seed: str) -> None:
    """`arimonitor replay` of a handful of captures prints what the monitor says here, one message a line."""
    for capture in CAPTURES:
        done = subprocess.run(
            [sys.executable, "-m", "arimonitor_runner.cli", "replay", str(find_log(capture)), "--server", SERVER,
             "--directory", str(FIXTURES / "directory")],
            env={**os.environ, "TZ": zone, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=60,
        )  # fmt: skip
        assert done.stdout == b"".join(message.body + b"\n" for message in replay_capture(capture))
