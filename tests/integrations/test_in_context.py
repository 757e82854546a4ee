"""A coroutine in a context of its own: its variables, its cancellation, its errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextvars import ContextVar, copy_context

import pytest

from marlin.runtime.integrations.in_context import in_context

var: ContextVar[str] = ContextVar("var", default="reader's")


async def test_variables_stay_in_the_context_from_step_to_step() -> None:
    context = copy_context()

    async def change() -> str:
        before = var.get()
        var.set("its own")
        await asyncio.sleep(0)
        return f"{before}, then {var.get()}"

    assert await in_context(context, change()) == "reader's, then its own"
    assert var.get() == "reader's"
    assert context[var] == "its own"


async def test_tasks_it_starts_inherit_the_context() -> None:
    async def child() -> str:
        await asyncio.sleep(0)
        return var.get()

    async def parent() -> str:
        var.set("its own")
        return await asyncio.create_task(child())

    assert await in_context(copy_context(), parent()) == "its own"


async def test_the_task_is_the_readers() -> None:
    async def task() -> asyncio.Task[None] | None:
        await asyncio.sleep(0)
        return asyncio.current_task()

    assert await in_context(copy_context(), task()) is asyncio.current_task()


async def test_errors_pass_in_both_directions() -> None:
    seen: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(var.get())
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await in_context(copy_context(), fails())
    context = copy_context()
    context.run(var.set, "its own")
    running = asyncio.create_task(in_context(context, waits()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen == ["its own"]


async def test_a_cancellation_can_be_survived() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "went on"

    running = asyncio.create_task(in_context(copy_context(), stubborn()))
    await asyncio.sleep(0)
    running.cancel()
    assert await running == "went on"


async def test_an_asynchronous_generator_is_driven_item_by_item() -> None:
    async def items() -> AsyncGenerator[str]:
        var.set("generator's")
        yield "first"
        yield var.get()

    context, stream = copy_context(), items()
    assert await in_context(context, anext(stream)) == "first"
    assert var.get() == "reader's"
    assert await in_context(context, anext(stream)) == "generator's"
    with pytest.raises(StopAsyncIteration):
        await in_context(context, anext(stream))
