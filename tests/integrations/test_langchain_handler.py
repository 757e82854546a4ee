"""LangChain's models under Marlin's handler: what counts, what stops, what is never disturbed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import uuid
from collections.abc import Generator
from contextvars import copy_context
from functools import partial
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import CallbackManager
from langchain_core.language_models import FakeListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import Generation, LLMResult
from langchain_core.runnables import RunnableLambda
from langchain_models import USAGE, ScriptedModel
from metered import Metered

import marlin
from marlin import CarbonBudgetExceededError, TokenUsage
from marlin.normalise import read
from marlin.runtime.integrations import langchain as integration
from marlin.runtime.integrations.calls import begin
from marlin.runtime.integrations.langchain import MarlinCallbackHandler

REPORTED = (10, 512, 1733, 120, 70, "reported")
PROMPT = "sixteen letters."
"""4 tokens by its length."""


@pytest.fixture(autouse=True)
def _instrumented() -> Generator[None]:
    marlin.instrument("langchain")
    yield
    marlin.uninstrument("langchain")


async def _call(model: ScriptedModel, way: str) -> str:
    match way:
        case "invoke":
            return str(model.invoke(PROMPT).content)
        case "ainvoke":
            return str((await model.ainvoke(PROMPT)).content)
        case "stream":
            return " ".join(str(chunk.content) for chunk in model.stream(PROMPT) if chunk.content)
        case _:
            chunks = [str(chunk.content) async for chunk in model.astream(PROMPT) if chunk.content]
            return " ".join(chunks)


WAYS = pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])


@WAYS
async def test_the_usage_of_a_call_is_what_the_provider_says(way: str) -> None:
    metered, model = Metered(), ScriptedModel()
    with metered.run:
        assert await _call(model, way) == "four char word here"
    assert metered.tokens == [REPORTED]
    (usage,) = metered.usage
    assert usage.provider == "scriptedmodel"
    assert usage.model == ("large-70b" if "stream" in way else "large-70b-2026-01-01")
    assert usage.agent_id == "default"
    assert metered.run.reserved_g == 0


@WAYS
async def test_a_call_without_usage_is_estimated_from_lengths(way: str) -> None:
    metered, model = Metered(), ScriptedModel(usage=None)
    with metered.run:
        await _call(model, way)
    # 16 characters asked; 16 characters answered in a stream, 19 with the spaces between.
    output_tokens = 4 if "stream" in way else 5
    assert metered.tokens == [(4, 0, 0, output_tokens, 0, "estimated")]


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
        {
            "input_tokens": 5,
            "output_tokens": 1,
            "total_tokens": 6,
            "input_token_details": {"cache_read": 6},
        },
        {"input_tokens": -5, "output_tokens": 1, "total_tokens": -4},
    ],
    ids=["zeros", "more cached than there is", "negative"],
)
def test_usage_that_cannot_be_is_estimated(usage: dict[str, Any]) -> None:
    metered, model = Metered(), ScriptedModel(usage=usage)
    with metered.run:
        model.invoke(PROMPT)
    assert metered.tokens == [(4, 0, 0, 5, 0, "estimated")]


def test_response_metadata_is_the_fallback() -> None:
    answer = AIMessage(
        "hi",
        response_metadata={"token_usage": {"prompt_tokens": 7, "completion_tokens": 3}},
    )
    metered = Metered()
    with metered.run:
        GenericFakeChatModel(messages=iter([answer])).invoke(PROMPT)
    assert metered.tokens == [(7, 0, 0, 3, 0, "reported")]
    assert metered.usage[0].model == "unknown"


def test_tool_calls_are_output_and_schemas_are_input() -> None:
    answer = AIMessage("", tool_calls=[{"name": "find", "args": {"q": "abcdefgh"}, "id": "1"}])
    metered = Metered()
    model = GenericFakeChatModel(messages=iter([answer]))
    with metered.run:
        model.invoke(PROMPT, tools=[{"name": "find", "description": "x" * 12}])
    # 16 + 4 + 12 characters in, 4 + 8 out.
    assert metered.tokens == [(8, 0, 0, 3, 0, "estimated")]


def test_a_plain_completion_model_counts_too() -> None:
    metered = Metered()
    with metered.run:
        FakeListLLM(responses=["eight ch"]).invoke(PROMPT)
    assert metered.tokens == [(4, 0, 0, 2, 0, "estimated")]


def test_several_prompts_of_one_completion_share_no_usage() -> None:
    handler, runs, metered = MarlinCallbackHandler(), [uuid.uuid4() for _ in range(2)], Metered()
    with metered.run:
        params: dict[str, Any] = {}
        for run_id in runs:
            handler.on_llm_start(
                {}, [PROMPT], run_id=run_id, batch_size=2, invocation_params=params
            )
        shared = {"token_usage": {"prompt_tokens": 900, "completion_tokens": 90}}
        for run_id, overall in zip(runs, [shared, {"token_usage": {}}], strict=True):
            answer = LLMResult(generations=[[Generation(text="four")]], llm_output=overall)
            handler.on_llm_end(answer, run_id=run_id)
    assert metered.tokens == [(4, 0, 0, 1, 0, "estimated")] * 2


def test_given_explicitly_it_meters_this_call_alone() -> None:
    marlin.uninstrument("langchain")
    metered, model = Metered(), ScriptedModel()
    with metered.run:
        model.invoke(PROMPT)
        model.invoke(PROMPT, config={"callbacks": [MarlinCallbackHandler()]})
    assert metered.tokens == [REPORTED]


def test_given_both_ways_a_call_counts_once() -> None:
    marlin.instrument("langchain")
    metered, model = Metered(), ScriptedModel()
    chain: Any = RunnableLambda[Any, Any](lambda text: model.invoke(str(text)))
    with metered.run:
        chain.invoke(PROMPT, config={"callbacks": [MarlinCallbackHandler()]})
    assert metered.tokens == [REPORTED]


def test_uninstrumented_nothing_is_left() -> None:
    assert any(
        isinstance(one, MarlinCallbackHandler) for one in CallbackManager.configure().handlers
    )
    marlin.uninstrument("langchain")
    marlin.uninstrument("langchain")
    assert CallbackManager.configure().handlers == []
    metered = Metered()
    with metered.run:
        ScriptedModel().invoke(PROMPT)
    assert metered.tokens == []
    marlin.instrument("langchain")
    assert len(CallbackManager.configure().handlers) == 1


def test_an_answer_out_of_langchains_cache_took_nothing() -> None:
    metered, model = Metered(), ScriptedModel(cache=InMemoryCache())
    with metered.run:
        assert model.invoke(PROMPT).content == model.invoke(PROMPT).content
    assert model.calls == [PROMPT]
    assert metered.tokens == [REPORTED]
    assert metered.run.reserved_g == 0


@WAYS
async def test_a_spent_budget_stops_before_the_next_call(way: str) -> None:
    metered, model = Metered(1e-9, preflight=False), ScriptedModel()
    with pytest.raises(CarbonBudgetExceededError) as stopped:  # noqa: PT012  # the run is left too
        async with metered.run:
            await _call(model, way)
            await _call(model, way)
    assert model.calls == [PROMPT]
    assert metered.tokens == [REPORTED]
    assert stopped.value.step == 1
    assert metered.run.result.status.value == "aborted"


def test_a_call_that_cannot_fit_is_not_made() -> None:
    metered, model = Metered(1e-9), ScriptedModel()
    with pytest.raises(CarbonBudgetExceededError) as refused, metered.run:
        model.invoke(PROMPT)
    assert refused.value.reason == "carbon_budget_forecast"
    assert model.calls == []


@WAYS
async def test_a_call_that_the_provider_refuses_takes_nothing(way: str) -> None:
    metered, model = Metered(), ScriptedModel(fail_after=0)
    with metered.run:
        with pytest.raises(ConnectionError):
            await _call(model, way)
        assert metered.run.reserved_g == 0
    assert metered.tokens == []


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_broken_stream_counts_what_came(way: str) -> None:
    metered, model = Metered(), ScriptedModel(fail_after=2)
    with metered.run, pytest.raises(ConnectionError):
        await _call(model, way)
    assert metered.tokens == [(4, 0, 0, 2, 0, "partial")]


def test_a_stream_that_is_closed_counts_what_came() -> None:
    metered, model = Metered(), ScriptedModel()
    with metered.run:
        stream = model.stream(PROMPT)
        assert next(stream).content == "four"
        stream.close()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert metered.tokens == [(4, 0, 0, 1, 0, "partial")]


def test_a_prompt_that_a_stream_told_is_known_exactly() -> None:
    usage: dict[str, Any] = {
        "input_tokens": 100,
        "output_tokens": 1,
        "total_tokens": 101,
        "input_token_details": {"cache_read": 60},
    }
    metered, model = Metered(), ScriptedModel(usage=usage, usage_first=True, fail_after=3)
    with metered.run, pytest.raises(ConnectionError):
        list(model.stream(PROMPT))
    assert metered.tokens == [(40, 60, 0, 3, 0, "partial")]


async def _until(model: ScriptedModel) -> None:
    while not model.calls:
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_cancelled_stream_counts_what_came() -> None:
    metered, model = Metered(), ScriptedModel(pause_after=3)
    with metered.run:
        task = asyncio.create_task(_call(model, "astream"))
        await _until(model)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert metered.run.reserved_g == 0
    assert metered.tokens == [(4, 0, 0, 3, 0, "partial")]


async def test_a_call_that_is_cancelled_counts_its_prompt() -> None:
    """LangChain calls nothing back then: the end of the task tells."""
    metered, model = Metered(), ScriptedModel(pause_after=0)
    with metered.run:
        task = asyncio.create_task(_call(model, "ainvoke"))
        await _until(model)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert metered.run.reserved_g == 0
    assert metered.tokens == [(4, 0, 0, 0, 0, "partial")]


async def test_a_call_given_up_within_its_task_is_settled_when_the_run_ends() -> None:
    metered, model = Metered(), ScriptedModel(pause_after=0)
    with metered.run, contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await model.ainvoke(PROMPT)
    assert metered.tokens == [(4, 0, 0, 0, 0, "partial")]


async def test_a_stream_whose_chunks_are_awaited_in_tasks_of_their_own_counts_whole() -> None:
    metered, model = Metered(), ScriptedModel()
    with metered.run:
        stream = aiter(model.astream(PROMPT))
        with contextlib.suppress(StopAsyncIteration):
            while True:
                await asyncio.create_task(anext(stream))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportUnknownVariableType]
    assert metered.tokens == [REPORTED]


def test_a_handler_that_is_dropped_settles_what_it_knew() -> None:
    metered, handler = Metered(), MarlinCallbackHandler()
    with metered.run:
        handler.on_llm_start({}, [PROMPT], run_id=uuid.uuid4())
        del handler
        gc.collect()
        ScriptedModel().invoke(PROMPT)
        assert [one[-1] for one in metered.tokens] == ["partial", "reported"]


def test_calls_that_never_end_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integration, "MAX_OPEN_CALLS", 2)
    metered, handler = Metered(), MarlinCallbackHandler()
    runs = [uuid.uuid4() for _ in range(3)]
    with metered.run:
        for run_id in runs:
            start = partial(handler.on_llm_start, {}, [PROMPT], run_id=run_id)
            copy_context().run(start)
        assert metered.tokens == [(4, 0, 0, 0, 0, "partial")]
        handler.on_llm_end(LLMResult(generations=[]), run_id=runs[0])
        assert len(metered.tokens) == 1
        for run_id in runs[1:]:
            handler.on_llm_end(LLMResult(generations=[]), run_id=run_id)
    assert metered.tokens[1:] == [(4, 0, 0, 0, 0, "missing")] * 2


def test_a_batch_in_threads_counts_each_call() -> None:
    metered, model = Metered(), ScriptedModel()
    with metered.run:
        model.batch([f"prompt {number}" for number in range(7)])
    assert metered.tokens == [REPORTED] * 7


@pytest.mark.parametrize(
    ("config", "agent"),
    [
        ({"tags": ["seq:1", "agent:researcher"], "run_name": "named"}, "researcher"),
        ({"run_name": "named"}, "named"),
        ({"metadata": {"langgraph_node": "node", "lc_agent_name": "whole"}}, "whole"),
        ({"metadata": {"langgraph_node": "node"}, "run_name": "named"}, "node"),
        ({"metadata": {"langgraph_node": 7}, "tags": ["agent:"]}, "default"),
        ({"run_name": "x" * 300}, "x" * 256),
    ],
)
def test_the_agent_is_who_langchain_says(config: Any, agent: str) -> None:
    metered = Metered()
    with metered.run:
        ScriptedModel().invoke(PROMPT, config=config)
    assert [one.agent_id for one in metered.usage] == [agent]


def test_an_agent_that_the_user_names_wins() -> None:
    metered = Metered()
    with metered.run, metered.run.agent("mine"):
        ScriptedModel().invoke(PROMPT, config={"run_name": "named"})
    assert [one.agent_id for one in metered.usage] == ["mine"]


class _ModelOverASdk(ScriptedModel):
    """Calls a provider's package that is instrumented too, which counts 1 token in and 1 out."""

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        inner = begin(provider="sdk", model="large-70b", prompt=PROMPT)
        inner.finish(lambda: read(TokenUsage(1, 1)))
        return super()._generate(*args, **kwargs)

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        inner = begin(provider="sdk", model="large-70b", prompt=PROMPT)
        yield from super()._stream(*args, **kwargs)
        inner.finish(lambda: read(TokenUsage(1, 1)))


