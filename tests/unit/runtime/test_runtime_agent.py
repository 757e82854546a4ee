from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from typing import Any, cast

import pytest

from marlin.runtime.agent import Agent
from marlin.runtime.context import AgentContext

CONTEXT = cast(AgentContext, type("Context", (), {"agent_id": "a"})())
number = contextvars.ContextVar("number", default=0)


async def coroutine_function(_: AgentContext) -> str:
    return threading.current_thread().name


def function(_: AgentContext) -> str:
    return threading.current_thread().name


class CallableObject:
    async def __call__(self, _: AgentContext) -> str:
        return threading.current_thread().name


@pytest.mark.parametrize(
    ("given", "own_thread"),
    [
        (coroutine_function, False),
        (functools.partial(coroutine_function), False),
        (CallableObject(), False),
        (function, True),
        (functools.partial(function), True),
    ],
)
async def test_plain_functions_get_a_thread_and_coroutines_the_loop(
    given: Any, own_thread: bool
) -> None:
    ran_in = await Agent("a", given)(CONTEXT)

    assert (ran_in != threading.current_thread().name) is own_thread


async def test_a_plain_function_that_gives_an_awaitable_is_awaited() -> None:
    assert await Agent("a", lambda _: asyncio.sleep(0, "done"))(CONTEXT) == "done"


async def test_context_variables_reach_a_plain_function() -> None:
    number.set(7)

    assert await Agent("a", lambda _: number.get())(CONTEXT) == 7


async def broken(_: AgentContext) -> None:
    raise LookupError


def broken_plainly(_: AgentContext) -> None:
    raise LookupError


@pytest.mark.parametrize("given", [broken, broken_plainly])
async def test_what_it_raises_comes_through(given: Any) -> None:
    with pytest.raises(LookupError):
        await Agent("a", given)(CONTEXT)


async def test_more_blocked_agents_than_any_pool_has_threads_still_get_answers() -> None:
    """Agents wait in threads for clients that need a thread of the loop's pool themselves."""
    loop = asyncio.get_running_loop()

    def plain(_: AgentContext) -> int:
        return asyncio.run_coroutine_threadsafe(asyncio.to_thread(lambda: 1), loop).result()

    assert sum(await asyncio.gather(*(Agent("a", plain)(CONTEXT) for _ in range(40)))) == 40
