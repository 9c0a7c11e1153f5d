"""Parked messages are tried again ever more seldom, one for all, until it arrives."""

import math

from arimonitor_runner.broker.parking import PAUSE_MAX_S, Parking


def attempt(parking, *seqs):
    """Make the attempt that is due; gives how many messages it asked for."""
    limit = parking.limit
    parking.begin(list(seqs))
    return limit


def test_pauses_double_up_to_an_hour():
    """The first one is as set."""
    parking, now, pauses = Parking(60.0, is_hasty=False), 1000.0, []
    parking.note_parked(7, now)
    for _ in range(9):
        pauses.append(parking.due_at - now)
        now = parking.due_at
        assert attempt(parking, 7) == 1
        assert parking.due_at == math.inf
        assert parking.note_parked(7, now)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert PAUSE_MAX_S == 3600


def test_where_it_can_be_mended_the_first_attempt_is_made_at_once():
    """The second one waits."""
    parking = Parking(60.0, is_hasty=True)
    parking.note_parked(7, 10.0)
    assert parking.due_at == 10.0
    attempt(parking, 7)
    parking.note_parked(7, 11.0)
    assert parking.due_at == 71.0


def test_the_message_that_arrives_brings_all_others():
    """Another one's arrival says nothing: it may have gone another way."""
    parking = Parking(60.0, is_hasty=False)
    parking.note_parked(7, 0.0)
    attempt(parking, 7)
    assert not parking.note_delivered(8, 61.0)
    assert parking.note_delivered(7, 62.0)
    assert (parking.due_at, parking.limit) == (62.0, None)
    assert attempt(parking, 9, 10) is None
    # One of them came back: it waits from the beginning.
    assert not parking.note_parked(9, 63.0)
    assert (parking.due_at, parking.limit) == (123.0, 1)


def test_all_that_an_operator_wants_is_not_made_one_by_a_reconnect():
    """And what is parked meanwhile does not put it off."""
    parking = Parking(60.0, is_hasty=False)
    parking.ask(5.0, limit=None)
    parking.ask(6.0, limit=1)
    parking.note_parked(7, 7.0)
    assert (parking.due_at, parking.limit) == (6.0, None)


def test_an_attempt_with_nothing_to_try_ends_the_attempts():
    """Until something is parked again."""
    parking = Parking(60.0, is_hasty=False)
    parking.ask(5.0, limit=1)
    attempt(parking)
    assert parking.due_at == math.inf
