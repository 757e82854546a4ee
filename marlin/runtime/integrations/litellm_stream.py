"""LiteLLM's streams, watched while their caller reads them."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, cast

# LiteLLM brings its types, and does not say so.
from litellm.litellm_core_utils.streaming_handler import (  # pyright: ignore[reportMissingTypeStubs]
    CustomStreamWrapper,
)

from marlin.normalise import Reading
from marlin.normalise import litellm as usage_of
from marlin.runtime.integrations.calls import MeteredCall, characters_of, reading
from marlin.runtime.integrations.streams import stop_half_way
from marlin.tokens import tokens_of_length

__all__ = ["is_stream", "watch"]


def is_stream(answer: object) -> bool:
    """Whether `watch` can watch it."""
    return isinstance(answer, CustomStreamWrapper)


def watch(stream: Any, call: MeteredCall) -> None:
    """Settle `call` by how `stream` ends.

    The stream stays the object it is, as LiteLLM and frameworks above ask for its class: it gets
    a subclass of it.
    """
    collector = _Collector(stream.chunks)
    stream.marlin_call, stream.marlin_collector = call, collector
    stream.__class__ = _watched(stream.__class__)
    call.keep_open(lambda: stop_half_way(call, collector), stream)


class _Collector:
    """What a stream tells. LiteLLM keeps its chunks, those too that it hides from the caller."""

    def __init__(self, chunks: list[Any]) -> None:
        self._chunks = chunks

    @property
    def started(self) -> bool:
        return bool(self._chunks)

    @property
    def complete(self) -> bool:
        ended = any(choice.finish_reason for chunk in self._chunks for choice in chunk.choices)
        return ended and self._usage() is not None

    def observe(self, item: Any) -> bool:
        """Nothing to do: the chunks are all there."""
        return True

    def reading(self) -> Reading:
        characters = sum(
            characters_of(choice.delta) for chunk in self._chunks for choice in chunk.choices
        )
        found = reading(
            usage_of.usage_object,
            self._usage(),
            output_characters=characters,
            model=next((chunk.model for chunk in reversed(self._chunks) if chunk.model), None),
        )
        if self.complete:
            return found
        # Anthropic counts the output at its start and at its end.
        output_tokens = max(found.tokens.output_tokens, tokens_of_length(characters))
        return replace(found, tokens=replace(found.tokens, output_tokens=output_tokens))

    def _usage(self) -> Any:
        # The totals so far, whatever the provider sends.
        return next((u for one in reversed(self._chunks) if (u := _usage_in(one))), None)


def _usage_in(chunk: Any) -> Any:
    return getattr(chunk, "usage", None)


class _Watched(CustomStreamWrapper):
    """Tells Marlin how the stream ends."""

    marlin_call: MeteredCall
    marlin_collector: _Collector

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except StopIteration:
            self.marlin_call.finish(self.marlin_collector.reading)
            raise
        except BaseException as exc:
            _broke(self.marlin_call, self.marlin_collector, exc)
            raise

    async def __anext__(self) -> Any:
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            self.marlin_call.finish(self.marlin_collector.reading)
            raise
        except BaseException as exc:
            _broke(self.marlin_call, self.marlin_collector, exc)
            raise

    async def aclose(self) -> None:
        try:
            await cast(Any, super()).aclose()
        finally:
            stop_half_way(self.marlin_call, self.marlin_collector)


def _broke(call: MeteredCall, collector: _Collector, exc: BaseException) -> None:
    # What is no `Exception` came from this side: the provider was computing.
    if isinstance(exc, Exception) and not collector.started:
        call.fail()
    else:
        stop_half_way(call, collector)


@functools.cache
def _watched(kind: Any) -> type[Any]:
    if kind is CustomStreamWrapper:
        return _Watched
    # Some providers have streams of their own kind.
    return type(f"Watched{kind.__name__}", (_Watched, kind), {})
