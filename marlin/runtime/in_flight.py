"""Tasks that are cancelled when their run is stopped."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakSet

__all__ = ["TasksInFlight"]


class TasksInFlight:
    """The asyncio tasks of one run, of whatever loops. Any thread may call it."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._lock = threading.Lock()
        # The loop keeps a task that runs alive; one that is over must not be kept here.
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._cancelled: WeakSet[asyncio.Task[Any]] = WeakSet()

    def add(self, task: asyncio.Task[Any]) -> None:
        """Cancel `task` as well, at the next `cancel`."""
        with self._lock:
            self._tasks.add(task)

    def cancel(self) -> None:
        """Cancel every task that is not over, once, except the one that calls this."""
        if not self._enabled:
            return
        caller = _current_task()
        with self._lock:
            tasks = [
                task
                for task in self._tasks
                if task is not caller and task not in self._cancelled and not task.done()
            ]
            self._cancelled.update(tasks)
        for task in tasks:
            with suppress(RuntimeError):  # its loop is closed
                task.get_loop().call_soon_threadsafe(task.cancel)

    def explains_cancellation(self) -> bool:
        """Whether the cancellation that the calling task is handling comes from here alone.

        Takes back the request to cancel the calling task, if it was made here; called once.
        """
        task = _current_task()
        if task is None:
            return False
        with self._lock:
            was_cancelled, any_cancelled = task in self._cancelled, len(self._cancelled) > 0
        if was_cancelled:
            return task.uncancel() == 0
        # A task that it awaited was cancelled, not this one.
        return any_cancelled and task.cancelling() == 0


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop in this thread
        return None
