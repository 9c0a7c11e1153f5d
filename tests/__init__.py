"""Tests of ARIMONITOR; `tests.core` mirrors the core's modules, `tests.replay` replays what real Asterisks said."""
