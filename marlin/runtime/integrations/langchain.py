"""LangChain and LangGraph: a callback handler that asks before each model call and tells after it.

    marlin.instrument("langchain")                                     # every model, or
    graph.invoke(state, config={"callbacks": [MarlinCallbackHandler()]})   # this call alone

Given both ways, a call counts once. The handler is synchronous and runs inline, because only such
a handler can stop a graph, sync and async alike: what an async one raises, a sync `invoke` drops.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, ParamSpec, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult
from langchain_core.tracers.context import register_configure_hook

from marlin.errors import CarbonBudgetExceededError, DataError
from marlin.normalise import Reading
from marlin.normalise import langchain as shapes
from marlin.runtime.current import DEFAULT_AGENT, current_agent
from marlin.runtime.integrations.calls import (
    MeteredCall,
    Outer,
    begin,
    characters_of,
    log_once,
    reading,
)
from marlin.tokens import TokenUsage, tokens_of_length

__all__ = ["MarlinCallbackHandler", "instrument", "uninstrument"]

MAX_OPEN_CALLS = 10_000
"""Calls under way that one handler remembers. Beyond it the oldest, which most likely will never
be heard of again, are counted as partial."""

MAX_NAME_CHARACTERS = 256
"""Limit of the contracts; a longer name of a node or a model is cut."""

UNKNOWN_MODEL = "unknown"
"""For a model that tells no name: estimated by the widest class, with its code."""


AGENT_TAG = "agent:"
"""A tag that names the agent of a call: `config={"tags": ["agent:researcher"]}`."""


P = ParamSpec("P")


@dataclass(slots=True, eq=False)
class _Progress:
    """What is known of a call before its end."""

    streams: bool = False
    characters: int = 0
    """Of streamed output."""
    usage: UsageMetadata | None = None
    """What the streamed chunks said of it."""

    def reading(self) -> Reading:
        """Its prompt where chunks told, and the output as long as it is by now."""
        output_tokens = tokens_of_length(self.characters)
        if self.usage is None:
            return Reading(TokenUsage(0, output_tokens, quality="partial"))
        tokens = shapes.usage_metadata(self.usage)
        return Reading(replace(tokens, output_tokens=max(tokens.output_tokens, output_tokens)))


@dataclass(slots=True, eq=False)
class _Batch:
    """Several prompts given to a model at once: their calls all start before the first is made."""

    params: object
    """The very object that all of its starts are given."""
    before: Context
    """As it was before the first start: there none gives way to the others."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class _OpenCall:
    """A model call between its start and its end. Dropped, it is settled by its progress."""

    call: MeteredCall
    outer: Outer
    progress: _Progress
    batch: _Batch | None
    unwatch: Callable[[], None] = lambda: None


def _undisturbed(callback: Callable[P, None]) -> Callable[P, None]:
    """`raise_error` lets everything through; the user's call must only ever see the budget."""

    @wraps(callback)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except CarbonBudgetExceededError:
            raise
        except Exception:
            log_once("langchain", "a LangChain call could not be metered")

    return guarded


