"""A chat model for LangChain's tests: answers, streams, pauses and fails as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

USAGE: dict[str, Any] = {
    "input_tokens": 2255,
    "output_tokens": 120,
    "total_tokens": 2375,
    "input_token_details": {"cache_read": 512, "cache_creation": 1733},
    "output_token_details": {"reasoning": 70},
}
"""10 fresh, 512 read from and 1733 written to a cache, 120 out."""


class ScriptedModel(BaseChatModel):
    """Answers every call with `words`; a stream says one word a chunk, then the usage.

    `pause_after` makes it wait without end after so many words, `fail_after` makes it raise.
    """

    model: str = "large-70b"
    words: tuple[str, ...] = ("four", "char", "word", "here")
    usage: dict[str, Any] | None = USAGE
    usage_first: bool = False
    pause_after: int | None = None
    fail_after: int | None = None
    calls: list[str] = Field(default_factory=list[str])
    """The prompts of the calls that were made."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.calls.append(str(messages[-1].content))
        if self.fail_after is not None:
            raise ConnectionError("the provider is away")
        usage: Any = self.usage
        message = AIMessage(
            content=" ".join(self.words),
            usage_metadata=usage,
            response_metadata={"model_name": f"{self.model}-2026-01-01"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if self.pause_after is not None:
            self.calls.append(str(messages[-1].content))
            await asyncio.Event().wait()
        return self._generate(messages)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        self.calls.append(str(messages[-1].content))
        if self.usage_first:
            yield self._usage_chunk()
        for number, word in enumerate(self.words):
            if number == self.fail_after:
                raise ConnectionError("the stream broke")
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        if not self.usage_first:
            yield self._usage_chunk()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        number = 0
        for chunk in self._stream(messages):
            if number == self.pause_after:
                await asyncio.Event().wait()
            number += bool(chunk.text)
            yield chunk

    def _usage_chunk(self) -> ChatGenerationChunk:
        usage: Any = self.usage
        return ChatGenerationChunk(
            message=AIMessageChunk(
                content="", usage_metadata=usage, response_metadata={"model_name": self.model}
            )
        )
