"""Which provider's shape an answer has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

from marlin.errors import DataError
from marlin.normalise.counts import count, required, within_total
from marlin.normalise.reading import Reading
from marlin.tokens import TokenUsage

__all__ = ["as_mapping", "read"]


def read(response: object) -> Reading:
    """The tokens of a model's answer, of its usage alone, or of a `TokenUsage`.

    Knows the answers of OpenAI (chat and responses), Anthropic, Gemini, LiteLLM and LangChain, as
    objects of their packages or as mappings of their JSON, and a mapping with the names of
    `TokenUsage`. Raises `DataError` where no usage can
    be found in it, or where its numbers contradict each other; nothing is guessed.
    """
    if isinstance(response, Reading):
        return response
    if isinstance(response, TokenUsage):
        return Reading(response)
    usage, answer = _usage(response)
    if usage is None:
        raise DataError(f"no token usage in {type(response).__name__}; the call is not counted")
    shape, provider = _shape(usage, type(response).__module__.partition(".")[0])
    return Reading(shape(usage), _model(answer), provider)


def as_mapping(value: object) -> Mapping[str, Any]:
    """`value` as a mapping; what `model_dump` gives for an object of a provider's package.

    Raises `DataError` for anything else.
    """
    if isinstance(value, Mapping):
        return cast(Mapping[str, Any], value)
    dump = getattr(value, "model_dump", None)
    if not callable(dump):
        raise DataError(f"expected a mapping or a model, got {type(value).__name__}")
    try:
        # Providers' packages do not validate what they receive; dumping it would warn of that.
        dumped = dump(warnings=False)
    except TypeError:  # somebody else's `model_dump`
        dumped = dump()
    if not isinstance(dumped, Mapping):
        raise DataError(f"{type(value).__name__}.model_dump() gave {type(dumped).__name__}")
    return cast(Mapping[str, Any], dumped)


_USAGE_KEYS = ("usage", "usage_metadata", "usageMetadata")
"""Where answers keep their usage; LangChain and Gemini share the second."""

_SHAPES: tuple[tuple[tuple[str, ...], str, str, str | None], ...] = (
    (("input_token_details",), "langchain", "usage_metadata", None),
    (("output_token_details",), "langchain", "usage_metadata", None),
    (("promptTokenCount",), "gemini", "usage_metadata", "google"),
    (("prompt_token_count",), "gemini", "usage_metadata", "google"),
    (("prompt_tokens", "cache_read_input_tokens"), "litellm", "usage_object", None),
    (("prompt_tokens", "cache_creation_input_tokens"), "litellm", "usage_object", None),
    (("prompt_tokens",), "openai", "chat", None),
    (("input_tokens", "input_tokens_details"), "openai", "responses", None),
    (("input_tokens", "total_tokens"), "openai", "responses", None),
    (("input_tokens", "cache_read_input_tokens"), "anthropic", "message", "anthropic"),
    (("input_tokens", "cache_creation_input_tokens"), "anthropic", "message", "anthropic"),
    (("input_tokens", "output_tokens"), "anthropic", "message", None),
)
"""Keys that tell a shape, the first that fits; its module and function here; who is sure to have
sent it. Others than OpenAI answer in its shapes, so those tell nothing."""

_OWN_KEYS = frozenset(
    {
        *("input_tokens", "cache_read_tokens", "cache_write_tokens"),
        *("output_tokens", "reasoning_tokens"),
    }
)


def _usage(response: object) -> tuple[Mapping[str, Any] | None, object]:
    """The usage in `response`, and what may name the model: nothing, where it is usage alone."""
    for key in _USAGE_KEYS:
        if (found := _field(response, key)) is not None:
            return as_mapping(found), response
    try:
        usage = as_mapping(response)
    except DataError:
        return None, None
    return usage if _is_usage(usage) else None, None


def _field(value: object, name: str) -> object:
    if isinstance(value, Mapping):
        return cast(Mapping[str, object], value).get(name)
    return getattr(value, name, None)


def _is_usage(usage: Mapping[str, Any]) -> bool:
    return any(usage.keys() >= set(keys) for keys, *_ in _SHAPES)


def _shape(
    usage: Mapping[str, Any], package: str
) -> tuple[Callable[[Mapping[str, Any]], TokenUsage], str | None]:
    # LiteLLM answers in OpenAI's shape, with Anthropic's cache counts in it.
    if package == "litellm" and "prompt_tokens" in usage:
        return _function("litellm", "usage_object"), None
    if usage.keys() <= _OWN_KEYS:
        return _own, None
    for keys, module, function, provider in _SHAPES:
        if usage.keys() >= set(keys):
            return _function(module, function), provider
    raise DataError(f"usage of an unknown shape: {', '.join(map(str, usage))}; not counted")


def _own(usage: Mapping[str, Any]) -> TokenUsage:
    output, reasoning = required(usage, "output_tokens"), count(usage, "reasoning_tokens")
    within_total(output, "output_tokens", reasoning_tokens=reasoning)
    return TokenUsage(
        input_tokens=required(usage, "input_tokens"),
        output_tokens=output,
        cache_read_tokens=count(usage, "cache_read_tokens"),
        cache_write_tokens=count(usage, "cache_write_tokens"),
        reasoning_tokens=reasoning,
    )


def _function(module: str, name: str) -> Callable[[Mapping[str, Any]], TokenUsage]:
    found = getattr(import_module(f"marlin.normalise.{module}"), name)
    return cast(Callable[[Mapping[str, Any]], TokenUsage], found)


def _model(answer: object) -> str | None:
    metadata = _field(answer, "response_metadata")
    for holder, key in (
        (answer, "model"),
        (answer, "model_version"),
        (answer, "modelVersion"),
        (metadata, "model_name"),
    ):
        if isinstance(name := _field(holder, key), str) and name:
            return name
    return None
