"""google-genai, metered: what counts, what is refused, and what is never disturbed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, models
from integrations.fakes.gemini import MODEL, USAGE, Gemini, answer, embedding, part, stream
from metered import Metered

import marlin
from marlin import CarbonBudgetExceededError
from marlin.normalise import read
from marlin.runtime.integrations.calls import within
from marlin.runtime.open_calls import OPEN_CALLS

SAMPLES = Path(__file__).parents[2] / "../shared/samples"
ASKED: dict[str, Any] = {"model": "gemini-2.5-flash", "contents": "sixteen letters."}
PROMPT_TOKENS = 4
REPORTED = (1743, 512, 0, 120, 70, "reported")


@pytest.fixture(autouse=True)
def _instrumented() -> Generator[None]:
    marlin.instrument("google")
    yield
    marlin.uninstrument("google")


async def _call(client: Any, way: str) -> str:
    match way:
        case "generate":
            return client.models.generate_content(**ASKED).text or ""
        case "agenerate":
            return (await client.aio.models.generate_content(**ASKED)).text or ""
        case "chat":
            return client.chats.create(model=ASKED["model"]).send_message("Hi").text or ""
        case "achat":
            chat = client.aio.chats.create(model=ASKED["model"])
            return (await chat.send_message("Hi")).text or ""
        case "stream":
            chunks = [one.text for one in client.models.generate_content_stream(**ASKED)]
        case "astream":
            parts = await client.aio.models.generate_content_stream(**ASKED)
            chunks = [one.text async for one in parts]
        case _:
            chat = client.chats.create(model=ASKED["model"])
            chunks = [one.text for one in chat.send_message_stream("Hi")]
    return "".join(one or "" for one in chunks)


WHOLE = pytest.mark.parametrize("way", ["generate", "agenerate", "chat", "achat"])
STREAMED = pytest.mark.parametrize("way", ["stream", "astream", "stream in a chat"])
BOTH = pytest.mark.parametrize("way", ["generate", "agenerate", "stream", "astream"])


def api_for(way: str) -> Gemini:
    return Gemini(stream() if "stream" in way else answer())


@WHOLE
async def test_a_call_counts_each_token_once(way: str) -> None:
    metered, api = Metered(), Gemini()

    with metered.run:
        text = await _call(api.client(), way)

    assert text == "Hello there"
    assert metered.tokens == [REPORTED]
    (event,) = metered.usage
    assert (event.provider, event.model, event.region) == ("google", MODEL, "")


@STREAMED
async def test_a_stream_counts_its_last_totals(way: str) -> None:
    metered, api = Metered(), Gemini(stream())

    with metered.run:
        text = await _call(api.client(), way)

    assert text == "Hello there!"
    assert metered.tokens == [REPORTED]
    assert metered.usage[0].model == MODEL


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples beside this checkout")
def test_the_sample_counts_as_its_rules_say() -> None:
    sample = json.loads((SAMPLES / "gemini_usage_metadata_rest.json").read_text())
    rules = json.loads((SAMPLES / "normalisation_rules.json").read_text())
    expected = rules["expected_for_these_samples"]["gemini"]
    metered = Metered()

    with metered.run:
        Gemini(answer(usage=sample)).client().models.generate_content(**ASKED)

    assert metered.tokens == [
        (
            *(expected[name] for name in ("fresh", "read", "write", "out", "reasoning")),
            "reported",
        )
    ]


@BOTH
async def test_vertex_ai_tells_its_region(way: str) -> None:
    metered, api = Metered(), api_for(way)

    with metered.run:
        await _call(api.client(vertex_location="europe-west4"), way)

    assert "locations/europe-west4" in api.requests[0].path
    assert metered.tokens == [REPORTED]
    assert (metered.usage[0].provider, metered.usage[0].region) == ("google", "europe-west4")


@WHOLE
async def test_an_answer_without_usage_is_estimated_from_lengths(way: str) -> None:
    metered = Metered()

    with metered.run:
        await _call(Gemini(answer(usage=None)).client(), way)

    # "Hello there" is 3 tokens by its length, the prompt 4 (of the chats: 1).
    prompt = 1 if "chat" in way else PROMPT_TOKENS
    assert metered.tokens == [(prompt, 0, 0, 3, 0, "estimated")]


async def test_a_stream_without_usage_is_estimated_from_lengths() -> None:
    metered = Metered()

    with metered.run:
        await _call(Gemini(stream(usage=False)).client(), "stream")

    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, 3, 0, "estimated")]


async def test_a_task_cancelled_half_way_counts_what_came() -> None:
    metered, api = Metered(), Gemini(stream())
    first, never = asyncio.Event(), asyncio.Event()

    async def read_slowly(request: httpx.Request) -> httpx.Response:
        whole = api.server.handle(httpx, request)

        class Slow(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                async for chunk in whole.aiter_raw():
                    yield chunk
                    await never.wait()

        return httpx.Response(200, headers=whole.headers, stream=Slow())

    client: Any = genai.Client(
        api_key="test",
        http_options=genai.types.HttpOptions(
            httpx_async_client=httpx.AsyncClient(transport=httpx.MockTransport(read_slowly))
        ),
    )

    async def consume() -> None:
        async for _ in await client.aio.models.generate_content_stream(**ASKED):
            first.set()

    with metered.run:
        task = asyncio.create_task(consume())
        await first.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    # The first chunk's totals: 20 candidates and 70 thoughts.
    assert metered.tokens == [(1743, 512, 0, 90, 70, "partial")]


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_connection_that_breaks_counts_what_came(way: str) -> None:
    metered, api = Metered(), Gemini(stream())
    api.breaks_after = 2

    with metered.run, pytest.raises(httpx.ReadError):
        await _call(api.client(), way)

    assert metered.tokens == [(1743, 512, 0, 105, 70, "partial")]


async def test_output_that_is_not_counted_yet_is_estimated() -> None:
    prompt_only = {"usageMetadata": {"promptTokenCount": 2255}}
    api = Gemini([part("Hello ") | prompt_only, part("there!") | prompt_only])
    api.breaks_after = 1
    metered = Metered()

    with metered.run, pytest.raises(httpx.ReadError):
        await _call(api.client(), "stream")

    assert metered.tokens == [(2255, 0, 0, 2, 0, "partial")]


async def _generators_closed() -> None:
    """The loop closes a dropped asynchronous generator in a task, which drops the next one."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize(
    ("items", "tokens"),
    [(1, (1743, 512, 0, 90, 70, "partial")), (3, REPORTED)],
)
async def test_a_stream_that_is_left_counts_what_was_read(
    way: str, items: int, tokens: tuple[int | str, ...]
) -> None:
    metered, client = Metered(), Gemini(stream()).client()
    with metered.run:
        if way == "stream":
            chunks = client.models.generate_content_stream(**ASKED)
            for _ in range(items):
                next(chunks)
            del chunks
        else:
            parts = await client.aio.models.generate_content_stream(**ASKED)
            for _ in range(items):
                await anext(parts)
            await parts.aclose()
            del parts
            await _generators_closed()
        OPEN_CALLS.settle_dropped()

    assert metered.tokens == [tokens]


