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
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult
from langchain_core.tracers.context import register_configure_hook

from marlin.errors import CarbonBudgetExceededError, DataError
from marlin.normalise import Reading
from marlin.normalise import langchain as shapes
from marlin.runtime.integrations.calls import (
    Hold,
    MeteredCall,
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

MAX_AGENT_CHARACTERS = 256
"""Limit of the contract; a longer name of a node is cut."""

AGENT_TAG = "agent:"
"""A tag that names the agent of a call: `config={"tags": ["agent:researcher"]}`."""


@dataclass(slots=True, eq=False)
class _OpenCall:
    """A model call between its start and its end."""

    call: MeteredCall
    hold: Hold
    batch_size: int
    characters: int = 0
    """Of streamed output, so far."""
    usage: UsageMetadata | None = None
    """What the streamed chunks said of it, so far."""
    unwatch: Callable[[], None] | None = None


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
            one.usage = add_usage(one.usage, usage)

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
            one.call.finish(lambda: _reading(response, one.batch_size))

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
        one.characters = max(one.characters, characters_of(_outputs(response)))
        # A provider's error came instead of an answer. What is no `Exception` (a cancelled task, a
        # closed generator) came from this side: the provider was generating.
        if isinstance(error, Exception) and not one.characters and one.usage is None:
            one.call.fail()
        else:
            one.call.partial(lambda: _so_far(one))

    def _start(
        self,
        run_id: UUID,
        prompt: object,
        tags: Sequence[str] | None,
        metadata: Mapping[str, Any] | None,
        kwargs: Mapping[str, Any],
    ) -> None:
        try:
            call = _begin(prompt, tags or (), metadata or {}, kwargs)
            one = _OpenCall(call, Hold.enter(), kwargs.get("batch_size") or 1)
            _watch(one, lambda: self._abandon(run_id))
            with self._lock:
                self._open[run_id] = one
                oldest = next(iter(self._open)) if len(self._open) > MAX_OPEN_CALLS else None
        except CarbonBudgetExceededError:
            raise
        except Exception:
            log_once("langchain", "a LangChain call could not be metered")
        else:
            if oldest is not None:
                self._abandon(oldest)
