"""Anthropic's package: messages, of its own API, Bedrock, Vertex, Foundry and gateways alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import anthropic

from marlin.normalise import Reading
from marlin.normalise import anthropic as usage_of
from marlin.normalise.recognise import as_mapping
from marlin.runtime.integrations.calls import characters_of, reading
from marlin.runtime.integrations.hosts import served_by
from marlin.runtime.integrations.stainless import Instrumentation, Outgoing
from marlin.runtime.integrations.streams import Collector
from marlin.tokens import tokens_of_length

__all__ = ["instrument", "uninstrument"]


def instrument() -> None:
    """Meter `messages` and `beta.messages` of every client, made before or after.

    Raises `ConfigurationError` where the installed version cannot be instrumented.
    """
    _instrumentation.install()


def uninstrument() -> None:
    """Put the originals back."""
    _instrumentation.remove()


class _Anthropic:
    name = "anthropic"
    clients = (anthropic.Anthropic, anthropic.AsyncAnthropic)
    streams = (anthropic.Stream, anthropic.AsyncStream)
    timeout = anthropic.APITimeoutError

    def outgoing(self, client: Any, url: str, body: Mapping[str, Any]) -> Outgoing | None:
        if url != "/v1/messages":
            return None
        provider, region = _served_by(client)
        return Outgoing(
            provider=provider,
            region=region or _named(body.get("inference_geo")),
            model=body.get("model") or "unknown",
            prompt=[body.get(key) for key in ("system", "messages", "tools")],
            max_output_tokens=body.get("max_tokens"),
            answers=_MESSAGES,
        )

    def refuses_addition(self, exc: Exception) -> bool:
        return False


def _served_by(client: Any) -> tuple[str, str | None]:
    provider, region = served_by(client.base_url, otherwise="anthropic-compatible")
    # A client of a cloud knows it whatever host it was pointed at.
    if hasattr(client, "aws_region"):
        return "aws", client.aws_region or region
    if any(cls.__name__ == "BaseVertexClient" for cls in type(client).__mro__):
        return "google", _named(client.region) or region
    return provider, region


def _named(region: object) -> str | None:
    """The region, where it says where: `global` may be anywhere."""
    return region if isinstance(region, str) and region != "global" else None


class _Messages:
    """Answers of `/v1/messages`."""

    def read(self, answer: Any) -> Reading:
        return reading(
            usage_of.message,
            _get(answer, "usage"),
            output=_get(answer, "content"),
            model=_get(answer, "model"),
        )

    def collector(self) -> Collector:
        return _Collector()


class _Collector:
    """Usage comes twice: the input with the first event, the whole with the last but one. Between
    them `output_tokens` is a placeholder, so what came is measured by its length."""

    def __init__(self) -> None:
        self._usage: dict[str, Any] = {}
        self._model: str | None = None
        self._characters = 0
        self.started = False
        self.complete = False

    def observe(self, item: Any) -> bool:
        if item.type == "message_start":
            self.started = True
            self._model = item.message.model
            self._update(item.message.usage)
        elif item.type == "content_block_delta" and item.delta.type != "citations_delta":
            # A citation repeats the input; nothing of it is generated.
            self._characters += characters_of(item.delta)
        elif item.type == "message_delta":
            self._update(item.usage)
            self.complete = True
        return True

    def reading(self) -> Reading:
        usage = self._usage
        if usage and not self.complete:
            came = max(tokens_of_length(self._characters), usage.get("output_tokens") or 0)
            usage = {**usage, "output_tokens": came}
        return reading(
            *(usage_of.message, usage or None),
            output_characters=self._characters,
            model=self._model,
        )

    def _update(self, usage: Any) -> None:
        if usage is not None:
            self._usage = usage_of.updated(self._usage, as_mapping(usage))


def _get(answer: Any, key: str) -> Any:
    if isinstance(answer, Mapping):
        return cast(Mapping[str, Any], answer).get(key)
    return getattr(answer, key, None)


_MESSAGES = _Messages()
_instrumentation = Instrumentation(_Anthropic())
