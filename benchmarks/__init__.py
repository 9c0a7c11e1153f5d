"""Benchmarks: what the project costs beside the least that it could cost, in the same run and on the same bytes."""
