"""An asyncio event loop whose time moves only when nothing can run, and whose processes can be killed.

A *process* is everything that was started from one `Process.run`: tasks, callbacks and timers inherit it through their
context. Killing one is what SIGKILL is: nothing of it runs again, no `finally` has an effect, what it had not written
is lost. Everything else in the world goes on.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import base_events
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

STEPS_MAX = 2_000_000
"""Callbacks of one run; a world that needs more is caught in a circle."""

_AWAITS_MAX = 1000
"""Of one coroutine, on its way out."""

_current: ContextVar[Process | None] = ContextVar("process", default=None)


class DeadlockError(Exception):
    """Nothing can run and no timer is set, yet the run is not over."""


class Killed(BaseException):
    """Raised where a process dies inside an operation; no code may survive it."""


class Process:
    """A group of tasks that live and die together."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self._loop = loop
        self.name = name
        self.is_alive = True
        self.tasks: list[asyncio.Task[Any]] = []
        self.steps = 0
        self.dies_at_step = 0
        """Killed before its so-manieth step; 0: not."""
        self.on_death: list[Callable[[], None]] = []

    def context(self) -> Context:
        """A new context for something that belongs to it."""
        context = copy_context()
        context.run(_current.set, self)
        return context

    def run(self, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start its first task."""
        return self.context().run(self._loop.create_task, main)

    def enter(self, work: Callable[[], Any]) -> Callable[[], Any]:
        """The same work, done as a part of this process."""
        context = self.context()
        return lambda: context.run(work)

    def step(self) -> None:
        """Count one thing that it does, an operation on a file or a callback; raises Killed where it is the last."""
        if not self.is_alive:
            raise Killed
        self.steps += 1
        if self.steps == self.dies_at_step:
            self.kill()
            raise Killed

    def kill(self) -> None:
        """End it here and now."""
        if not self.is_alive:
            return
        self.is_alive = False
        for told in self.on_death:
            told()
        self._loop.bury(self)


def current_process() -> Process | None:
    """Whose code runs now; None: the world's."""
    return _current.get()


class _NoSelector:
    """There is no outside."""

    def close(self) -> None:
        """Nothing is open."""


class VirtualLoop(base_events.BaseEventLoop):
    """Runs what is ready, and when nothing is, jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._buried: list[Process] = []
        self._outside = Context()
        self.steps = 0
        self.thread_delay_s: Callable[[], float] = lambda: 0.001
        """How long a thread takes before it has done its work."""
        self.errors: list[dict[str, Any]] = []
        self.set_task_factory(self._make_task)
        self.set_exception_handler(lambda _loop, context: self.errors.append(context))

    def time(self) -> float:
        """Seconds since the beginning of this world."""
        return self._now

    def call_outside(self, delay_s: float, work: Callable[[], Any]) -> None:
        """Call later what belongs to no process, whoever asks for it."""
        self.call_later(delay_s, work, context=self._outside)

    def bury(self, process: Process) -> None:
        """Close what a killed process left behind, after the step that runs now."""
        self._buried.append(process)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """What a thread would do is done a moment later, between two steps of everything else."""
        result = self.create_future()

        def work() -> None:
            if result.done():
                return
            try:
                result.set_result(func(*args))
            except Killed:
                pass  # nobody is left who waits
            except Exception as error:  # whatever it is, the waiting must hear of it
                result.set_exception(error)

        self.call_later(self.thread_delay_s(), work)
        return result

    def finish(self) -> None:
        """End of the world: whatever still waits is closed, nothing of it runs."""
        for task in asyncio.all_tasks(self):
            _close(task, Context())
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self.close()

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        process = _current.get()
        if process is not None:
            if len(process.tasks) > 64:
                process.tasks = [one for one in process.tasks if not one.done()]
            process.tasks.append(task)
        return task

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        self._pass_time()
        if not ready:
            raise DeadlockError(f"at {self._now:.3f} s nothing can happen any more")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled and self._may_run(handle._context.get(_current)):
                self.steps += 1
                handle._run()
            self._close_buried()
        if self.steps > STEPS_MAX:
            raise DeadlockError(f"{STEPS_MAX} steps, and no end")

    def _pass_time(self) -> None:
        """Make ready what is due; where nothing else is ready, what is due next."""
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self._now or not ready):
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._now = max(self._now, timer._when)
                ready.append(timer)

    def _may_run(self, process: Process | None) -> bool:
        """A callback is a step of its process, and may be the one before which it is killed."""
        if process is None:
            return True
        if not process.is_alive:
            return False
        try:
            process.step()
        except Killed:
            return False
        return True

    def _close_buried(self) -> None:
        while self._buried:
            process = self._buried.pop()
            for task in process.tasks:
                if not task.done():
                    _close(task, process.context())

    def _write_to_self(self) -> None:
        """No other thread waits for this one."""

    def _process_events(self, event_list: Any) -> None:
        """There is no outside that events could come from."""


def _close(task: asyncio.Task[Any], context: Context) -> None:
    """Unwind a coroutine that will never run again; what it does on its way out has no effect on the world."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine: Any = task.get_coro()
    for _ in range(_AWAITS_MAX):
        try:
            context.run(coroutine.throw, Killed())  # where it returns, a `finally` awaits something: that dies as well
        except BaseException:  # a dead process raises Killed wherever it touches the world
            return
