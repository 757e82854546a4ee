"""OpenAI's package under `marlin.instrument("openai")`: what its calls count."""

from __future__ import annotations

import gc
import json
from collections.abc import Generator
from typing import Any

import openai
import pytest
from integrations.fakes import openai as fake
from integrations.fakes.http import Answer, Asked, Server, events
from integrations.fakes.openai import (
    ASKED,
    PROMPT_TOKENS,
    REPORTED,
    TEXT_TOKENS,
    async_client,
    client,
)
from metered import Metered
from pydantic import BaseModel

import marlin
from marlin import CarbonBudgetExceededError
from marlin.runtime.integrations import calls


@pytest.fixture(autouse=True)
def _instrumented(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setattr(calls, "_logged", set[Any]())
    marlin.instrument("openai")
    yield
    marlin.uninstrument("openai")


def test_a_chat_completion_counts_what_it_reports() -> None:
    metered = Metered()
    with metered.run, metered.run.agent("writer"):
        answer = client(fake.server()).chat.completions.create(**ASKED)
    assert type(answer).__name__ == "ChatCompletion"
    assert answer.choices[0].message.content == fake.TEXT
    assert metered.tokens == [REPORTED]
    (usage,) = metered.usage
    assert (usage.provider, usage.model, usage.agent_id) == ("openai", fake.MODEL, "writer")
    assert usage.latency_s is not None


async def test_an_async_chat_completion_counts_what_it_reports() -> None:
    metered = Metered()
    async with metered.run:
        answer = await async_client(fake.server()).chat.completions.create(**ASKED)
    assert answer.choices[0].message.content == fake.TEXT
    assert metered.tokens == [REPORTED]


def test_a_response_counts_what_it_reports() -> None:
    metered = Metered()
    with metered.run:
        answer = client(fake.server()).responses.create(model="gpt-4o", input="Sixteen letters.")
    assert answer.output_text == fake.TEXT
    assert metered.tokens == [REPORTED]


async def test_an_async_response_counts_what_it_reports() -> None:
    metered = Metered()
    async with metered.run:
        answer = await async_client(fake.server()).responses.create(model="gpt-4o", input="x")
    assert answer.output_text == fake.TEXT
    assert metered.tokens == [REPORTED]


def test_a_streamed_chat_counts_the_same_and_hides_the_chunk_that_only_we_asked_for() -> None:
    metered, server = Metered(), fake.server()
    with metered.run:
        stream = client(server).chat.completions.create(**ASKED, stream=True)
        assert type(stream).__qualname__ == "Stream"
        chunks = list(stream)
    assert server.asked[0].body["stream_options"] == {"include_usage": True}
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == fake.TEXT
    assert [chunk.usage for chunk in chunks] == [None] * 5
    assert metered.tokens == [REPORTED]
    assert server.answers[0].closed


async def test_an_async_streamed_chat_counts_the_same_and_hides_the_chunk() -> None:
    metered, server = Metered(), fake.server()
    async with metered.run:
        stream = await async_client(server).chat.completions.create(**ASKED, stream=True)
        assert type(stream).__qualname__ == "AsyncStream"
        chunks = [chunk async for chunk in stream]
    assert len(chunks) == 5
    assert metered.tokens == [REPORTED]


def test_a_caller_who_asks_for_the_usage_chunk_gets_it() -> None:
    metered, server = Metered(), fake.server()
    asked = {"include_usage": True, "include_obfuscation": False}
    with metered.run:
        chunks = list(
            client(server).chat.completions.create(**ASKED, stream=True, stream_options=asked)
        )
    assert server.asked[0].body["stream_options"] == asked
    assert chunks[-1].usage.prompt_tokens == 2255
    assert metered.tokens == [REPORTED]


def test_other_stream_options_of_the_caller_stay() -> None:
    server = fake.server()
    with Metered().run:
        stream = client(server).chat.completions.create(
            **ASKED, stream=True, stream_options={"include_obfuscation": False}
        )
        list(stream)
    asked = server.asked[0].body["stream_options"]
    assert asked == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize("asks", [True, False])
def test_an_extra_body_counts_as_the_callers_wish(asks: bool) -> None:
    metered, server = Metered(), fake.server()
    extra = {"stream_options": {"include_usage": asks}, "seed": 7, "user": openai.Omit()}
    with metered.run:
        create = client(server).chat.completions.create
        chunks = list(create(**ASKED, stream=True, extra_body=extra))
    assert server.asked[0].body["stream_options"] == {"include_usage": True}
    assert server.asked[0].body["seed"] == 7
    assert "user" not in server.asked[0].body
    assert len(chunks) == (6 if asks else 5)
    assert metered.tokens == [REPORTED]


def test_a_streamed_response_counts_what_it_reports() -> None:
    metered = Metered()
    with metered.run:
        stream = client(fake.server()).responses.create(model="gpt-4o", input="x", stream=True)
        kinds = [event.type for event in stream]
    assert (kinds[0], kinds[-1], len(kinds)) == ("response.created", "response.completed", 10)
    assert metered.tokens == [REPORTED]


def test_stream_helpers_count_once() -> None:
    metered, server = Metered(), fake.server()
    with metered.run:
        with client(server).chat.completions.stream(**ASKED) as chat:
            assert next(e for e in chat if e.type == "content.done").content == fake.TEXT
            assert chat.get_final_completion().usage is None
        with client(server).responses.stream(model="gpt-4o", input="x") as response:
            response.until_done()
        assert response.get_final_response().output_text == fake.TEXT
    assert metered.tokens == [REPORTED, REPORTED]


async def test_async_stream_helpers_count_once() -> None:
    metered, server = Metered(), fake.server()
    async with metered.run, async_client(server).chat.completions.stream(**ASKED) as chat:
        final = await chat.get_final_completion()
    assert final.choices[0].message.content == fake.TEXT
    assert metered.tokens == [REPORTED]


class Answered(BaseModel):
    grams: int


def test_parsed_completions_count_also_where_the_parser_fails() -> None:
    texts = ['{"grams": 7}', "no json"]
    server = Server(lambda _: Answer(json=fake.chat(texts.pop(0))))
    metered = Metered()
    with metered.run:
        parsed = client(server).chat.completions.parse(**ASKED, response_format=Answered)
        assert parsed.choices[0].message.parsed == Answered(grams=7)
        with pytest.raises(ValueError, match=r"grams|JSON"):
            client(server).chat.completions.parse(**ASKED, response_format=Answered)
    assert metered.tokens == [REPORTED, REPORTED]


def test_a_raw_response_counts_whether_it_is_parsed_or_not() -> None:
    metered, server = Metered(), fake.server()
    raw = client(server).chat.completions.with_raw_response
    with metered.run:
        assert raw.create(**ASKED).http_response.json()["usage"]["prompt_tokens"] == 2255
        assert metered.tokens == [REPORTED]
        assert raw.create(**ASKED).parse().choices[0].message.content == fake.TEXT
    assert metered.tokens == [REPORTED, REPORTED]


def test_a_raw_stream_counts_when_its_response_was_dropped_before_it_is_read() -> None:
    metered, server = Metered(), fake.server()
    with metered.run:
        stream = (
            client(server).chat.completions.with_raw_response.create(**ASKED, stream=True).parse()
        )
        gc.collect()
        client(server).chat.completions.create(**ASKED)
        assert len(list(stream)) == 5
    assert metered.tokens == [REPORTED, REPORTED]


def test_a_streaming_response_counts_when_it_is_dropped() -> None:
    metered, server = Metered(), fake.server()
    pieces = Server(
        lambda _: Answer(content_type="application/json", pieces=(json.dumps(fake.chat()),))
    )
    with metered.run:
        streaming_response = client(pieces).chat.completions.with_streaming_response
        with streaming_response.create(**ASKED) as whole:
            assert whole.json()["model"] == fake.MODEL
        with streaming_response.create(**ASKED) as lines:
            assert len(list(lines.iter_lines())) == 1
        with streaming_response.create(**ASKED) as parsed:
            assert parsed.parse().model == fake.MODEL
        del whole, lines, parsed
        gc.collect()
        client(server).chat.completions.create(**ASKED)
    unread = (PROMPT_TOKENS, 0, 0, 0, 0, "partial")
    assert sorted(metered.tokens) == sorted([REPORTED, REPORTED, REPORTED, unread])


@pytest.mark.parametrize(
    ("base_url", "provider", "region"),
    [
        ("https://api.openai.com/v1", "openai", ""),
        ("https://eu.api.openai.com/v1", "openai", ""),
        ("https://openrouter.ai/api/v1", "openrouter", ""),
        ("https://api.groq.com/openai/v1", "groq", ""),
        ("https://api.together.xyz/v1", "together", ""),
        ("https://contoso.openai.azure.com/openai/v1", "azure", ""),
        ("https://bedrock-runtime.eu-north-1.amazonaws.com/openai/v1", "aws", "eu-north-1"),
        ("http://localhost:8000/v1", "openai-compatible", ""),
        ("https://not-openai.com/v1", "openai-compatible", ""),
    ],
)
def test_the_host_tells_who_serves(base_url: str, provider: str, region: str) -> None:
    metered = Metered()
    with metered.run:
        client(fake.server(), base_url=base_url).chat.completions.create(**ASKED)
    (usage,) = metered.usage
    assert (usage.provider, usage.region) == (provider, region)


def test_azure_is_azure_under_any_host() -> None:
    metered, server = Metered(), fake.server()
    azure = openai.AzureOpenAI(
        api_key="k",
        api_version="2024-10-21",
        azure_endpoint="https://gateway.example",
        http_client=server.client(),
    )
    with metered.run:
        azure.chat.completions.create(**ASKED)
        assert len(list(azure.chat.completions.create(**ASKED, stream=True))) == 5
    assert [usage.provider for usage in metered.usage] == ["azure", "azure"]
    assert metered.tokens == [REPORTED, REPORTED]
    assert server.asked[0].path == "/openai/deployments/gpt-4o/chat/completions"


def test_a_server_that_refuses_the_usage_option_is_asked_without_it() -> None:
    def answer(asked: Asked) -> Answer:
        if "stream_options" in asked.body:
            return Answer(400, json={"error": {"message": "Unknown field: stream_options"}})
        return Answer(pieces=(*events(*fake.chat_chunks()), "data: [DONE]\n\n"))

    metered, server = Metered(), Server(answer)
    with metered.run:
        assert len(list(client(server).chat.completions.create(**ASKED, stream=True))) == 5
    assert len(server.asked) == 2
    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, TEXT_TOKENS, 0, "estimated")]


