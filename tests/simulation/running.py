"""One seed after another: make the world, let it live, say what was wrong and how to see it again."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterable

from attrs import Factory, frozen

from tests.simulation.checks import Evidence, check_evidence, gather, untouched
from tests.simulation.plan import make_plan
from tests.simulation.world import World

FAULTS_SHOWN = 8
"""Of one seed; those that follow are mostly consequences."""


@frozen
class Outcome:
    """What became of one seed."""

    seed: int
    faults: list[str]
    counts: Counter[str] = Factory(Counter)
    """What happened in it, to see that a run tried what it should."""

    def __str__(self) -> str:
        lines = "\n".join(f"  {fault[:1500]}" for fault in self.faults[:FAULTS_SHOWN])
        return f"seed {self.seed}:\n{lines}\n  again, with all steps: {command(self.seed)}"


def command(seed: int) -> str:
    """What shows a seed step by step."""
    return f".venv/bin/python -m tests.simulation --seed {seed} -v"


def run_seed(seed: int, trace: Callable[[str], None] | None = None) -> Outcome:
    """Let one world live."""
    counts: Counter[str] = Counter(worlds=1)

    def check(world: World) -> list[str]:
        evidence = gather(world)
        _count(evidence, counts)
        return check_evidence(evidence)

    try:
        world = World(seed, make_plan(seed), *([trace] if trace is not None else []))
        if trace is not None:
            trace(str(world.plan))
        faults = world.live(check)
    except Exception:  # a world that breaks is a finding like any other
        faults = [traceback.format_exc()]
    return Outcome(seed, faults, counts)


def run_seeds(seeds: Iterable[int]) -> list[Outcome]:
    """Let many worlds live, one after another."""
    return [run_seed(seed) for seed in seeds]


def _count(evidence: Evidence, counts: Counter[str]) -> None:
    world = evidence.world
    counts["calls"] = len(world.stage.truths)
    counts["calls heard in peace"] = len(untouched(evidence))
    counts["calls told of"] = len(evidence.told)
    counts["inputs"] = len(evidence.journal)
    counts["messages"] = len(evidence.first)
    counts["messages sent again"] = len(world.rabbit.deliveries) - len(evidence.first)
    counts["daemons"] = len(world.daemons)
    counts["daemons killed"] = sum(not daemon.process.is_alive for daemon in world.daemons)
    counts["worlds that lost a tail"] = evidence.tail_lost
    counts["virtual seconds"] = round(world.loop.time())
    counts["steps"] = world.loop.steps
    for _, action in world.plan.actions:
        counts[f"trouble: {action.partition(' ')[0]}"] += 1
    for told in evidence.told.values():
        counts[f"ended: {told[-1]['channelstatus']}"] += 1