@BOTH
@pytest.mark.parametrize("status", [400, 429, 503])
async def test_a_refusal_counts_nothing_and_reaches_the_caller(way: str, status: int) -> None:
    metered = Metered(carbon_budget_g=1000.0)

    with metered.run, pytest.raises(errors.APIError) as refused:
        await _call(Gemini(status).client(), way)

    assert refused.value.code == status
    assert metered.tokens == []
    assert metered.run.reserved_g == 0


@pytest.mark.parametrize("way", ["generate", "agenerate"])
async def test_after_a_time_out_the_prompt_counts(way: str) -> None:
    metered = Metered()

    with metered.run, pytest.raises(httpx.ReadTimeout):
        await _call(Gemini(httpx.ReadTimeout("too slow")).client(), way)

    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, 0, 0, "partial")]


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def test_functions_that_the_package_calls_are_calls_of_their_own() -> None:
    wanted = {"functionCall": {"name": "weather", "args": {"city": "Ulm"}}}
    metered, api = Metered(), Gemini(answer(wanted), answer())

    with metered.run:
        chat = api.client().chats.create(model=ASKED["model"], config={"tools": [weather]})
        text = chat.send_message("How is it in Ulm?").text

    assert (text, len(api.requests)) == ("Hello there", 2)
    assert metered.tokens == [REPORTED, REPORTED]


