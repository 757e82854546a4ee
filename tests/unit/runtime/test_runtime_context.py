from __future__ import annotations

import asyncio

import pytest
from runtime_doubles import REGION, FixedClient, call_g, new_run

from marlin.errors import CarbonBudgetExceededError, ConfigurationError
from marlin.runtime import AgentContext, TokenUsage
from marlin.runtime.context import CallDefaults
from marlin.runtime.run import Run


def context(run: Run, client: FixedClient, *, model: str | None = "large-70b") -> AgentContext:
    return AgentContext(
        run,
        "writer",
        "the task",
        client=client,
        defaults=CallDefaults(model, "", REGION),
        shared={"reader": "text", "reader_carbon_g": 0.5},
        loop=asyncio.get_running_loop(),
    )


async def test_it_is_a_mapping_of_what_came_before() -> None:
    ctx = context(new_run(), FixedClient())

    assert dict(ctx) == {"reader": "text", "reader_carbon_g": 0.5}
    assert len(ctx) == 2
    assert ctx.get("nobody") is None
    with pytest.raises(KeyError):
        ctx["nobody"]


async def test_a_call_is_counted_under_its_agent_with_the_time_it_took() -> None:
    run, client = new_run(), FixedClient()
    ctx = context(run, client)

    reply = await ctx.call_model("hello")

    assert reply.text == "reply 1"
    assert client.calls == [("hello", "large-70b")]
    assert run.agent_totals("writer").carbon_g == call_g()
    assert ctx.run_carbon_g == call_g()


async def test_the_call_that_crosses_returns_and_the_next_is_not_made() -> None:
    client = FixedClient()
    ctx = context(new_run(0.5 * call_g()), client)
    assert ctx.remaining_g == 0.5 * call_g()

    await ctx.call_model("first")
    with pytest.raises(CarbonBudgetExceededError):
        await ctx.call_model("second")
    with pytest.raises(CarbonBudgetExceededError):
        ctx.check()

    assert [prompt for prompt, _ in client.calls] == ["first"]
    assert ctx.remaining_g == 0.0


async def test_without_a_budget_nothing_remains_to_be_said() -> None:
    assert context(new_run(), FixedClient()).remaining_g is None


async def test_a_client_that_raises_is_heard_and_not_counted() -> None:
    class Broken(FixedClient):
        async def complete(self, prompt: str, *, model: str) -> object:  # type: ignore[override]
            raise ConnectionError(prompt)

    run = new_run()

    with pytest.raises(ConnectionError, match="hello"):
        await context(run, Broken()).call_model("hello")
    assert run.totals.calls == 0


async def test_own_calls_are_recorded_with_their_own_names() -> None:
    run = new_run(0.0)
    ctx = context(run, FixedClient())

    event = ctx.record(TokenUsage(10, 20), model="small-7b", provider="gcp", region="eu-north-1")

    assert event.breached
    assert (event.model, event.usage.provider, event.usage.region) == (
        *("small-7b", "gcp"),
        "eu-north-1",
    )
    assert event.usage.latency_s is None


async def test_a_call_needs_a_model() -> None:
    ctx = context(new_run(), FixedClient(), model=None)

    with pytest.raises(ConfigurationError, match="agent writer called a model without naming one"):
        await ctx.call_model("hello")
    assert (await ctx.call_model("hello", model="small-7b")).text == "reply 1"


async def test_the_blocking_call_works_from_a_thread_only() -> None:
    run = new_run()
    ctx = context(run, FixedClient())

    reply = await asyncio.to_thread(ctx.call_model_sync, "hello", model="small-7b")
    with pytest.raises(ConfigurationError, match="block"):
        ctx.call_model_sync("hello")

    assert reply.text == "reply 1"
    assert run.totals.calls == 1
