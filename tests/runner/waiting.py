"""Wait until something is true that nobody announces: a row in a database, a counter, a file."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Look again and again; the test's own time limit ends a wait in vain."""
    while True:
        held = condition()
        if inspect.isawaitable(held):
            held = await held
        if held:
            return
        await asyncio.sleep(0.005)
