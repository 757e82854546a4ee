"""MeshFlow's runs and steps: one run of ours around each, one agent of ours in each.

MeshFlow turns whatever an agent raises into a blocked step and goes on with the others. So a
refusal is kept from where it was raised; the steps after it are refused before they start, and the
entry that all of it began at raises it in the end.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any

from meshflow.core.schemas import Policy as MeshFlowPolicy

from marlin.errors import CarbonBudgetExceededError
from marlin.runtime.current import current_run
from marlin.runtime.integrations.calls import log_once
from marlin.runtime.integrations.in_context import in_context
from marlin.runtime.integrations.replacement import Replacement
from marlin.schemas import Policy

__all__ = [
    "agent_name",
    "check",
    "is_inside_a_run",
    "keep_refusal",
    "metered_entry",
    "metered_step",
]

RANDOM_ID = re.compile(r"[0-9a-f]{8}")
"""What MeshFlow calls an agent that nobody named; its role says more."""

MAX_NAME_CHARACTERS = 256
"""Limit of the contracts; longer names are cut."""


@dataclass
class _Whole:
    """Everything that one entry began, in whatever task: it ends together."""

    refusal: CarbonBudgetExceededError | None = None


_whole: ContextVar[_Whole | None] = ContextVar("marlin_meshflow_whole", default=None)


def is_inside_a_run() -> bool:
    """Whether an entry is under way, which will raise what was kept in the end."""
    return _whole.get() is not None


def keep_refusal(refusal: CarbonBudgetExceededError) -> None:
    """Keep the first refusal: MeshFlow will swallow it."""
    whole = _whole.get()
    if whole is not None and whole.refusal is None:
        whole.refusal = refusal


def check() -> None:
    """Raise `CarbonBudgetExceededError` if a call was refused, or the run must stop."""
    whole = _whole.get()
    if whole is not None and whole.refusal is not None:
        raise whole.refusal
    run = current_run()
    if run is not None:
        run.check()


def agent_name(agent: Any) -> str:
    """What to call one of MeshFlow's agents or nodes."""
    ids = (getattr(agent, key, None) for key in ("agent_id", "id", "name"))
    name = str(next(filter(None, ids), ""))
    if RANDOM_ID.fullmatch(name):
        role = getattr(agent, "role", name)
        name = str(getattr(role, "value", role))
    return name[:MAX_NAME_CHARACTERS] or "agent"


def metered_entry(original: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    """`original`, a coroutine function or an asynchronous generator function, within a run."""
    if inspect.isasyncgenfunction(original):

        @functools.wraps(original)
        async def stream(owner: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            items = original(owner, *args, **kwargs)
            if replacement.active and not is_inside_a_run():
                items = _streamed(items, (owner, *args, *kwargs.values()))
            async with aclosing(items):
                async for item in items:
                    yield item

        return stream

    @functools.wraps(original)
    async def entry(owner: Any, *args: Any, **kwargs: Any) -> Any:
        ask = functools.partial(original, owner, *args, **kwargs)
        if not replacement.active or is_inside_a_run():
            return await ask()
        return await in_context(copy_context(), _carried_out(ask, (owner, *args, *kwargs.values())))

    return entry


def metered_step(original: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    """`original`, which carries out one node or agent, as an agent of the current run."""

    @functools.wraps(original)
    async def step(owner: Any, subject: Any, *args: Any, **kwargs: Any) -> Any:
        ask = functools.partial(original, owner, subject, *args, **kwargs)
        run = current_run()
        if not replacement.active or run is None:
            return await ask()
        with run.agent(agent_name(subject)) as agent, _telling():
            check()
            outcome = await ask()
            if outcome.ok:
                agent.output = getattr(outcome, "data", None) or outcome.output.content
            else:
                check()  # what made it fail may have been a refusal
        return outcome

    return step


async def _carried_out(ask: Callable[[], Awaitable[Any]], given: Sequence[Any]) -> Any:
    async with AsyncExitStack() as stack:
        await _open(stack, given)
        with _telling():
            check()
            result = await ask()
        check()
    return result


async def _streamed(items: AsyncGenerator[Any], given: Sequence[Any]) -> AsyncGenerator[Any]:
    """`items` read within a run, which whoever reads them does not find itself in."""
    context, stack = copy_context(), AsyncExitStack()
    within = functools.partial(in_context, context)
    await within(_open(stack, given))
    try:
        context.run(check)
        while (item := await within(_next(items))) is not _END:
            yield item
        context.run(check)
    except GeneratorExit:  # whoever read it has enough
        await within(items.aclose())
        await within(stack.aclose())
        raise
    except BaseException as exc:
        await within(items.aclose())
        told = context.run(_told, exc)
        await within(stack.__aexit__(type(told), told, told.__traceback__))
        raise told from (None if told is exc else exc)
    await within(stack.aclose())


_END = object()


async def _next(items: AsyncGenerator[Any]) -> Any:
    return await anext(items, _END)


async def _open(stack: AsyncExitStack, given: Sequence[Any]) -> None:
    """Make what follows in this context a whole of its own, and a run, unless it is in one."""
    _whole.set(_Whole())
    if current_run() is not None:
        return
    try:
        from marlin.runtime.meter import run

        task = next((one for one in given if isinstance(one, str)), None)
        await stack.enter_async_context(run(_policy(given), task=task))
    except Exception:
        log_once("meshflow", "a run of MeshFlow is not metered, and no budget holds for it")


def _policy(given: Sequence[Any]) -> Policy | None:
    """The budget of the MeshFlow policy that an entry's arguments, or else its owner, carry."""
    owner, *arguments = given
    for one in (*arguments, owner):
        for policy in (one, getattr(one, "_policy", None), getattr(one, "policy", None)):
            if isinstance(policy, MeshFlowPolicy):
                budget_g = policy.carbon_budget_g if policy.enable_environmental else None
                return Policy(carbon_budget_g=budget_g)
    return None


def _told(exc: BaseException) -> BaseException:
    """What MeshFlow made `exc` of: the refusal behind it, if there is one."""
    if isinstance(exc, Exception) and not isinstance(exc, CarbonBudgetExceededError):
        try:
            check()
        except CarbonBudgetExceededError as refusal:
            return refusal
    return exc


@contextmanager
def _telling() -> Generator[None]:
    try:
        yield
    except Exception as exc:
        told = _told(exc)
        if told is exc:
            raise
        raise told from exc