def test_embeddings_count_their_input() -> None:
    metered = Metered()
    with metered.run:
        vertex = Gemini(embedding(3, 4)).client(vertex_location="us-central1")
        vertex.models.embed_content(model="text-embedding-005", contents=["a", "b"])
        gemini = Gemini({"embeddings": [{"values": [0.5]}]}).client()
        gemini.models.embed_content(model="gemini-embedding-001", contents="sixteen letters.")

    assert metered.tokens == [(7, 0, 0, 0, 0, "reported"), (4, 0, 0, 0, 0, "estimated")]
    assert [event.model for event in metered.usage] == [
        "text-embedding-005",
        "gemini-embedding-001",
    ]


@pytest.mark.parametrize("way", [*WHOLE.args[1], *STREAMED.args[1]])
async def test_a_run_over_its_budget_sends_nothing(way: str) -> None:
    metered, api = Metered(carbon_budget_g=1e-9, preflight=False), api_for(way)

    async def two_agents() -> None:
        with metered.run:
            for name in ("first", "second"):
                with metered.run.agent(name):
                    await _call(api.client(), way)

    with pytest.raises(CarbonBudgetExceededError) as stopped:
        await two_agents()

    assert len(api.requests) == 1
    assert stopped.value.agent_id == "first"
    assert [event.agent_id for event in metered.usage] == ["first"]


async def test_a_call_that_cannot_fit_is_refused_before_it_is_made() -> None:
    metered, api = Metered(carbon_budget_g=1e-9), Gemini()

    with pytest.raises(CarbonBudgetExceededError, match="carbon_budget_forecast"), metered.run:
        api.client().models.generate_content(**ASKED, config={"max_output_tokens": 1000})

    assert api.requests == []
    assert metered.tokens == []


@BOTH
async def test_an_outer_call_that_counts_is_left_to_count(way: str) -> None:
    metered = Metered()

    with metered.run, within():
        await _call(api_for(way).client(), way)

    assert metered.tokens == []


@BOTH
async def test_marlins_own_failures_break_no_call(
    way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a defect in Marlin")

    monkeypatch.setattr("marlin.runtime.meter.MeteredRun.start_call", broken)
    metered = Metered()

    with caplog.at_level(logging.WARNING, "marlin.runtime"), metered.run:
        text = await _call(api_for(way).client(), way)

    assert text.startswith("Hello there")
    assert metered.tokens == []


async def test_an_answer_that_cannot_be_read_is_estimated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nonsense = USAGE | {"cachedContentTokenCount": 9_999_999}
    metered = Metered()

    with caplog.at_level(logging.WARNING, "marlin.runtime"), metered.run:
        text = await _call(Gemini(answer(usage=nonsense)).client(), "generate")

    assert text == "Hello there"
    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, 3, 0, "estimated")]


async def test_without_instrumentation_nothing_is_left_behind() -> None:
    names = ("_generate_content", "_generate_content_stream", "embed_content")
    instrumented = [vars(one)[name] for one in OWNERS for name in names]
    marlin.uninstrument("google")
    originals = [vars(one)[name] for one in OWNERS for name in names]
    metered = Metered()

    with metered.run:
        await _call(Gemini().client(), "generate")
        streamed = await _call(Gemini(stream()).client(), "stream")

    assert (streamed, metered.tokens) == ("Hello there!", [])
    assert all(one.__module__ == "google.genai.models" for one in originals)
    assert not any(mine is theirs for mine, theirs in zip(instrumented, originals, strict=True))
    marlin.instrument("google")
    marlin.instrument("google")
    assert [vars(one)[name].__wrapped__ for one in OWNERS for name in names] == originals


OWNERS = (models.Models, models.AsyncModels)


def test_its_answers_can_be_recorded_by_hand() -> None:
    found = Gemini().client().models.generate_content(**ASKED)
    metered = Metered()

    with metered.run:
        metered.run.record(found)

    assert read(found).provider == "google"
    assert metered.tokens == [REPORTED]
    assert (metered.usage[0].provider, metered.usage[0].model) == ("google", MODEL)
