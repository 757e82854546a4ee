"""Running a coroutine in a context of its own, within the task that awaits it.

An asynchronous generator shares the context of whoever reads it: a context variable that it sets
is set for the reader too, between two items. A generator that is driven in a context of its own
keeps its variables to itself; the task, and so its timeouts and cancellation, stays the reader's.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Generator
from contextvars import Context
from typing import Any, TypeVar

__all__ = ["in_context"]

T = TypeVar("T")


async def in_context(context: Context, awaitable: Awaitable[T]) -> T:
    """Await `awaitable`, with `context` as the current one in each of its steps.

    Gives what it gives, raises what it raises; a cancellation is thrown into it. `context` must
    not be current already.
    """
    return await _steps(context, awaitable)


@types.coroutine
def _steps(context: Context, awaitable: Awaitable[T]) -> Generator[Any, Any, T]:
    inner: Any = awaitable.__await__()
    thrown: BaseException | None = None
    while True:
        try:
            # The event loop sends nothing but None.
            waits_for = (
                context.run(inner.send, None)
                if thrown is None
                else context.run(inner.throw, thrown)
            )
        except StopIteration as done:
            result: T = done.value
            return result
        thrown = None
        try:
            yield waits_for
        except BaseException as exc:
            thrown = exc
