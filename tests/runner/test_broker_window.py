"""The window sends what may go, in order of each key, and never more than it should."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from arimonitor_runner.broker.window import Window
from arimonitor_runner.sinks import StoredMessage


def stored(seq, key="a"):
    return StoredMessage(
        seq=seq, vhost="t", ordering_key=key, message_id=str(seq), type="received-call",
        routing_key="received-call.open", timestamp=1, callnumber=1, body=b"{}",
    )  # fmt: skip


def window_of(*messages, size=10):
    window = Window(size)
    for message in messages:
        window.add(message)
    return window


def taken(window):
    messages = []
    while (message := window.take()) is not None:
        messages.append(message.seq)
    return messages


def test_one_message_of_a_key_is_on_its_way_at_a_time():
    """The second of a key follows the first one's confirm; other keys do not wait."""
    first = stored(1)
    window = window_of(first, stored(2), stored(3, "b"))
    assert taken(window) == [1, 3]
    window.confirm(first)
    assert taken(window) == [2]


def test_no_more_than_the_size_is_on_its_way():
    """A full window gives nothing until something is confirmed."""
    messages = [stored(n, str(n)) for n in range(5)]
    window = window_of(*messages, size=2)
    assert taken(window) == [0, 1]
    window.confirm(messages[0])
    assert taken(window) == [2]


def test_a_held_message_holds_only_its_own_key():
    """A refused message waits; what follows under its key waits too, all else overtakes it."""
    first = stored(1)
    window = window_of(first, stored(2), stored(3, "b"))
    taken(window)
    window.hold(first)
    assert taken(window) == []
    window.release(first)
    window.release(first)
    assert taken(window) == [1]


def test_a_parked_message_takes_its_followers_out_of_memory():
    """Behind a parked message nothing of its key is kept or taken, now or later."""
    first = stored(1)
    window = window_of(first, stored(2), stored(3, "b"))
    taken(window)
    window.park(first)
    window.add(stored(4))
    assert taken(window) == []
    assert window.held == 1


def test_keys_blocked_from_before_are_not_taken():
    """A message behind one that was parked in an earlier run stays in the store."""
    window = Window(10)
    window.restart({"a"})
    window.add(stored(1))
    window.add(stored(2, "b"))
    assert taken(window) == [2]


def test_a_restart_forgets_everything_but_what_is_blocked():
    """Messages in flight, held and blocked ones alike are read from the store again."""
    messages = [stored(n, str(n)) for n in range(4)]
    window = window_of(*messages, size=3)
    taken(window)
    window.hold(messages[1])
    window.park(messages[2])
    assert window.is_blocked
    window.restart(())
    assert (window.held, window.in_flight, window.is_blocked, taken(window)) == (0, 0, False, [])
    for message in messages:
        window.add(message)
    assert taken(window) == [0, 1, 2]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc")),
        st.tuples(st.sampled_from(["take", "confirm", "hold", "release", "park", "restart"]), st.integers(0, 5)),
    ),
    max_size=60,
)


class Model:
    """What the window should do, kept in the plainest way."""

    def __init__(self, size):
        self.window = Window(size)
        self.added, self.confirmed, self.parked = defaultdict(list), defaultdict(list), set()
        self.flying, self.held = [], []

    def add(self, seq, key):
        """A message comes in."""
        self.window.add(stored(seq, key))
        if key not in self.parked:
            self.added[key].append(seq)

    def take(self, _seq, _choice):
        """Send the next, if one may go."""
        message = self.window.take()
        if message is not None:
            self.flying.append(message)

    def restart(self, _seq, _choice):
        """The connection is lost: what the store holds is read anew."""
        self.window.restart(self.parked)
        self.flying, self.held = [], []
        left = (seq for key, seqs in self.added.items() for seq in seqs[len(self.confirmed[key]) :])
        keys = {seq: key for key, seqs in self.added.items() for seq in seqs}
        for seq in sorted(left):
            self.window.add(stored(seq, keys[seq]))

    def release(self, _seq, choice):
        """A held message may go again."""
        if self.held:
            self.window.release(self.held.pop(choice % len(self.held)))

    def confirm(self, _seq, choice):
        """One of those on their way is confirmed."""
        if self.flying:
            message = self.flying.pop(choice % len(self.flying))
            self.window.confirm(message)
            self.confirmed[message.ordering_key].append(message.seq)

    def hold(self, _seq, choice):
        """One of them is refused."""
        if self.flying:
            message = self.flying.pop(choice % len(self.flying))
            self.window.hold(message)
            self.held.append(message)

    def park(self, _seq, choice):
        """One of them is put aside."""
        if self.flying:
            message = self.flying.pop(choice % len(self.flying))
            self.window.park(message)
            self.parked.add(message.ordering_key)


@given(OPERATIONS, st.integers(1, 4))
def test_order_of_each_key_holds_whatever_happens(operations, size):
    """Random histories: per key, confirms come in order of seq, none twice, none behind a parked one, none lost."""
    model = Model(size)
    for seq, (operation, argument) in enumerate(operations):
        getattr(model, operation)(seq, argument)
        assert model.window.in_flight == len(model.flying) <= size
        assert len({message.ordering_key for message in model.flying}) == len(model.flying)
    for key, seqs in model.confirmed.items():
        assert seqs == model.added[key][: len(seqs)]
    free = {key: seqs for key, seqs in model.added.items() if key not in model.parked}
    assert model.window.held == sum(len(seqs) - len(model.confirmed[key]) for key, seqs in free.items())
    model.restart(0, 0)
    while (message := model.window.take()) is not None:
        model.window.confirm(message)
        model.confirmed[message.ordering_key].append(message.seq)
    assert {key: model.confirmed[key] for key in free} == free
