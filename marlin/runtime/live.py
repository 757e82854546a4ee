"""A run under way: its carbon events as they happen, then its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

from marlin.runtime.carbon_event import CarbonEvent
from marlin.runtime.result import RunResult
from marlin.runtime.run import CarbonListener

__all__ = ["LiveRun"]


class LiveRun:
    """Given by `MeshFlow.start`. Iterate over it, await it, or both, in this order.

    >>> from marlin.runtime import MeshFlow
    >>> mesh = MeshFlow(default_model="small-7b", mock=True, kafka=False)
    >>> @mesh.agent("writer")
    ... async def writer(ctx):
    ...     return (await ctx.call_model(ctx.task)).text
    >>> async def watch() -> None:
    ...     live = mesh.start(task="tidal power")
    ...     async for event in live:
    ...         print(event.agent_id, event.usage.input_tokens, event.usage.output_tokens)
    ...     print((await live).status)
    >>> asyncio.run(watch())
    writer 2 509
    completed

    The run goes on whether or not anybody looks; its events wait here (one small object per model
    call). Each event is given once, however many loops ask.
    """

    def __init__(
        self, run_id: str, carry_out: Callable[[CarbonListener], Awaitable[RunResult]]
    ) -> None:
        self.run_id = run_id
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[CarbonEvent | None] = asyncio.Queue()
        self._task = asyncio.ensure_future(carry_out(self._take))
        self._task.add_done_callback(lambda _: self._events.put_nowait(None))

    def __await__(self) -> Generator[Any, None, RunResult]:
        return self._task.__await__()

    async def __aiter__(self) -> AsyncIterator[CarbonEvent]:
        while (event := await self._events.get()) is not None:
            yield event
        self._events.put_nowait(None)  # for whoever iterates again

    def cancel(self) -> None:
        """Cancel the run's task: its agent is interrupted, the run ends as failed."""
        self._task.cancel()

    def _take(self, event: CarbonEvent) -> None:
        # A plain agent records in its own thread.
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)