@WAYS
async def test_an_instrumented_package_below_counts_in_its_place(way: str) -> None:
    metered = Metered()
    with metered.run:
        model: Any = _ModelOverASdk().with_config(run_name="writer")
        await _call(model, way)
        assert metered.run.reserved_g == 0
    assert metered.tokens == [(1, 0, 0, 1, 0, "reported")]
    assert [(one.provider, one.agent_id) for one in metered.usage] == [("sdk", "writer")]


def test_a_batch_over_an_instrumented_package_counts_each_call_once() -> None:
    metered, model = Metered(), _ModelOverASdk()
    with metered.run:
        model.generate([[HumanMessage("a")], [HumanMessage("b")], [HumanMessage("c")]])
        assert metered.run.reserved_g == 0
    assert metered.tokens == [(1, 0, 0, 1, 0, "reported")] * 3


async def test_a_batch_of_one_request_counts_each_call() -> None:
    metered, model = Metered(), ScriptedModel()
    with metered.run:
        model.generate([[HumanMessage("a")], [HumanMessage("b")]])
        await model.agenerate([[HumanMessage("a")], [HumanMessage("b")]])
    assert metered.tokens == [REPORTED] * 4


def test_a_call_between_two_chunks_is_a_call_of_its_own() -> None:
    metered, model = Metered(), ScriptedModel()
    with metered.run:
        for _ in model.stream(PROMPT):
            own = begin(provider="sdk", model="large-70b", prompt=PROMPT)
            assert own.counts
            own.fail()
    assert metered.tokens == [REPORTED]