def test_other_refusals_are_not_repeated() -> None:
    server = Server(lambda _: Answer(400, json={"error": {"message": "bad prompt"}}))
    with Metered().run, pytest.raises(openai.BadRequestError, match="bad prompt"):
        client(server).chat.completions.create(**ASKED, stream=True)
    assert len(server.asked) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_cannot_fit_is_refused_before_any_request(stream: bool) -> None:
    metered, server = Metered(carbon_budget_g=1e-9), fake.server()
    with metered.run:
        with pytest.raises(CarbonBudgetExceededError, match="carbon_budget"):
            client(server).chat.completions.create(**ASKED, stream=stream)
        with pytest.raises(CarbonBudgetExceededError):
            client(server).responses.create(model="gpt-4o", input="x")
    assert server.asked == []
    assert metered.usage == []


async def test_an_async_call_that_cannot_fit_is_refused_before_any_request() -> None:
    metered, server = Metered(carbon_budget_g=1e-9), fake.server()
    async with metered.run:
        with pytest.raises(CarbonBudgetExceededError):
            await async_client(server).chat.completions.create(**ASKED)
    assert server.asked == []


def test_the_reservation_is_settled_by_the_end_of_a_stream() -> None:
    metered = Metered(carbon_budget_g=1000.0)
    with metered.run:
        stream = client(fake.server()).chat.completions.create(**ASKED, stream=True)
        assert metered.run.reserved_g > 0
        list(stream)
        assert metered.run.reserved_g == 0
    assert metered.tokens == [REPORTED]
