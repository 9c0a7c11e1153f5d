"""Inputs on their way to the core: filled by whoever hears something, emptied by one consumer. Bounded, in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from arimonitor_core.inputs import Input


def now() -> float:
    """Unix seconds, in the whole microseconds that a record can hold: the `received_at` of an input."""
    return time.time_ns() // 1000 / 1e6


class InputQueue:
    """A queue in the memory of one event loop. Putting never waits, so that a reader of a socket never does."""

    def __init__(self, size_max: int) -> None:
        """Let at most `size_max` inputs wait."""
        self._size_max = size_max
        self._inputs: deque[Input] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    def __len__(self) -> int:
        """How many inputs wait."""
        return len(self._inputs)

    def put(self, record: Input) -> bool:
        """Append one input. False: the queue is full, and the input was not taken."""
        inputs = self._inputs
        if len(inputs) >= self._size_max:
            return False
        if not inputs:
            self._filled.set()
        inputs.append(record)
        return True

    def put_anyway(self, record: Input) -> None:
        """Append one input beyond the bound: for the few that tell of the connection itself."""
        self._inputs.append(record)
        self._filled.set()

    def take(self, count_max: int) -> list[Input]:
        """Remove and give the oldest inputs, at most so many; empty where none wait."""
        inputs = self._inputs
        batch = [inputs.popleft() for _ in range(min(count_max, len(inputs)))]
        if not inputs:
            self._filled.clear()
        if len(inputs) <= self._size_max // 2:
            self._emptied.set()
        return batch

    def wake(self) -> None:
        """Let `wait` return although nothing waits."""
        self._filled.set()

    async def wait(self) -> None:
        """Return when an input waits, or after `wake`."""
        await self._filled.wait()

    async def wait_half_empty(self) -> None:
        """Return when at most half of the bound is used; at once where it is."""
        if len(self._inputs) > self._size_max // 2:
            self._emptied.clear()
            await self._emptied.wait()
