"""Let worlds live: `python -m tests.simulation --seeds 0..100000 --jobs 2`, or one, step by step: `--seed 7 -v`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import Pool

import click

from tests.simulation.running import Outcome, run_seed, run_seeds

SLICE = 50
"""Seeds that a process takes at once."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default="0..2000", show_default=True, help="From the first up to, and without, the last.")
@click.option("--seed", type=int, help="This one only.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Processes.")
@click.option("-v", "--verbose", is_flag=True, help="With --seed: show every step.")
def main(seeds: str, seed: int | None, jobs: int, verbose: bool) -> None:
    """Run the real code in made-up worlds and say what went wrong in which."""
    began = time.perf_counter()
    total, failed = Counter[str](), 0
    for outcome in _one(seed, verbose) if seed is not None else _many(*_range(seeds), jobs):
        total += outcome.counts
        if outcome.faults:
            failed += 1
            click.echo(outcome)
    for name, count in sorted(total.items()):
        click.echo(f"{count:>12,} {name}")
    click.echo(f"{time.perf_counter() - began:12.1f} seconds; {failed} seeds failed")
    sys.exit(1 if failed else 0)


def _range(text: str) -> tuple[int, int]:
    first, dots, last = text.partition("..")
    if not (dots and first.isdigit() and last.isdigit()):
        raise click.BadParameter("must look like 0..2000", param_hint="--seeds")
    return int(first), int(last)


def _one(seed: int, verbose: bool) -> Iterator[Outcome]:
    yield run_seed(seed, click.echo if verbose else None)


def _many(first: int, last: int, jobs: int) -> Iterator[Outcome]:
    slices = [range(start, min(start + SLICE, last)) for start in range(first, last, SLICE)]
    if jobs == 1:
        for one in slices:
            yield from run_seeds(one)
        return
    with Pool(jobs) as pool:
        for outcomes in pool.imap_unordered(run_seeds, slices):
            yield from outcomes


if __name__ == "__main__":
    main(prog_name="python -m tests.simulation")
