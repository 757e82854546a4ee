"""OpenAI's package: chat completions and responses, of OpenAI, Azure and every server alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import openai

from marlin.normalise import Reading
from marlin.normalise import openai as usage_of
from marlin.runtime.integrations.calls import characters_of, reading
from marlin.runtime.integrations.hosts import served_by
from marlin.runtime.integrations.stainless import Answers, Instrumentation, Outgoing
from marlin.runtime.integrations.streams import Collector

__all__ = ["instrument", "uninstrument"]


def instrument() -> None:
    """Meter `chat.completions` and `responses` of every client, made before or after.

    Raises `ConfigurationError` where the installed version cannot be instrumented.
    """
    _instrumentation.install()


def uninstrument() -> None:
    """Put the originals back."""
    _instrumentation.remove()


class _OpenAI:
    name = "openai"
    clients = (openai.OpenAI, openai.AsyncOpenAI)
    streams = (openai.Stream, openai.AsyncStream)
    timeout = openai.APITimeoutError

    def outgoing(self, client: Any, url: str, body: Mapping[str, Any]) -> Outgoing | None:
        if url == "/chat/completions":
            return self._chat(client, body)
        if url == "/responses":
            return self._outgoing(
                *(client, body, _RESPONSES, ("instructions", "input", "tools", "text")),
                max_output_tokens=body.get("max_output_tokens"),
            )
        return None

    def refuses_addition(self, exc: Exception) -> bool:
        refused = isinstance(exc, openai.BadRequestError | openai.UnprocessableEntityError)
        return refused and any(name in str(exc) for name in ("stream_options", "include_usage"))

    def _chat(self, client: Any, body: Mapping[str, Any]) -> Outgoing:
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        choices = body.get("n") or 1
        asks = cast(Mapping[str, Any], body.get("stream_options") or {})
        adds = bool(body.get("stream")) and not asks.get("include_usage")
        return self._outgoing(
            *(client, body, _CHAT_ASKED_BY_US if adds else _CHAT),
            ("messages", "tools", "functions", "response_format"),
            max_output_tokens=limit * choices if limit else None,
            # Without it, a stream tells nothing of its tokens.
            send={**body, "stream_options": {**asks, "include_usage": True}} if adds else None,
        )

    def _outgoing(
        self,
        client: Any,
        body: Mapping[str, Any],
        answers: Answers,
        prompt: tuple[str, ...],
        *,
        max_output_tokens: int | None,
        send: Mapping[str, Any] | None = None,
    ) -> Outgoing:
        provider, region = served_by(client.base_url, otherwise="openai-compatible")
        if isinstance(client, openai.AzureOpenAI | openai.AsyncAzureOpenAI):
            provider = "azure"
        return Outgoing(
            provider=provider,
            region=region,
            model=body.get("model") or "unknown",
            prompt=[body.get(key) for key in prompt],
            max_output_tokens=max_output_tokens,
            answers=answers,
            body=send,
        )


class _Chat:
    """Answers of `/chat/completions`."""

    def __init__(self, *, hides_usage: bool) -> None:
        self._hides_usage = hides_usage

    def read(self, answer: Any) -> Reading:
        return reading(
            usage_of.chat,
            _get(answer, "usage"),
            output=[_get(choice, "message") for choice in _get(answer, "choices") or ()],
            model=_get(answer, "model"),
        )

    def collector(self) -> Collector:
        return _ChatCollector(hides_usage=self._hides_usage)


class _ChatCollector:
    def __init__(self, *, hides_usage: bool) -> None:
        self._hides_usage = hides_usage
        self._usage: object = None
        self._model: str | None = None
        self._characters = 0
        self.started = False
        self.complete = False

    def observe(self, item: Any) -> bool:
        self.started = True
        self._model = item.model or self._model
        self._characters += sum(characters_of(choice.delta) for choice in item.choices or ())
        if item.usage is None:
            return True
        # Some servers repeat the usage so far with each chunk: the one without choices is final.
        self._usage = item.usage
        self.complete = not item.choices
        return not (self.complete and self._hides_usage)

    def reading(self) -> Reading:
        return reading(
            usage_of.chat, self._usage, output_characters=self._characters, model=self._model
        )


class _Responses:
    """Answers of `/responses`."""

    def read(self, answer: Any) -> Reading:
        return reading(
            usage_of.responses,
            _get(answer, "usage"),
            output=_get(answer, "output"),
            model=_get(answer, "model"),
        )

    def collector(self) -> Collector:
        return _ResponsesCollector()


class _ResponsesCollector:
    def __init__(self) -> None:
        self._usage: object = None
        self._model: str | None = None
        self._characters = 0
        self.started = False

    @property
    def complete(self) -> bool:
        return self._usage is not None

    def observe(self, item: Any) -> bool:
        self.started = self.started or item.type != "error"
        if (response := getattr(item, "response", None)) is not None:
            self._usage, self._model = response.usage, response.model
        elif item.type != "response.audio.delta":  # bytes, spelt as text
            self._characters += characters_of(getattr(item, "delta", None))
        return True

    def reading(self) -> Reading:
        return reading(
            usage_of.responses, self._usage, output_characters=self._characters, model=self._model
        )


def _get(answer: Any, key: str) -> Any:
    if isinstance(answer, Mapping):
        return cast(Mapping[str, Any], answer).get(key)
    return getattr(answer, key, None)


_CHAT = _Chat(hides_usage=False)
_CHAT_ASKED_BY_US = _Chat(hides_usage=True)
_RESPONSES = _Responses()
_instrumentation = Instrumentation(_OpenAI())
