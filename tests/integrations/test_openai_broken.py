"""OpenAI's package: streams left half way, answers without usage, errors."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Generator
from typing import Any

import httpx
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

import marlin
from marlin.runtime.integrations import calls
from marlin.runtime.open_calls import OPEN_CALLS


@pytest.fixture(autouse=True)
def _instrumented(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setattr(calls, "_logged", set[Any]())
    marlin.instrument("openai")
    yield
    marlin.uninstrument("openai")


def streaming(*pieces: str | Exception) -> Server:
    return Server(lambda _: Answer(pieces=pieces))


CHUNKS = events(*fake.chat_chunks())


def test_a_closed_stream_is_partial() -> None:
    metered, server = Metered(), fake.server()
    with metered.run:
        stream = client(server).chat.completions.create(**ASKED, stream=True)
        assert len([next(stream), next(stream)]) == 2
        stream.close()
        assert metered.tokens == [(PROMPT_TOKENS, 0, 0, 3, 0, "partial")]
    assert len(metered.usage) == 1
    assert server.answers[0].closed


def test_a_stream_left_by_its_with_block_is_partial() -> None:
    metered = Metered()
    with metered.run:
        with client(fake.server()).chat.completions.create(**ASKED, stream=True) as stream:
            for _ in stream:
                break
        assert metered.tokens == [(PROMPT_TOKENS, 0, 0, 0, 0, "partial")]
        with client(fake.server()).chat.completions.stream(**ASKED) as chat:
            for event in chat:
                if event.type == "content.delta" and event.delta:
                    break
        assert metered.tokens[1] == (PROMPT_TOKENS, 0, 0, 3, 0, "partial")


def test_a_dropped_stream_is_partial_at_the_next_call() -> None:
    metered, server = Metered(), fake.server()
    with metered.run:
        stream = client(server).chat.completions.create(**ASKED, stream=True)
        assert len([next(stream), next(stream), next(stream)]) == 3
        del stream
        gc.collect()
        client(server).chat.completions.create(**ASKED)
    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, 4, 0, "partial"), REPORTED]
    assert len(OPEN_CALLS) == 0


def test_a_stream_still_open_at_the_end_of_its_run_is_partial() -> None:
    metered = Metered()
    with metered.run:
        stream = client(fake.server()).chat.completions.create(**ASKED, stream=True)
        assert len([next(stream), next(stream)]) == 2
    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, 3, 0, "partial")]
    assert metered.run.result.total_tokens == PROMPT_TOKENS + 3
    assert len(list(stream)) == 3


def test_a_broken_stream_is_partial_and_raises_what_it_raised() -> None:
    metered = Metered()
    with metered.run:
        server = streaming(*CHUNKS[:3], httpx.ReadError("gone"))
        stream = client(server).chat.completions.create(**ASKED, stream=True)
        with pytest.raises(httpx.ReadError, match="gone"):
            list(stream)
    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, 4, 0, "partial")]


async def test_a_cancelled_stream_is_partial() -> None:
    metered = Metered()
    async with metered.run:
        stream = await async_client(fake.server()).chat.completions.create(**ASKED, stream=True)
        seen: list[Any] = []

        async def read() -> None:
            async for chunk in stream:
                seen.append(chunk)
                if len(seen) == 3:
                    await asyncio.sleep(3600)

        task = asyncio.create_task(read())
        while len(seen) < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stream.close()
    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, 4, 0, "partial")]


async def test_a_call_cancelled_in_flight_counts_its_prompt() -> None:
    metered = Metered()
    arrived = asyncio.Event()

    async def hang(_: httpx.Request) -> httpx.Response:
        arrived.set()
        await asyncio.sleep(3600)
        raise AssertionError

    hanging: Any = openai.AsyncOpenAI(
        api_key="k", http_client=httpx.AsyncClient(transport=httpx.MockTransport(hang))
    )
    async with metered.run:
        task: asyncio.Task[Any] = asyncio.create_task(hanging.chat.completions.create(**ASKED))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, 0, 0, "partial")]


def test_a_stream_without_usage_is_estimated_from_its_length() -> None:
    metered = Metered()
    with metered.run:
        chunks = list(
            client(streaming(*CHUNKS, "data: [DONE]\n\n")).chat.completions.create(
                **ASKED, stream=True
            )
        )
    assert len(chunks) == 5
    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, TEXT_TOKENS, 0, "estimated")]


def test_usage_so_far_in_each_chunk_is_not_taken_for_the_final_one() -> None:
    so_far = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    chunks = [{**chunk, "usage": so_far} for chunk in fake.chat_chunks()]
    metered = Metered()
    with metered.run:
        stream = client(streaming(*events(*chunks))).chat.completions.create(**ASKED, stream=True)
        assert next(stream).usage is not None
        stream.close()
    assert metered.tokens == [(9, 0, 0, 2, 0, "partial")]


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 5, "completion_tokens": -1}])
def test_an_answer_without_believable_usage_is_estimated(
    usage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    metered = Metered()
    with metered.run, caplog.at_level(logging.WARNING, "marlin.runtime"):
        server = Server(lambda _: Answer(json=fake.chat(usage=usage)))
        client(server).chat.completions.create(**ASKED)
    # The text, and `assistant` nowhere: roles are no text.
    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, TEXT_TOKENS, 0, "estimated")]
    assert ("completion_tokens is -1" in caplog.text) == (usage is not None)


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_an_error_of_the_provider_counts_nothing_and_gives_its_reservation_back(
    status: int,
) -> None:
    metered = Metered(carbon_budget_g=100.0)
    server = Server(lambda _: Answer(status=status, json={"error": {"message": "no"}}))
    with metered.run:
        with pytest.raises(openai.APIStatusError) as raised:
            client(server).chat.completions.create(**ASKED)
        assert metered.run.reserved_g == 0
    assert raised.value.status_code == status
    assert metered.usage == []


def test_a_stream_that_begins_with_an_error_counts_nothing() -> None:
    metered = Metered()
    server = streaming('data: {"error": {"message": "overloaded"}}\n\n')
    with metered.run:
        stream = client(server).chat.completions.create(**ASKED, stream=True)
        with pytest.raises(openai.APIError, match="overloaded"):
            next(stream)
    assert metered.usage == []


@pytest.mark.parametrize(
    ("error", "counted"), [(httpx.ConnectTimeout("slow"), 0), (httpx.ReadTimeout("slow"), 1)]
)
def test_a_timeout_counts_the_prompt_if_the_request_had_gone_out(
    error: Exception, counted: int
) -> None:
    def fail(_: Asked) -> Answer:
        raise error

    metered = Metered()
    with metered.run, pytest.raises(openai.APITimeoutError):
        client(Server(fail)).chat.completions.create(**ASKED)
    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, 0, 0, "partial")] * counted


def test_other_endpoints_are_left_alone() -> None:
    listing: dict[str, Any] = {"object": "list", "data": []}
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    embedded = {
        **listing,
        "data": [vector],
        "model": "e",
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }
    metered = Metered()
    with metered.run:
        client(Server(lambda _: Answer(json=embedded))).embeddings.create(
            model="e", input="x", encoding_format="float"
        )
        assert len(list(client(Server(lambda _: Answer(json=listing))).models.list())) == 0
    assert metered.usage == []
