"""What goes wrong in a world, decided by its seed before it begins.

Each world has only some kinds of trouble, some worlds have none: a fault that needs peace before it is found as well as
one that needs everything at once.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Literal

from attrs import Factory, define

SLOW_FACTOR = 50
"""So many times slower than usual is a disk now and then."""
END_OF_TROUBLE_S = 40.0
"""From then on nothing goes wrong any more."""


@define
class Plan:
    """One world's conditions and troubles."""

    jitter_s: float = 0.0
    duplicates: float = 0.0
    with_variables: bool = True
    calls: int = 6
    captures: int = 0
    refusals: float = 0.0
    slowest_s: float = 0.01
    thread_s: float = 0.002
    sync: Literal["each", "interval", "never"] = "interval"
    snapshot_interval_s: float = 300.0
    segment_bytes_max: int = 2**16
    actions: list[tuple[float, str]] = Factory(list)
    """When, in seconds, and what: the name of a method of `World`, with its argument after a blank."""


def _kill(random: Random) -> str:
    return random.choice(("kill", "kill_in_steps"))


_TROUBLES: dict[str, tuple[float, Callable[[Random], str]]] = {
    "kill": (0.35, _kill),
    "power": (0.1, lambda _: "cut_power"),
    "stop": (0.15, lambda _: "stop"),
    "handover": (0.3, lambda _: "hand_over"),
    "drop": (0.35, lambda random: f"drop {random.choice(('openly', 'silently'))}"),
    "restart": (0.12, lambda random: f"restart_asterisk {random.choice(('politely', 'hard'))}"),
    "disk": (0.15, lambda random: f"fill_disk {random.uniform(0.1, 8.0):.3f}"),
    "rabbit drop": (0.25, lambda _: "drop_rabbit"),
    "rabbit down": (0.15, lambda random: f"take_rabbit_down {random.uniform(0.1, 15.0):.3f}"),
    "rabbit blocked": (0.15, lambda random: f"block_rabbit {random.uniform(0.1, 10.0):.3f}"),
    "rabbit queue": (0.1, lambda _: "delete_queue"),
    "garbage": (0.1, lambda _: "send_garbage"),
}
"""By kind: the share of worlds that have it, and what is done then."""


def make_plan(seed: int) -> Plan:
    """The plan of a world."""
    random = Random(f"{seed} plan")
    plan = Plan(
        jitter_s=random.choice((0.0, 0.105)),
        duplicates=random.choice((0.0, 0.0, 0.1)),
        with_variables=random.random() < 0.7,
        calls=random.randrange(3, 10),
        captures=random.choice((0, 0, 1, 2)),
        refusals=random.choice((0.0, 0.0, 0.2)),
        slowest_s=random.choice((0.002, 0.02, 0.5)),
        thread_s=random.choice((0.0005, 0.005, 0.1)),
        sync=random.choice(("each", "interval", "interval", "never")),
        snapshot_interval_s=random.choice((5.0, 20.0, 300.0)),
    )
    for share, make in _TROUBLES.values():
        if random.random() < share:
            for _ in range(random.choice((1, 1, 2))):
                plan.actions.append((_choose_time(random, plan), make(random)))
    plan.actions.sort()
    return plan


def _choose_time(random: Random, plan: Plan) -> float:
    """Some time, or on the heels of another trouble."""
    if plan.actions and random.random() < 0.35:
        return random.choice(plan.actions)[0] + 10 ** random.uniform(-3, 0)
    return random.uniform(0.5, END_OF_TROUBLE_S - 8)