class MarlinCallbackHandler(BaseCallbackHandler):
    """Meters the model calls of whatever it is given to. One may serve any number of calls.

    A start raises `CarbonBudgetExceededError` where the run must stop, or the call does not fit;
    nothing else is ever raised.
    """

    raise_error = True
    run_inline = True

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[UUID, _OpenCall] = {}
        self._lock = threading.Lock()

    @property
    def ignore_chain(self) -> bool:
        return True

    @property
    def ignore_agent(self) -> bool:
        return True

    @property
    def ignore_retriever(self) -> bool:
        return True

    @property
    def ignore_retry(self) -> bool:
        return True

    @property
    def ignore_custom_event(self) -> bool:
        return True

    @_undisturbed
    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        texts = [[m.content, getattr(m, "tool_calls", None)] for one in messages for m in one]
        self._start(run_id, texts, tags, metadata, kwargs)

    @_undisturbed
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._start(run_id, prompts, tags, metadata, kwargs)

    @_undisturbed
    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        message = chunk.message if isinstance(chunk, ChatGenerationChunk) else None
        # Arguments of tool calls are output too, and no part of the token.
        self._streamed(run_id, [token, getattr(message, "tool_call_chunks", None)])
        usage = getattr(message, "usage_metadata", None)
        if usage is not None and (one := self._open.get(run_id)) is not None:
            one.progress.usage = add_usage(one.progress.usage, usage)

    @_undisturbed
    def on_stream_event(
        self,
        event: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if event["event"] == "content-block-delta":
            self._streamed(run_id, event["delta"])

    @_undisturbed
    def on_llm_end(
        self,
        response: LLMResult,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        one = self._close(run_id)
        if one is None:
            return
        if _is_from_cache(response):
            one.call.fail()
        else:
            one.call.finish(lambda: _reading(response, one.batch is not None))

    @_undisturbed
    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        response: LLMResult | None = None,
        **kwargs: Any,
    ) -> None:
        one = self._close(run_id)
        if one is None:
            return
        so_far = one.progress
        so_far.characters = max(so_far.characters, characters_of(_outputs(response)))
        # A provider's error came instead of an answer. What is no `Exception` (a cancelled task, a
        # closed generator) came from this side: the provider was generating.
        if isinstance(error, Exception) and not so_far.characters and so_far.usage is None:
            one.call.fail()
        else:
            one.call.partial(so_far.reading)

    def _start(
        self,
        run_id: UUID,
        prompt: object,
        tags: Sequence[str] | None,
        metadata: Mapping[str, Any] | None,
        params: Mapping[str, Any],
    ) -> None:
        batch = self._batch(params)
        asked = partial(_begin, prompt, tags or (), metadata or {}, params)
        call = batch.before.run(asked) if batch else asked()
        if not call.counts:
            return
        one = _OpenCall(call, Outer.enter(call), _Progress(), batch)
        one.unwatch = _when_task_ends(lambda cancelled: self._orphan(run_id, cancelled))
        call.keep_open(partial(call.partial, one.progress.reading), one)
        with self._lock:
            self._open[run_id] = one
            crowded = len(self._open) > MAX_OPEN_CALLS
            oldest = next(iter(self._open))
        if crowded:
            self._abandon(oldest)

    def _batch(self, params: Mapping[str, Any]) -> _Batch | None:
        if params.get("batch_size") in (None, 1):
            return None
        invocation = params.get("invocation_params")
        with self._lock:
            for one in reversed(self._open.values()):
                if one.batch is not None and one.batch.params is invocation:
                    return one.batch
        return _Batch(invocation, copy_context())

    def _streamed(self, run_id: UUID, output: object) -> None:
        if (one := self._open.get(run_id)) is not None:
            # The request is out: what the user does between two chunks is no part of this call.
            one.outer.end()
            one.progress.streams = True
            one.progress.characters += characters_of(output)

    def _close(self, run_id: UUID) -> _OpenCall | None:
        with self._lock:
            one = self._open.pop(run_id, None)
        if one is not None:
            one.outer.end()
            one.unwatch()
        return one

    def _abandon(self, run_id: UUID) -> None:
        if (one := self._close(run_id)) is not None:
            one.call.partial(one.progress.reading)

    def _orphan(self, run_id: UUID, cancelled: bool) -> None:
        """The task that started a call ended before it.

        LangChain is silent about an `ainvoke` that is cancelled. A stream whose first chunk was
        awaited in a task of its own (`asyncio.wait_for`) goes on.
        """
        one = self._open.get(run_id)
        if one is not None and (cancelled or not one.progress.streams):
            self._abandon(run_id)


def _begin(
    prompt: object,
    tags: Sequence[str],
    metadata: Mapping[str, Any],
    params: Mapping[str, Any],
) -> MeteredCall:
    from marlin.runtime.meter import metering_run  # heavy; as in `begin`

    invocation: Mapping[str, Any] = params.get("invocation_params") or {}
    model = _text(
        metadata.get("ls_model_name"), invocation.get("model"), invocation.get("model_name")
    )
    limit = metadata.get("ls_max_tokens")
    begun = partial(
        begin,
        provider=_text(metadata.get("ls_provider")),
        model=model or UNKNOWN_MODEL,
        prompt=[prompt, invocation.get("tools"), invocation.get("functions")],
        max_output_tokens=limit if type(limit) is int and limit > 0 else None,
    )
    agent = _agent(tags, metadata, params)
    # A name that the user gives, by `run.agent(...)`, wins.
    if not agent or current_agent() != DEFAULT_AGENT:
        return begun()
    with metering_run().agent(agent):
        return begun()


def _agent(tags: Sequence[str], metadata: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Who calls, as LangGraph, a tag or the name of the runnable tells; "" where none does."""
    tagged = [tag.removeprefix(AGENT_TAG) for tag in tags if tag.startswith(AGENT_TAG)]
    return _text(
        *tagged,
        # An agent made by LangChain's create_agent has one node for its model, named "model".
        metadata.get("lc_agent_name"),
        metadata.get("langgraph_node"),
        params.get("name"),
    )


def _text(*candidates: object) -> str:
    """The first of them that is a text with anything in it, cut to what an event carries."""
    for one in candidates:
        if isinstance(one, str) and one.strip():
            return one[:MAX_NAME_CHARACTERS]
    return ""


def _when_task_ends(then: Callable[[bool], None]) -> Callable[[], None]:
    """Call `then` (was it cancelled?) at the end of the task that runs now, if one does.

    Gives what takes the request back.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop in this thread
        task = None
    if task is None:
        return lambda: None

    def ended(task: asyncio.Task[Any]) -> None:
        then(task.cancelled())

    def take_back() -> None:
        task.remove_done_callback(ended)

    task.add_done_callback(ended)
    return take_back


def _outputs(response: LLMResult | None) -> list[Any]:
    """Whatever was generated: texts, content blocks, arguments of tool calls."""
    found: list[Any] = []
    for generation in (one for many in response.generations for one in many) if response else ():
        message = getattr(generation, "message", None)
        if isinstance(message, BaseMessage):
            found += [message.content, getattr(message, "tool_calls", None)]
        else:
            found.append(generation.text)
    return found


def _first_message(response: LLMResult) -> AIMessage | None:
    """The answer that carries the usage. Of several candidates, each repeats the usage of all."""
    first = response.generations[0][0] if response.generations and response.generations[0] else None
    message = getattr(first, "message", None)
    return message if isinstance(message, AIMessage) else None


def _is_from_cache(response: LLMResult) -> bool:
    """Whether LangChain's own cache answered: it keeps the usage and sets its cost to 0."""
    message = _first_message(response)
    usage: Mapping[str, Any] = (message and message.usage_metadata) or {}
    return usage.get("total_cost") == 0


def _reading(response: LLMResult, is_one_of_many: bool) -> Reading:
    message = _first_message(response)
    metadata: Mapping[str, Any] = message.response_metadata if message else {}
    # Several prompts sent to a plain completion model share one usage; their lengths are theirs.
    overall: Mapping[str, Any] = {} if is_one_of_many else response.llm_output or {}
    model = _text(metadata.get("model_name"), metadata.get("model"), overall.get("model_name"))
    usage: Mapping[str, Any] = (message and message.usage_metadata) or {}
    # Some models fill in zeros where they know nothing.
    if any(usage.get(key) for key in ("input_tokens", "output_tokens")):
        return reading(shapes.usage_metadata, usage, output=_outputs(response), model=model or None)
    for fallback in (metadata, overall):
        try:
            return Reading(shapes.response_metadata(fallback), model or None)
        except DataError:
            continue
    return reading(shapes.usage_metadata, None, output=_outputs(response), model=model or None)


class _Switch:
    """Stands where LangChain expects a context variable: gives every context one handler, or none.

    LangChain's hooks cannot be taken back, and a context variable would have to be set in each
    thread.
    """

    def __init__(self) -> None:
        self.handler: MarlinCallbackHandler | None = None
        self.registered = False

    def get(self) -> MarlinCallbackHandler | None:
        return self.handler


_switch = _Switch()


def instrument() -> None:
    """Give a handler to every model call, in every thread and task, from now on."""
    if not _switch.registered:
        register_configure_hook(cast(ContextVar[Any], _switch), True, MarlinCallbackHandler)
        _switch.registered = True
    _switch.handler = MarlinCallbackHandler()


def uninstrument() -> None:
    """No longer. Calls and graphs under way keep the handler until they end."""
    _switch.handler = None
