"""The daemon does not grow with the calls it has followed: not in memory, not on disk."""

from benchmarks.endurance import KEEP_BYTES, growth, live_long
from benchmarks.pump import running_pump

HISTORY_LIMIT = 500
PIECES, RUNS_PER_PIECE = 60, 100


def test_thousands_of_calls_leave_nothing_behind(tmp_path, rabbit):
    """20,000 calls of all kinds: over the second half memory stays within 2 %, outbox and journal within their bounds.

    The history has been full for long by then. 150 bytes kept of each call would show as 2 %.
    """
    with running_pump() as pump:
        samples = live_long(
            pump, rabbit, tmp_path, pieces=PIECES, runs_per_piece=RUNS_PER_PIECE, history_limit=HISTORY_LIMIT
        )
    half = len(samples) // 2
    assert samples[half].calls > 10 * HISTORY_LIMIT
    assert samples[-1].calls - samples[half].calls > 9_000
    assert growth(samples) < 0.02
    # The file holds no message now, and its pages are used again. All messages at once would take ten times as much.
    assert samples[-1].outbox_kb < 4_000
    # Beyond the bound there may be what the three snapshots kept need.
    assert max(sample.journal_kb for sample in samples) * 1000 < 2 * KEEP_BYTES
    assert samples[-1].first_position > samples[half].events
