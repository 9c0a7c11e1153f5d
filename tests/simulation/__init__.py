"""The real code in a made-up world: one process, one seed, no clock but the simulation's own.

`python -m tests.simulation --seed 7 -v` shows one world; docs/architecture.md says what is real in it and what is not.
"""
