from __future__ import annotations

import asyncio

import pytest
from runtime_doubles import REGION, FixedClient, Sink, call_g, new_run

from marlin.errors import CarbonBudgetExceededError, ConfigurationError
from marlin.runtime import AgentContext, ModelReply, TokenUsage
from marlin.runtime.context import CallDefaults
from marlin.runtime.integrations.calls import begin
from marlin.runtime.run import Run
from marlin.schemas import Usage


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


async def test_a_call_that_cannot_fit_is_not_made_and_a_smaller_model_may() -> None:
    client = FixedClient()
    run = new_run(0.5 * call_g(), preflight=True)
    ctx = context(run, client)

    with pytest.raises(CarbonBudgetExceededError) as raised:
        await ctx.call_model("first")
    await ctx.call_model("second", model="small-7b")

    assert (raised.value.reason, raised.value.agent_id) == ("carbon_budget_forecast", "writer")
    assert client.calls == [("second", "small-7b")]
    assert (run.stop, run.reserved_g) == (None, 0.0)


async def test_calls_at_once_cannot_all_slip_under_the_budget() -> None:
    class Slow(FixedClient):
        async def complete(self, prompt: str, *, model: str) -> ModelReply:
            await asyncio.sleep(0)
            return await super().complete(prompt, model=model)

    client, run = Slow(), new_run(2.5 * call_g(output_tokens=424), preflight=True)
    ctx = context(run, client)

    replies = await asyncio.gather(
        *(ctx.call_model("x" * 4000) for _ in range(10)), return_exceptions=True
    )

    refused = [reply for reply in replies if isinstance(reply, CarbonBudgetExceededError)]
    assert (len(client.calls), len(refused)) == (2, 8)
    assert run.spent_g == 2 * call_g() < 2.5 * call_g(output_tokens=424)
    assert run.reserved_g == 0.0


async def test_a_cancelled_call_counts_its_prompt_as_partial() -> None:
    class Stuck(FixedClient):
        async def complete(self, prompt: str, *, model: str) -> ModelReply:
            await asyncio.Event().wait()
            raise AssertionError

    sink = Sink()
    run = new_run(1.0, sink=sink, preflight=True)
    task = asyncio.create_task(context(run, Stuck()).call_model("x" * 400))
    await asyncio.sleep(0)
    assert run.reserved_g > 0.0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    (usage,) = sink.events
    assert isinstance(usage, Usage)
    assert (usage.usage_quality, usage.input_tokens, usage.output_tokens) == ("partial", 100, 0)
    assert run.reserved_g == 0.0


async def test_what_an_agent_keeps_is_in_the_error() -> None:
    ctx = context(new_run(0.0), FixedClient())
    ctx.keep("half a page")
    await ctx.call_model("first")

    with pytest.raises(CarbonBudgetExceededError) as raised:
        ctx.check()

    assert raised.value.partial == {"writer": "half a page"}


async def test_an_instrumented_client_below_is_not_counted_again() -> None:
    begun: list[bool] = []

    class Instrumented(FixedClient):
        async def complete(self, prompt: str, *, model: str) -> ModelReply:
            begun.append(begin(provider="openai", model=model, prompt=prompt).counts)
            return await super().complete(prompt, model=model)

    run = new_run()
    await context(run, Instrumented()).call_model("hello")

    assert begun == [False]
    assert run.totals.calls == 1


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
