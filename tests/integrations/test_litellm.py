"""LiteLLM, metered: every provider's tokens, streams, refusals, and what is never disturbed."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import sys
import types
from collections.abc import Generator
from importlib import import_module
from typing import Any

import httpx
import pytest
from integrations.fakes import anthropic, gemini, openai
from integrations.fakes.http import Answer, Asked, Server, events, serving
from metered import Metered

import marlin
from marlin import CarbonBudgetExceededError

# Before the first import: it would fetch a price list.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

# The package's types are partly unknown to a strict checker.
litellm: Any = import_module("litellm")
caching: Any = import_module("litellm.caching")
custom_logger: Any = import_module("litellm.integrations.custom_logger")

# Pydantic warns of how LiteLLM uses it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

AZURE = "marlin.openai.azure.com"
LOCAL = "models.internal"
MESSAGES = [{"role": "user", "content": "Sixteen letters."}]
PROMPT_TOKENS = 4

CLAUDE: dict[str, Any] = {"model": "anthropic/claude-sonnet-4-5", "api_key": "k"}
GPT: dict[str, Any] = {"model": "openai/gpt-4o", "api_key": "k"}
GEMINI: dict[str, Any] = {"model": "gemini/gemini-2.5-flash", "api_key": "k"}
AZURE_GPT: dict[str, Any] = {
    "model": "azure/gpt-4o",
    "api_key": "k",
    "api_base": f"https://{AZURE}",
    "api_version": "2024-10-21",
}
LOCAL_GPT: dict[str, Any] = {
    "model": "openai/small-7b",
    "api_key": "k",
    "api_base": f"http://{LOCAL}/v1",
}
READ_FROM_CACHE = (1743, 512, 0, 120, 70, "reported")
PROVIDERS = pytest.mark.parametrize(
    ("request_", "provider", "model", "tokens"),
    [
        (GPT, "openai", openai.MODEL, READ_FROM_CACHE),
        (CLAUDE, "anthropic", anthropic.MODEL, (10, 512, 1733, 120, 70, "reported")),
        (GEMINI, "gemini", gemini.MODEL, READ_FROM_CACHE),
        (AZURE_GPT, "azure", openai.MODEL, READ_FROM_CACHE),
        (LOCAL_GPT, "openai", openai.MODEL, READ_FROM_CACHE),
    ],
    ids=["openai", "anthropic", "gemini", "azure", "compatible"],
)
WAYS = pytest.mark.parametrize("way", ["whole", "awhole", "stream", "astream"])
STREAMS = pytest.mark.parametrize("way", ["stream", "astream"])


@pytest.fixture
def servers() -> Generator[dict[str, Server]]:
    """The providers, by host; a test may replace one."""
    found = {
        openai.HOST: openai.server(),
        anthropic.HOST: anthropic.server(),
        gemini.HOST: gemini.server(),
        AZURE: openai.server(),
        LOCAL: openai.server(),
    }
    with serving(found):
        yield found


@pytest.fixture(scope="module", autouse=True)
def _original_afterwards() -> Generator[None]:
    yield
    marlin.uninstrument("litellm")


@pytest.fixture(autouse=True)
def _instrumented(servers: dict[str, Server], monkeypatch: pytest.MonkeyPatch) -> None:
    # Its own HTTP client for asyncio is not httpx; a client of a closed loop cannot be used again.
    monkeypatch.setattr(litellm, "disable_aiohttp_transport", True)
    # Nothing is encrypted here, and reading all certificates for each client takes long.
    monkeypatch.setattr(litellm, "ssl_verify", False)
    litellm.in_memory_llm_clients_cache.flush_cache()
    marlin.instrument("litellm")


async def ask(way: str, **request: Any) -> str:
    """The text of an answer, asked for in this way."""
    match way:
        case "whole":
            answer: Any = litellm.completion(messages=MESSAGES, **request)
        case "awhole":
            answer = await litellm.acompletion(messages=MESSAGES, **request)
        case "stream":
            answer = litellm.completion(messages=MESSAGES, stream=True, **request)
            assert isinstance(answer, litellm.CustomStreamWrapper)
            return "".join(text_of(chunk) for chunk in answer)
        case _:
            answer = await litellm.acompletion(messages=MESSAGES, stream=True, **request)
            assert isinstance(answer, litellm.CustomStreamWrapper)
            return "".join([text_of(chunk) async for chunk in answer])
    return str(answer.choices[0].message.content)


def text_of(chunk: Any) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


@WAYS
@PROVIDERS
async def test_a_call_counts_each_token_once(
    way: str, request_: dict[str, Any], provider: str, model: str, tokens: tuple[int | str, ...]
) -> None:
    metered = Metered()

    with metered.run, metered.run.agent("writer"):
        text = await ask(way, **request_)

    assert text in (openai.TEXT, "Hello there", "Hello there!")
    assert metered.tokens == [tokens]
    (event,) = metered.usage
    assert (event.provider, event.agent_id) == (provider, "writer")
    assert event.model in (model, request_["model"].split("/")[1])


@WAYS
async def test_over_an_instrumented_openai_it_counts_once(way: str) -> None:
    metered = Metered()
    marlin.instrument("openai", "anthropic")
    try:
        with metered.run:
            await ask(way, **GPT)
            await ask(way, **CLAUDE)
    finally:
        marlin.uninstrument("openai", "anthropic")

    assert [event.provider for event in metered.usage] == ["openai", "anthropic"]
    assert len(metered.tokens) == 2


@WAYS
@pytest.mark.parametrize("request_", [AZURE_GPT, LOCAL_GPT], ids=["azure", "compatible"])
async def test_usage_that_we_asked_for_is_not_shown(
    way: str, request_: dict[str, Any], servers: dict[str, Server]
) -> None:
    (server,) = (servers[host] for host in (AZURE, LOCAL) if host in request_["api_base"])
    chunks: list[Any] = []
    if way == "stream":
        chunks += litellm.completion(messages=MESSAGES, stream=True, **request_)
    elif way == "astream":
        answer: Any = await litellm.acompletion(messages=MESSAGES, stream=True, **request_)
        chunks += [chunk async for chunk in answer]
    else:
        await ask(way, **request_)

    assert server.asked[0].body.get("stream_options") == (
        {"include_usage": True} if "stream" in way else None
    )
    assert all(getattr(chunk, "usage", None) is None for chunk in chunks)


@STREAMS
async def test_usage_that_the_caller_asked_for_is_shown(way: str) -> None:
    metered, request = Metered(), AZURE_GPT | {"stream_options": {"include_usage": True}}

    with metered.run:
        if way == "stream":
            chunks: list[Any] = [*litellm.completion(messages=MESSAGES, stream=True, **request)]
        else:
            answer: Any = await litellm.acompletion(messages=MESSAGES, stream=True, **request)
            chunks = [chunk async for chunk in answer]

    assert chunks[-1].usage.prompt_tokens == 2255
    assert metered.tokens == [READ_FROM_CACHE]


@STREAMS
async def test_a_server_that_knows_no_usage_is_asked_as_it_was(
    way: str, servers: dict[str, Server]
) -> None:
    def answer(asked: Asked) -> Answer:
        if "stream_options" in asked.body:
            error = {"message": "unknown field: stream_options", "type": "invalid_request_error"}
            return Answer(400, json={"error": error})
        return Answer(pieces=(*events(*openai.chat_chunks()), "data: [DONE]\n\n"))

    servers[LOCAL] = Server(answer)
    metered = Metered()

    with metered.run:
        text = await ask(way, **LOCAL_GPT)

    assert text == openai.TEXT
    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, openai.TEXT_TOKENS, 0, "estimated")]


@STREAMS
async def test_a_connection_that_breaks_counts_what_came(
    way: str, servers: dict[str, Server]
) -> None:
    pieces = events(*anthropic.message_events(), named=True)[:5]
    broken = Answer(pieces=(*pieces, httpx.ReadError("the connection broke")))
    servers[anthropic.HOST] = Server(lambda asked: broken)
    metered = Metered()

    with metered.run, pytest.raises(Exception, match="the connection broke"):
        await ask(way, **CLAUDE)

    # Counted by the server: the prompt; by length: the 16 characters that came.
    assert metered.tokens == [(10, 512, 1733, 4, 0, "partial")]


@STREAMS
async def test_a_stream_that_is_left_counts_what_was_read(way: str) -> None:
    metered = Metered()
    with metered.run:
        if way == "stream":
            stream: Any = litellm.completion(messages=MESSAGES, stream=True, **CLAUDE)
            next(stream)
        else:
            stream = await litellm.acompletion(messages=MESSAGES, stream=True, **CLAUDE)
            await anext(stream)
        del stream
        gc.collect()

    assert metered.tokens == [(10, 512, 1733, 3, 0, "partial")]


async def test_a_stream_that_is_closed_is_counted_at_once() -> None:
    metered = Metered()
    with metered.run:
        stream: Any = await litellm.acompletion(messages=MESSAGES, stream=True, **CLAUDE)
        await anext(stream)
        await stream.aclose()
        closed = metered.tokens

    assert closed == metered.tokens == [(10, 512, 1733, 3, 0, "partial")]


async def test_a_task_cancelled_while_it_waits_counts_its_prompt() -> None:
    metered, asked = Metered(), asyncio.Event()

    async def never(request: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    client = litellm.AsyncHTTPHandler()
    client.client = httpx.AsyncClient(transport=httpx.MockTransport(never))

    with metered.run:
        task = asyncio.create_task(ask("awhole", **CLAUDE, client=client))
        await asked.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert metered.tokens == [(PROMPT_TOKENS, 0, 0, 0, 0, "partial")]


@WAYS
async def test_a_refusal_counts_nothing_and_reaches_the_caller(
    way: str, servers: dict[str, Server]
) -> None:
    error = {"type": "error", "error": {"type": "authentication_error", "message": "no"}}
    servers[anthropic.HOST] = Server(lambda asked: Answer(401, json=error))
    metered = Metered(carbon_budget_g=1000.0)

    with metered.run, pytest.raises(litellm.AuthenticationError):
        await ask(way, **CLAUDE)

    assert (metered.tokens, metered.run.reserved_g) == ([], 0)


@WAYS
async def test_an_answer_without_usage_is_estimated(way: str, servers: dict[str, Server]) -> None:
    chunks = (*events(*openai.chat_chunks()), "data: [DONE]\n\n")
    servers[openai.HOST] = Server(
        lambda asked: (
            Answer(pieces=chunks)
            if asked.body.get("stream")
            else Answer(json=openai.chat(usage=None))
        )
    )
    metered = Metered()

    with metered.run:
        await ask(way, **GPT)

    ((fresh, *cache, output, _, quality),) = metered.tokens
    assert (fresh, cache, output, quality) == (
        *(PROMPT_TOKENS, [0, 0], openai.TEXT_TOKENS),
        "estimated",
    )


@pytest.mark.parametrize("way", ["whole", "awhole", "stream", "astream", "router", "arouter"])
async def test_a_run_over_its_budget_sends_nothing(way: str, servers: dict[str, Server]) -> None:
    metered = Metered(carbon_budget_g=1e-9, preflight=False)
    router = litellm.Router(
        model_list=[{"model_name": "any", "litellm_params": CLAUDE}], num_retries=3
    )

    async def call() -> None:
        if way == "router":
            # Where a loop runs, it leaves the context behind.
            await asyncio.to_thread(router.completion, model="any", messages=MESSAGES)
        elif way == "arouter":
            await router.acompletion(model="any", messages=MESSAGES)
        else:
            await ask(way, **CLAUDE)

    async def two_agents() -> None:
        with metered.run:
            for name in ("first", "second"):
                with metered.run.agent(name):
                    await call()

    with pytest.raises(CarbonBudgetExceededError) as stopped:
        await two_agents()

    assert len(servers[anthropic.HOST].asked) == 1
    assert stopped.value.agent_id == "first"
    assert [event.agent_id for event in metered.usage] == ["first"]


@WAYS
async def test_a_stopped_run_calls_no_model(way: str, servers: dict[str, Server]) -> None:
    metered = Metered(carbon_budget_g=1e-9)

    with pytest.raises(CarbonBudgetExceededError, match="carbon_budget_forecast"), metered.run:
        await ask(way, **CLAUDE, max_tokens=1000)

    assert servers[anthropic.HOST].asked == []
    assert metered.tokens == []


async def test_what_litellms_cache_answers_counts_nothing(
    monkeypatch: pytest.MonkeyPatch, servers: dict[str, Server]
) -> None:
    # It would import the proxy, to see whether the answer is one of the proxy's.
    def is_one_of_the_proxys(cached_result: object) -> bool:
        return True

    handler = import_module("litellm.caching.caching_handler")
    monkeypatch.setattr(
        handler, "_should_defer_streaming_cache_hit_callbacks", is_one_of_the_proxys
    )
    monkeypatch.setattr(litellm, "cache", caching.Cache())
    metered = Metered()

    with metered.run:
        texts = [await ask("whole", **GPT) for _ in range(3)]

    assert texts == [openai.TEXT] * 3
    assert len(servers[openai.HOST].asked) == 1
    assert metered.tokens == [READ_FROM_CACHE]


async def finished(metered: Metered) -> None:
    """Wait for what LiteLLM does in the background."""
    async with asyncio.timeout(60):
        while not metered.usage:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("way", ["whole", "awhole"])
async def test_other_calls_are_counted_once_litellm_has_logged_them(
    way: str, servers: dict[str, Server]
) -> None:
    vectors = {"object": "embedding", "index": 0, "embedding": [0.5]}
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    found = {"object": "list", "data": [vectors], "model": "text-embedding-3-small"}
    servers[openai.HOST] = Server(lambda asked: Answer(json=found | {"usage": usage}))
    request: dict[str, Any] = {
        "model": "openai/text-embedding-3-small",
        "input": ["Sixteen letters."],
        "api_key": "k",
    }
    metered = Metered()

    with metered.run:
        if way == "whole":
            litellm.embedding(**request)
        else:
            await litellm.aembedding(**request)
        await finished(metered)
        await ask(way, **CLAUDE)

    assert metered.tokens[0] == (8, 0, 0, 0, 0, "reported")
    assert [event.model for event in metered.usage[:2]] == [
        "text-embedding-3-small",
        anthropic.MODEL,
    ]


@pytest.mark.parametrize("way", ["whole", "awhole"])
async def test_other_calls_of_a_stopped_run_are_not_made(
    way: str, servers: dict[str, Server]
) -> None:
    metered = Metered(carbon_budget_g=1e-9, preflight=False)
    request: dict[str, Any] = {"model": "openai/text-embedding-3-small", "input": ["x"]}

    async def over_budget() -> None:
        with metered.run:
            await ask(way, **CLAUDE)
            if way == "whole":
                litellm.embedding(**request)
            else:
                await litellm.aembedding(**request)

    with pytest.raises(CarbonBudgetExceededError):
        await over_budget()

    assert servers[openai.HOST].asked == []


@WAYS
async def test_marlins_own_failures_break_no_call(
    way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a defect in Marlin")

    monkeypatch.setattr("marlin.runtime.meter.MeteredRun.start_call", broken)
    metered = Metered()

    with caplog.at_level(logging.WARNING, "marlin.runtime"), metered.run:
        text = await ask(way, **CLAUDE)

    assert text == anthropic.TEXT
    assert metered.tokens == []


async def test_a_callback_that_raises_stops_nothing_and_is_why_functions_are_replaced(
    monkeypatch: pytest.MonkeyPatch, servers: dict[str, Server]
) -> None:
    class Refuses(custom_logger.CustomLogger):
        def log_pre_api_call(self, model: object, messages: object, kwargs: object) -> None:
            raise RuntimeError("no")

    monkeypatch.setattr(litellm, "callbacks", [Refuses()])

    assert await ask("whole", **CLAUDE) == anthropic.TEXT
    assert len(servers[anthropic.HOST].asked) == 1


async def test_modules_that_hold_the_functions_get_ours_and_theirs_back() -> None:
    marlin.uninstrument("litellm")
    originals = litellm.completion, litellm.acompletion
    module = types.ModuleType("an_agent")
    vars(module).update(completion=originals[0], ask=originals[1])
    sys.modules["an_agent"] = module
    metered = Metered()
    try:
        marlin.instrument("litellm")
        marlin.instrument("litellm")
        asynchronous = [
            inspect.iscoroutinefunction(one)
            for one in (
                *(litellm.completion, litellm.acompletion),
                *(litellm.embedding, litellm.aembedding),
            )
        ]
        with metered.run:
            vars(module)["completion"](messages=MESSAGES, **GPT)
            await vars(module)["ask"](messages=MESSAGES, **GPT)
        marlin.uninstrument("litellm")
        left = vars(module)["completion"], vars(module)["ask"]
    finally:
        del sys.modules["an_agent"]

    assert metered.tokens == [READ_FROM_CACHE] * 2
    assert asynchronous == [False, True, False, True]
    assert left == originals == (litellm.completion, litellm.acompletion)


@WAYS
async def test_without_instrumentation_nothing_is_left_behind(way: str) -> None:
    held = litellm.completion, litellm.acompletion
    await ask(way, **GPT)
    marlin.uninstrument("litellm")
    metered = Metered()

    with metered.run:
        await ask(way, **GPT)
        # Kept from before, ours do as theirs.
        held[0](messages=MESSAGES, **GPT)

    assert metered.tokens == []
    left: list[Any] = litellm.logging_callback_manager.get_all_callbacks() + litellm.input_callback
    assert not any("marlin" in type(one).__module__ for one in left)
