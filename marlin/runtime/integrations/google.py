"""Google's package `google-genai`: the Gemini API and Vertex AI, generated text and embeddings.

One call of the package may be several of the model: functions that it calls by itself, answers
that it has continued. Each is one request, made by the same methods underneath, and each is
counted; chats go through them, too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from google.genai import models

from marlin.errors import CarbonBudgetExceededError
from marlin.normalise import Reading, gemini
from marlin.runtime.integrations.calls import (
    MeteredCall,
    begin,
    characters_of,
    log_once,
    reading,
)
from marlin.runtime.integrations.replacement import Replacement
from marlin.runtime.integrations.streams import (
    AsyncWatchedIterator,
    WatchedIterator,
    stop_half_way,
)
from marlin.tokens import TokenUsage, tokens_of_length

__all__ = ["instrument", "uninstrument"]


def instrument() -> None:
    """Meter `models` and `aio.models` of every client, made before or after.

    Raises `ConfigurationError` where the installed version cannot be instrumented.
    """
    for replacement in _replacements():
        replacement.install()


def uninstrument() -> None:
    """Put the originals back."""
    for replacement in _replacements():
        replacement.remove()


Make = Callable[[Callable[..., Any], Replacement], Callable[..., Any]]


@functools.cache
def _replacements() -> tuple[Replacement, ...]:
    return (
        Replacement(models.Models, "_generate_content", _whole(_read_answer)),
        Replacement(models.Models, "_generate_content_stream", _streamed),
        Replacement(models.Models, "embed_content", _whole(_read_embedding)),
        Replacement(models.AsyncModels, "_generate_content", _whole_async(_read_answer)),
        Replacement(models.AsyncModels, "_generate_content_stream", _streamed_async),
        Replacement(models.AsyncModels, "embed_content", _whole_async(_read_embedding)),
    )


def _whole(read: Callable[[Any], Reading]) -> Make:
    def make(original: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
        @functools.wraps(original)
        def generate(self: Any, **request: Any) -> Any:
            if not replacement.active:
                return original(self, **request)
            call = _begin(self, request)
            try:
                answer = original(self, **request)
            except BaseException as exc:
                _failed(call, exc)
                raise
            call.finish(lambda: read(answer))
            return answer

        return generate

    return make


def _whole_async(read: Callable[[Any], Reading]) -> Make:
    def make(original: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
        @functools.wraps(original)
        async def generate(self: Any, **request: Any) -> Any:
            if not replacement.active:
                return await original(self, **request)
            call = _begin(self, request)
            try:
                answer = await original(self, **request)
            except BaseException as exc:
                _failed(call, exc)
                raise
            call.finish(lambda: read(answer))
            return answer

        return generate

    return make


def _streamed(original: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    @functools.wraps(original)
    def generate(self: Any, **request: Any) -> Any:
        if not replacement.active:
            return original(self, **request)
        call, collector = _begin(self, request), _Collector()
        # A generator: nothing has been sent before it is asked for its first item.
        watched = WatchedIterator(original(self, **request), call, collector)
        call.keep_open(lambda: stop_half_way(call, collector), watched)
        return watched

    return generate


def _streamed_async(original: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    @functools.wraps(original)
    async def generate(self: Any, **request: Any) -> Any:
        if not replacement.active:
            return await original(self, **request)
        call, collector = _begin(self, request), _Collector()
        try:
            stream = await original(self, **request)
        except BaseException as exc:
            _failed(call, exc)
            raise
        watched = AsyncWatchedIterator(stream, call, collector)
        call.keep_open(lambda: stop_half_way(call, collector), watched)
        return watched

    return generate


def _begin(owner: Any, request: Mapping[str, Any]) -> MeteredCall:
    """Ask for the call that `owner` is to make. Raises `CarbonBudgetExceededError` alone."""
    try:
        config = request.get("config")
        limit, candidates = (_get(config, key) for key in ("max_output_tokens", "candidate_count"))
        client = owner._api_client
        return begin(
            provider="google",
            model=request.get("model") or "unknown",
            prompt=[
                request.get("contents"),
                *(_get(config, key) for key in ("system_instruction", "tools")),
            ],
            max_output_tokens=limit * (candidates or 1) if limit else None,
            region=client.location if client.vertexai else None,
        )
    except CarbonBudgetExceededError:
        raise
    except Exception:
        log_once("google", "a call of google-genai could not be metered")
        return MeteredCall(None, 0)


def _failed(call: MeteredCall, exc: BaseException) -> None:
    # The package gives time-outs of its HTTP client as they are; the model computes on after one,
    # and after a task was cancelled. All else was refused.
    waited = isinstance(exc, TimeoutError) or type(exc).__name__ == "ReadTimeout"
    if isinstance(exc, Exception) and not waited:
        call.fail()
    else:
        call.partial(lambda: Reading(TokenUsage(0, 0, quality="missing")))


def _read_answer(answer: Any) -> Reading:
    return reading(
        gemini.usage_metadata,
        answer.usage_metadata,
        output=[candidate.content for candidate in answer.candidates or ()],
        model=answer.model_version,
    )


def _read_embedding(answer: Any) -> Reading:
    if (usage := getattr(answer, "usage_metadata", None)) is not None:
        return reading(gemini.usage_metadata, usage)
    counts = [
        getattr(getattr(one, "statistics", None), "token_count", None)
        for one in answer.embeddings or ()
    ]
    if counts and all(isinstance(one, int | float) for one in counts):
        return Reading(TokenUsage(int(sum(cast(list[float], counts))), 0))
    # The Gemini API tells nothing; what was asked for is known all the same.
    return Reading(TokenUsage(0, 0, quality="estimated"))


class _Collector:
    """What a stream tells. Each item's counts are the totals so far, where it has any."""

    def __init__(self) -> None:
        self._usage: object = None
        self._model: str | None = None
        self._characters = 0
        self._finished = False
        self.started = False

    @property
    def complete(self) -> bool:
        return self._finished and self._usage is not None

    def observe(self, item: Any) -> bool:
        self.started = True
        self._model = item.model_version or self._model
        if item.usage_metadata is not None:
            self._usage = item.usage_metadata
        for candidate in item.candidates or ():
            self._characters += characters_of(candidate.content)
            self._finished = self._finished or candidate.finish_reason is not None
        return True

    def reading(self) -> Reading:
        found = reading(
            gemini.usage_metadata,
            self._usage,
            output_characters=self._characters,
            model=self._model,
        )
        if self.complete or found.tokens.output_tokens:
            return found
        # Some models count the prompt from the first item on, and the output in the last alone.
        output_tokens = tokens_of_length(self._characters)
        return replace(found, tokens=replace(found.tokens, output_tokens=output_tokens))


def _get(config: Any, key: str) -> Any:
    if isinstance(config, Mapping):
        return cast(Mapping[str, Any], config).get(key)
    return getattr(config, key, None)
