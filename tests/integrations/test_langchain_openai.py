"""LangChain's OpenAI package over a fake of the HTTP layer: the same tokens, counted once."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from integrations.fakes import openai as fake
from integrations.fakes.http import Answer, Server, events, serving
from langchain_openai import ChatOpenAI
from metered import Metered

import marlin
from marlin import CarbonBudgetExceededError

REPORTED = (1743, 512, 0, 120, 70, "reported")


@pytest.fixture(params=[["langchain"], ["openai", "langchain"]], ids="+".join)
def _instrumented(request: pytest.FixtureRequest) -> Generator[None]:
    marlin.instrument(*request.param)
    yield
    marlin.uninstrument(*request.param)


pytestmark = pytest.mark.usefixtures("_instrumented")


def _model(**params: Any) -> ChatOpenAI:
    key: Any = "none"
    return ChatOpenAI(model="gpt-4o", api_key=key, max_retries=0, **params)


async def _call(model: ChatOpenAI, way: str) -> str:
    config: Any = {"run_name": "writer"}
    match way:
        case "invoke":
            return model.invoke("Hi", config=config).text
        case "ainvoke":
            return (await model.ainvoke("Hi", config=config)).text
        case "stream":
            return "".join(chunk.text for chunk in model.stream("Hi", config=config))
        case _:
            return "".join([chunk.text async for chunk in model.astream("Hi", config=config)])


WAYS = pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])


@WAYS
@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
async def test_cached_and_reasoning_tokens_count_once(way: str, responses: bool) -> None:
    metered, server = Metered(), fake.server()
    async with metered.run:
        with serving({fake.HOST: server}):
            model = _model(use_responses_api=responses)
            assert await _call(model, way) == fake.TEXT
        assert metered.run.reserved_g == 0
    assert metered.tokens == [REPORTED]
    (usage,) = metered.usage
    assert (usage.agent_id, usage.provider, usage.model) == ("writer", "openai", fake.MODEL)


@WAYS
async def test_a_refused_request_counts_nothing(way: str) -> None:
    metered = Metered()
    server = Server(lambda _: Answer(429, json={"error": {"message": "slow down"}}))
    async with metered.run:
        with serving({fake.HOST: server}), pytest.raises(Exception, match="slow down"):
            await _call(_model(), way)
        assert metered.run.reserved_g == 0
    assert metered.tokens == []


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_that_breaks_counts_what_came(way: str) -> None:
    broken = (*events(*fake.chat_chunks()[:3]), ConnectionResetError("gone"))
    metered, server = Metered(), Server(lambda _: Answer(pieces=broken))
    async with metered.run:
        with serving({fake.HOST: server}), pytest.raises(ConnectionResetError):
            await _call(_model(), way)
        assert metered.run.reserved_g == 0
    ((_, _, _, output_tokens, _, quality),) = metered.tokens
    # 16 characters came.
    assert (output_tokens, quality) == (4, "partial")


async def _read_two_chunks(model: ChatOpenAI, way: str) -> None:
    if way == "stream":
        stream: Any = model.stream("Hi")
        next(stream)
        next(stream)
        stream.close()
    else:
        astream: Any = model.astream("Hi")
        await anext(astream)
        await anext(astream)
        await astream.aclose()


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_that_is_left_counts_what_came(way: str) -> None:
    metered = Metered()
    with serving({fake.HOST: fake.server()}):
        async with metered.run:
            await _read_two_chunks(_model(), way)
    assert metered.run.reserved_g == 0
    ((_, _, _, output_tokens, _, quality),) = metered.tokens
    # 10 characters came.
    assert (output_tokens, quality) == (3, "partial")


@WAYS
async def test_a_spent_budget_stops_before_the_request(way: str) -> None:
    metered, server = Metered(1e-9, preflight=False), fake.server()
    with serving({fake.HOST: server}), pytest.raises(CarbonBudgetExceededError) as stopped:  # noqa: PT012  # the run is left too
        async with metered.run:
            await _call(_model(), way)
            await _call(_model(), way)
    assert len(server.asked) == 1
    assert stopped.value.agent_id == "writer"