@WAYS
async def test_a_marlin_that_fails_disturbs_nothing(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect of Marlin's own")

    metered, model = Metered(), ScriptedModel()
    with metered.run:
        with monkeypatch.context() as patch:
            patch.setattr(integration, "_begin", broken)
            assert await _call(model, way) == "four char word here"
        with monkeypatch.context() as patch:
            patch.setattr(metered.run, "start_call", broken)
            assert await _call(model, way) == "four char word here"
        with monkeypatch.context() as patch:
            patch.setattr(integration, "_reading", broken)
            patch.setattr(integration, "characters_of", broken)
            assert await _call(model, way) == "four char word here"
    # What is counted in spite of the last: the prompt, by its length, or what the stream told.
    assert [one[-1] for one in metered.tokens] == ["missing"]


def test_callbacks_take_any_arguments() -> None:
    handler, run_id, metered = MarlinCallbackHandler(), uuid.uuid4(), Metered()
    hostile: Any = object()
    with metered.run:
        handler.on_chat_model_start({}, hostile, run_id=run_id)
        handler.on_chat_model_start(
            {},
            [[HumanMessage("hi")]],
            run_id=run_id,
            metadata={"ls_model_name": 5, "ls_provider": None, "ls_max_tokens": -3},
            invocation_params={"model": "", "tools": hostile},
        )
        handler.on_llm_new_token(hostile, chunk=hostile, run_id=run_id)
        handler.on_stream_event({}, run_id=run_id)
        handler.on_stream_event({"event": "message-start", "id": "x"}, run_id=run_id)
        handler.on_llm_end(hostile, run_id=uuid.uuid4())
        handler.on_llm_error(ValueError(), run_id=uuid.uuid4())
        handler.on_llm_end(LLMResult(generations=[[]]), run_id=run_id)
    assert metered.tokens == [(1, 0, 0, 0, 0, "missing")]


async def test_event_streams_of_version_3_count_like_others() -> None:
    metered, model = Metered(), ScriptedModel()
    with metered.run:
        stream = model.stream_events(PROMPT, version="v3")
        list(stream)
    assert metered.tokens == [REPORTED]
    broken = Metered()
    with broken.run, contextlib.suppress(ConnectionError):
        list(ScriptedModel(fail_after=2).stream_events(PROMPT, version="v3"))
    assert broken.tokens == [(4, 0, 0, 2, 0, "partial")]


def test_the_samples_expected_usage_is_the_scripted_one() -> None:
    assert USAGE["input_tokens"] == 10 + 512 + 1733
