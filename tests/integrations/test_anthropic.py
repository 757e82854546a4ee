"""Anthropic's package under `marlin.instrument("anthropic")`: what counts, what never changes."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Generator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.lib.bedrock import AnthropicBedrock
from anthropic.lib.vertex import AnthropicVertex
from integrations.fakes import anthropic as fake
from integrations.fakes.anthropic import (
    ASKED,
    PROMPT_TOKENS,
    REPORTED,
    TEXT_TOKENS,
    async_client,
    client,
)
from integrations.fakes.http import Answer, Asked, Server, events
from metered import Metered

import marlin
from marlin import CarbonBudgetExceededError
from marlin.runtime.integrations import calls

EVENTS = events(*fake.message_events(), named=True)
STARTED = (10, 512, 1733, 3, 0, "partial")
"""A stream left after its first ten characters: the input is known from its start."""


@pytest.fixture(autouse=True)
def _instrumented(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setattr(calls, "_logged", set[Any]())
    marlin.instrument("anthropic")
    yield
    marlin.uninstrument("anthropic")


def streaming(*pieces: str | Exception) -> Server:
    return Server(lambda _: Answer(pieces=pieces))


def test_a_message_counts_what_it_reports() -> None:
    metered = Metered()
    with metered.run, metered.run.agent("writer"):
        answer = client(fake.server()).messages.create(**ASKED)
    assert type(answer).__qualname__ == "Message"
    assert answer.content[0].text == fake.TEXT
    assert metered.tokens == [REPORTED]
    (usage,) = metered.usage
    assert (usage.provider, usage.model, usage.agent_id) == ("anthropic", fake.MODEL, "writer")


async def test_an_async_message_counts_what_it_reports() -> None:
    metered = Metered()
    async with metered.run:
        answer = await async_client(fake.server()).messages.create(**ASKED)
    assert answer.content[0].text == fake.TEXT
    assert metered.tokens == [REPORTED]


def test_a_streamed_message_counts_the_same() -> None:
    metered, server = Metered(), fake.server()
    with metered.run:
        stream = client(server).messages.create(**ASKED, stream=True)
        assert type(stream).__qualname__ == "Stream"
        kinds = [event.type for event in stream]
    assert (kinds[0], kinds[-2:], len(kinds)) == (
        *("message_start", ["message_delta", "message_stop"], 8),
    )
    assert metered.tokens == [REPORTED]
    assert server.answers[0].closed


async def test_an_async_streamed_message_counts_the_same() -> None:
    metered = Metered()
    async with metered.run:
        stream = await async_client(fake.server()).messages.create(**ASKED, stream=True)
        assert len([event async for event in stream]) == 8
    assert metered.tokens == [REPORTED]


def test_the_stream_helper_counts_once() -> None:
    metered = Metered()
    with metered.run:
        with client(fake.server()).messages.stream(**ASKED) as stream:
            assert "".join(stream.text_stream) == fake.TEXT
        assert stream.get_final_message().usage.output_tokens == 120
    assert metered.tokens == [REPORTED]


async def test_the_async_stream_helper_counts_once() -> None:
    metered = Metered()
    async with metered.run, async_client(fake.server()).messages.stream(**ASKED) as stream:
        assert "".join([text async for text in stream.text_stream]) == fake.TEXT
    assert metered.tokens == [REPORTED]


def test_beta_messages_count_alike() -> None:
    metered = Metered()
    with metered.run:
        beta = client(fake.server()).beta.messages
        assert beta.create(**ASKED, betas=["x"]).content[0].text == fake.TEXT
        with beta.stream(**ASKED) as stream:
            assert stream.get_final_text() == fake.TEXT
    assert metered.tokens == [REPORTED, REPORTED]


def test_raw_answers_count_alike() -> None:
    metered, server = Metered(), fake.server()
    raw = client(server).messages.with_raw_response
    with metered.run:
        assert raw.create(**ASKED).http_response.json()["usage"]["input_tokens"] == 10
        assert raw.create(**ASKED).parse().content[0].text == fake.TEXT
        assert len(list(raw.create(**ASKED, stream=True).parse())) == 8
    assert metered.tokens == [REPORTED] * 3


def test_a_gateway_that_tells_everything_at_the_end_is_read_alike() -> None:
    sent = fake.message_events(start={"input_tokens": 0, "output_tokens": 0}, delta=fake.USAGE)
    metered = Metered()
    with metered.run:
        server = streaming(*events(*sent, named=True))
        list(client(server).messages.create(**ASKED, stream=True))
    assert metered.tokens == [REPORTED]


def test_a_closed_stream_is_partial_with_the_input_it_reported() -> None:
    metered, server = Metered(), fake.server()
    with metered.run:
        with client(server).messages.create(**ASKED, stream=True) as stream:
            for event in stream:
                if event.type == "content_block_delta":
                    break
        assert metered.tokens == [STARTED]
        with client(server).messages.stream(**ASKED) as helper:
            next(iter(helper.text_stream))
    assert metered.tokens == [STARTED, STARTED]
    assert [answer.closed for answer in server.answers] == [True, True]


def test_a_dropped_stream_is_closed_and_partial() -> None:
    metered, server = Metered(), fake.server()
    with metered.run:
        stream = client(server).messages.create(**ASKED, stream=True)
        for _ in range(3):
            next(stream)
        del stream
        gc.collect()
    assert metered.tokens == [STARTED]
    assert server.answers[0].closed


def test_closing_after_the_last_count_is_complete() -> None:
    metered = Metered()
    with metered.run:
        stream = client(fake.server()).messages.create(**ASKED, stream=True)
        while next(stream).type != "message_delta":
            pass
        stream.close()
    assert metered.tokens == [REPORTED]


def test_a_broken_stream_is_partial() -> None:
    metered = Metered()
    with metered.run:
        server = streaming(*EVENTS[:4], httpx2.ReadError("gone"))
        with pytest.raises(httpx2.ReadError):
            list(client(server).messages.create(**ASKED, stream=True))
    assert metered.tokens == [STARTED]


async def test_a_cancelled_stream_is_partial() -> None:
    reading = asyncio.Event()
    metered = Metered()

    async def read() -> None:
        async with async_client(fake.server()).messages.stream(**ASKED) as stream:
            async for _ in stream.text_stream:
                reading.set()
                await asyncio.sleep(3600)

    async with metered.run:
        task = asyncio.create_task(read())
        await asyncio.wait_for(reading.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert metered.tokens == [STARTED]


def test_an_error_before_the_first_event_counts_nothing() -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    metered = Metered(carbon_budget_g=100.0)
    with metered.run:
        server = streaming(*events(overloaded, named=True))
        stream = client(server).messages.create(**ASKED, stream=True)
        with pytest.raises(anthropic.APIStatusError, match="busy"):
            next(stream)
        refused = Server(lambda _: Answer(529, json=overloaded))
        with pytest.raises(anthropic.APIStatusError, match="busy"):
            client(refused).messages.create(**ASKED)
        assert metered.run.reserved_g == 0
    assert metered.usage == []


@pytest.mark.parametrize("usage", [None, {"input_tokens": 5, "output_tokens": "many"}])
def test_an_answer_without_believable_usage_is_estimated(usage: Any) -> None:
    metered = Metered()
    with metered.run:
        server = Server(lambda _: Answer(json=fake.message(usage=usage)))
        client(server).messages.create(**ASKED)
    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, TEXT_TOKENS, 0, "estimated")]


def test_counting_tokens_and_batches_are_left_alone() -> None:
    metered = Metered()
    with metered.run:
        server = Server(lambda _: Answer(json={"input_tokens": 7}))
        counted = client(server).messages.count_tokens(
            model="claude-opus-4-5", messages=ASKED["messages"]
        )
    assert counted.input_tokens == 7
    assert metered.usage == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_cannot_fit_is_refused_before_any_request(stream: bool) -> None:
    metered, server = Metered(carbon_budget_g=1e-9), fake.server()
    with metered.run:
        with pytest.raises(CarbonBudgetExceededError):
            client(server).messages.create(**ASKED, stream=stream)
        with (
            pytest.raises(CarbonBudgetExceededError),
            client(server).messages.stream(**ASKED),
        ):
            pass
    assert server.asked == []


async def test_an_async_call_that_cannot_fit_is_refused_before_any_request() -> None:
    metered, server = Metered(carbon_budget_g=1e-9), fake.server()
    async with metered.run:
        with pytest.raises(CarbonBudgetExceededError):
            await async_client(server).messages.create(**ASKED)
    assert server.asked == []


def test_bedrock_is_aws_and_its_options_are_copied_without_harm() -> None:
    metered, server = Metered(), fake.server()
    bedrock = AnthropicBedrock(
        aws_access_key="k", aws_secret_key="s", aws_region="eu-north-1",
        http_client=server.client(httpx2), max_retries=0,
    )  # fmt: skip
    with metered.run:
        bedrock.messages.create(**ASKED)
    (usage,) = metered.usage
    assert (usage.provider, usage.region) == ("aws", "eu-north-1")
    assert metered.tokens == [REPORTED]
    assert server.asked[0].path == "/model/claude-opus-4-5/invoke"


@pytest.mark.parametrize(("region", "counted"), [("europe-west1", "europe-west1"), ("global", "")])
def test_vertex_is_google(region: str, counted: str) -> None:
    metered, server = Metered(), fake.server()
    vertex = AnthropicVertex(
        access_token="t", project_id="p", region=region,
        http_client=server.client(httpx2), max_retries=0,
    )  # fmt: skip
    with metered.run:
        vertex.messages.create(**ASKED)
        assert len(list(vertex.messages.create(**ASKED, stream=True))) == 8
    assert [(one.provider, one.region) for one in metered.usage] == [("google", counted)] * 2
    assert metered.tokens == [REPORTED, REPORTED]


def test_other_hosts_and_requested_places_are_named() -> None:
    metered, server = Metered(), fake.server()
    with metered.run:
        client(server, base_url="https://gateway.example").messages.create(**ASKED)
        client(server).messages.create(**ASKED, inference_geo="us")
    named = [(usage.provider, usage.region) for usage in metered.usage]
    assert named == [("anthropic-compatible", ""), ("anthropic", "us")]


def test_uninstrumenting_puts_the_originals_back() -> None:
    def originals() -> list[object]:
        return [anthropic.Anthropic.request, anthropic.AsyncAnthropic.request]

    ours = originals()
    marlin.uninstrument("anthropic")
    theirs = originals()
    assert not set(ours) & set(theirs)
    marlin.instrument("anthropic")
    marlin.instrument("anthropic")
    marlin.uninstrument("anthropic")
    assert originals() == theirs
    metered = Metered()
    with metered.run:
        client(fake.server()).messages.create(**ASKED)
    assert metered.usage == []


async def test_marlin_failing_inside_never_breaks_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Marlin broke")

    module = "marlin.runtime.integrations.anthropic"
    with Metered(carbon_budget_g=1000.0).run:
        for name in (
            *(f"{module}._Collector.observe", f"{module}._Collector.reading"),
            *(f"{module}._Messages.read", f"{module}._Messages.collector", f"{module}._served_by"),
        ):
            monkeypatch.setattr(name, broken)
            assert client(fake.server()).messages.create(**ASKED).content[0].text == fake.TEXT
            with client(fake.server()).messages.stream(**ASKED) as stream:
                assert stream.get_final_text() == fake.TEXT
            events_ = await async_client(fake.server()).messages.create(**ASKED, stream=True)
            assert len([event async for event in events_]) == 8


def test_the_body_goes_out_as_the_caller_wrote_it() -> None:
    metered = fake.server()
    with Metered().run:
        client(metered).messages.create(**ASKED)
    marlin.uninstrument("anthropic")
    plain = fake.server()
    client(plain).messages.create(**ASKED)

    def sent(server: Server) -> Asked:
        return server.asked[0]

    assert json.dumps(sent(metered).body) == json.dumps(sent(plain).body)
    assert sent(metered).headers == sent(plain).headers
