"""One step of a workflow: a plain callable, sync or async, and how it is run."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from marlin.runtime.context import AgentContext

__all__ = ["Agent", "AgentFunction"]

AgentFunction = Callable[[AgentContext], Any]
"""`fn(ctx)`, a function or a coroutine function; what it returns is the agent's output."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A named callable with its own defaults; None takes the workflow's."""

    agent_id: str
    function: AgentFunction
    model: str | None = None
    provider: str | None = None
    region: str | None = None

    async def __call__(self, context: AgentContext) -> Any:
        """Run it; raises what it raises. A plain function runs in a thread of its own."""
        if _is_async(self.function):
            output = self.function(context)
        else:
            output = await _in_own_thread(self.function, context)
        return await output if inspect.isawaitable(output) else output


def _is_async(function: AgentFunction) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  an object with an async __call__
    )


async def _in_own_thread(function: AgentFunction, context: AgentContext) -> Any:
    # Not the loop's shared pool: blocked agents would fill it, and a model client that needs
    # a thread of that pool to answer them would then wait for ever.
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"agent-{context.agent_id}")
    try:
        copied = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, lambda: copied.run(function, context))
    finally:
        pool.shutdown(wait=False)
