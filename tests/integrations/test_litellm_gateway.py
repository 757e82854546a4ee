"""LiteLLM's own `generic_api` callback against the gateway, with real HTTP between them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from http_gateway import MemoryLog, served
from integrations.fakes import anthropic
from integrations.fakes.http import Answer, Server
from pydantic import SecretStr

from marlin.errors import BrokerError
from marlin.schemas import Usage
from marlin.settings import GatewaySettings

# Before the first import: it would fetch a price list.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

# The package's types are partly unknown to a strict checker.
litellm: Any = pytest.importorskip("litellm")
generic_api: Any = pytest.importorskip("litellm.integrations.generic_api.generic_api_callback")

# Pydantic warns of how LiteLLM uses it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

TOKEN = "a token of sixteen characters"
COUNTED = (10, 512, 1733, 120, 70, "reported")


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def gateway(log: MemoryLog) -> AsyncGenerator[str]:
    async with served(GatewaySettings(token=SecretStr(TOKEN)), log) as url:
        yield f"{url}/v1/litellm"


@pytest.fixture
async def callback(
    gateway: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Callable[..., Any]]:
    """Makes LiteLLM's callback, as its proxy does from `callback_settings`."""
    before = asyncio.all_tasks()
    made: list[Any] = []

    def make(**settings: Any) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        made.append(generic_api.GenericAPILogger(endpoint=gateway, headers=headers, **settings))
        monkeypatch.setattr(litellm, "callbacks", [made[-1]])
        return made[-1]

    yield make
    for callbacks in (litellm._async_success_callback, litellm._async_failure_callback):
        callbacks[:] = [one for one in callbacks if one not in made]
    for task in asyncio.all_tasks() - before - {asyncio.current_task()}:
        task.cancel()


async def call(answering: Server | None = None, **request: Any) -> None:
    """One call of the SDK, read to its end."""
    client = litellm.AsyncHTTPHandler()
    await client.client.aclose()
    client.client = (answering or anthropic.server()).async_client()
    answer = await litellm.acompletion(
        model="anthropic/claude-sonnet-4-5",
        messages=[{"role": "user", "content": "Hello"}],
        api_key="k",
        client=client,
        **request,
    )
    if request.get("stream"):
        async for _ in answer:
            pass


async def logged(callback: Any, count: int) -> None:
    """Wait until LiteLLM has logged so many calls, which it does in the background."""
    async with asyncio.timeout(60):
        while len(callback.log_queue) < count:
            await asyncio.sleep(0.01)


def tokens(log: MemoryLog) -> list[tuple[int | str, ...]]:
    return [
        (
            *(event.input_tokens, event.cache_read_tokens, event.cache_write_tokens),
            *(event.output_tokens, event.reasoning_tokens, event.usage_quality),
        )
        for event in log.events
        if isinstance(event, Usage)
    ]


@pytest.mark.parametrize("log_format", ["json_array", "ndjson", "single"])
async def test_what_the_callback_posts_counts_each_token_once(
    callback: Callable[..., Any], log: MemoryLog, log_format: str
) -> None:
    posts = callback(log_format=log_format)
    await call(metadata={"session_id": "run-42"})
    await call(metadata={"session_id": "run-42"}, stream=True)
    await logged(posts, 2)

    await posts.flush_queue()

    assert tokens(log) == [COUNTED, COUNTED]
    events = [event for event in log.events if isinstance(event, Usage)]
    assert {(one.run_id, one.agent_id, one.provider) for one in events} == {
        ("run-42", "default", "anthropic")
    }
    assert {one.model.split("/")[-1].removesuffix("-20250929") for one in events} == {
        "claude-sonnet-4-5"
    }
    assert all(one.latency_s is not None and one.cost_usd for one in events)


async def test_a_batch_that_is_sent_again_after_a_503_is_the_same_to_the_pipeline(
    callback: Callable[..., Any], log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, unconfirmed = log.publish, [True, False]

    async def publish(events: Any) -> None:
        await taken(events)
        if unconfirmed.pop(0):
            raise BrokerError("Kafka did not confirm; send them again")

    monkeypatch.setattr(log, "publish", publish)
    posts = callback(max_retries=1, retry_delay=0)
    for _ in range(2):
        await call(metadata={"session_id": "run-42"})
    await logged(posts, 2)

    await posts.flush_queue()

    found = [(one.producer_id, one.seq) for one in log.events if isinstance(one, Usage)]
    assert found[:2] == found[2:]
    assert [seq for _, seq in found] == [0, 1, 0, 1]


async def test_failures_are_skipped_where_no_model_ran(
    callback: Callable[..., Any], log: MemoryLog
) -> None:
    posts = callback()
    error = {"type": "error", "error": {"type": "authentication_error", "message": "no"}}
    with pytest.raises(litellm.AuthenticationError):
        await call(Server(lambda asked: Answer(401, json=error)))
    await call()
    await logged(posts, 2)

    await posts.flush_queue()

    assert tokens(log) == [COUNTED]
