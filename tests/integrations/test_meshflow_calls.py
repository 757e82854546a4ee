"""The model calls of the package `meshflow`: mocked, cached, streamed, cancelled, of tools."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from integrations.fakes import anthropic as anthropic_fake
from integrations.fakes.http import serving
from meshflow import (
    Agent,
    AnthropicProvider,
    Mesh,
    Policy,
    tool,
)
from meshflow.cache import InMemoryCache
from meshflow_workflows import (
    LONG_TASK,
    MODEL,
    ONE_CALL,
    Provider,
    Way,
    every_way,
    team,
    team_stream,
)
from metered import Metered

import marlin
from marlin import CarbonBudgetExceededError, TokenUsage
from marlin.normalise import read
from marlin.runtime.integrations.calls import begin


@pytest.fixture(autouse=True)
def _instrumented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None]:
    monkeypatch.setenv("MESHFLOW_MOCK", "1")
    monkeypatch.chdir(tmp_path)
    marlin.instrument("meshflow")
    yield
    marlin.uninstrument("meshflow")


async def test_the_mock_is_estimated_from_lengths() -> None:
    metered = Metered()
    async with metered.run:
        result = await Agent("echo", model=MODEL).run("abcd")
    assert result["result"].startswith("[echo] Task: abcd")
    (usage,) = metered.usage
    assert usage.usage_quality == "estimated"
    assert usage.output_tokens == -(-len(result["result"]) // 4)
    assert usage.input_tokens > usage.output_tokens / 2
    assert usage.provider == ""


async def test_agents_that_nobody_named_are_called_by_their_role() -> None:
    metered = Metered()
    async with metered.run:
        await Mesh(policy=Policy()).run(LONG_TASK)
    assert list(dict.fromkeys(one.agent_id for one in metered.usage)) == [
        *("planner", "researcher", "executor", "critic")
    ]


def _inner_call() -> None:
    inner = begin(provider="sdk", model=MODEL, prompt="sixteen letters.")
    inner.finish(lambda: read(TokenUsage(3, 4)))


@every_way
async def test_an_instrumented_package_below_counts_in_its_place(way: Way) -> None:
    metered = Metered()
    async with metered.run:
        await way(Provider(inside=_inner_call))
        assert metered.run.reserved_g == 0
    assert metered.tokens == [(3, 0, 0, 4, 0, "reported")] * 3
    assert [one.agent_id for one in metered.usage] == ["researcher", "writer", "critic"]


@pytest.mark.parametrize("way", ["run", "stream"])
async def test_anthropics_package_below_counts_exactly(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    marlin.instrument("anthropic")
    metered = Metered()
    with serving({anthropic_fake.HOST: anthropic_fake.server()}):
        agent = Agent("real", model="claude-opus-4-5", provider=AnthropicProvider())
        async with metered.run:
            if way == "run":
                assert (await agent.run("a task"))["result"] == anthropic_fake.TEXT
            else:
                texts: Any = agent.stream("a task")
                assert "".join([text async for text in texts]) == anthropic_fake.TEXT
    marlin.uninstrument("anthropic")
    assert metered.tokens == [anthropic_fake.REPORTED]
    assert [(one.agent_id, one.provider) for one in metered.usage] == [("real", "anthropic")]


async def test_meshflows_number_is_divided_where_nothing_below_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    metered = Metered()
    with serving({anthropic_fake.HOST: anthropic_fake.server()}):
        agent = Agent("real", model="claude-opus-4-5", provider=AnthropicProvider())
        async with metered.run:
            await agent.run("a task")
            await agent.run("a task")
    # 10 fresh tokens and 120 of output are told as 130; the answer's text is 6 of them.
    assert metered.tokens == [(124, 512, 1733, 6, 0, "estimated")] * 2
    assert {one.provider for one in metered.usage} == {"anthropic"}


async def test_the_model_calls_of_tools_count_beside_their_agents() -> None:
    def plain() -> None:
        _inner_call()

    async def asynchronous() -> None:
        _inner_call()

    tools: list[Any] = [tool(name="plain")(plain), tool(name="asynchronous")(asynchronous)]
    metered = Metered()
    async with metered.run:
        await Agent("user", model=MODEL, provider=Provider(), tools=tools).run("a task")
        assert metered.run.reserved_g == 0
    assert metered.tokens == [(3, 0, 0, 4, 0, "reported")] * 2 + [ONE_CALL]
    assert {one.agent_id for one in metered.usage} == {"user"}


async def test_an_answer_out_of_meshflows_cache_took_nothing() -> None:
    metered, provider = Metered(), Provider()
    agent = Agent("cached", model="gpt-4o", provider=provider, cache=InMemoryCache())
    async with metered.run:
        first, second = await agent.run("a task"), await agent.run("a task")
    assert first["result"] == second["result"]
    assert (len(provider.calls), metered.tokens) == (1, [ONE_CALL])


async def test_a_provider_that_fails_takes_nothing_and_meshflow_goes_on_as_it_does() -> None:
    metered = Metered()
    async with metered.run:
        result = await team(Provider(fails=True))
        assert metered.run.reserved_g == 0
        with pytest.raises(ConnectionError):
            await Agent("alone", model=MODEL, provider=Provider(fails=True)).run("a task")
    assert (result.completed, metered.tokens) == (False, [])


async def test_a_cancelled_call_counts_its_prompt() -> None:
    metered, provider = Metered(), Provider(waits=True)
    async with metered.run:
        task = asyncio.create_task(team(provider))
        while not provider.calls:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert metered.run.reserved_g == 0
    ((input_tokens, _, _, output_tokens, _, quality),) = metered.tokens
    assert (output_tokens, quality) == (0, "partial")
    assert input_tokens > 10


async def test_a_streamed_answer_counts() -> None:
    metered = Metered()
    async with metered.run:
        chunks = await team_stream(Provider())
        assert [chunk.content for chunk in chunks if chunk.kind == "token"] == [
            *("four", "char", "word") * 3
        ]
    assert [(one.output_tokens, one.usage_quality) for one in metered.usage] == [
        (3, "estimated")
    ] * 3
    assert [one.agent_id for one in metered.usage] == ["researcher", "writer", "critic"]


async def test_a_stream_that_is_left_counts_what_came() -> None:
    metered = Metered()
    async with metered.run:
        stream: Any = Agent("teller", model=MODEL, provider=Provider()).stream("a task")
        assert await anext(stream) == "four"
        await stream.aclose()
        assert metered.run.reserved_g == 0
    assert [(one.agent_id, one.output_tokens, one.usage_quality) for one in metered.usage] == [
        ("teller", 1, "partial")
    ]


async def test_streams_in_parallel_that_are_refused_do_not_wait_without_end() -> None:
    metered, provider = Metered(1e-9), Provider()
    with pytest.raises(CarbonBudgetExceededError):
        async with metered.run, asyncio.timeout(20):
            await team_stream(provider, "parallel")
    assert provider.calls == []


async def test_a_stream_alone_is_refused_at_once() -> None:
    metered, provider = Metered(1e-9), Provider()
    stream: Any = Agent("teller", model=MODEL, provider=provider).stream("a task")
    with pytest.raises(CarbonBudgetExceededError):
        async with metered.run:
            await anext(stream)
