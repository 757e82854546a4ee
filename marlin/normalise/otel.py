"""OpenTelemetry: the token usage that GenAI spans carry in their attributes, current and legacy.

The semantic conventions (v1.41, model/gen-ai/registry.yaml) put cached tokens inside
`gen_ai.usage.input_tokens` and reasoning inside `gen_ai.usage.output_tokens`. Some emitters leave
them out. They are believed to do so where

1. the parts are larger than the total they should be inside of,
2. the reported total of all tokens comes out only with the parts added, or
3. the instrumentation is known for it (`_leaves_cache_out`).

Else the conventions are believed. A cached token is never counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from marlin.errors import DataError
from marlin.schemas.base import MAX_TOKENS
from marlin.tokens import TokenUsage

__all__ = ["attributes", "has_usage", "model", "provider"]

_INPUT = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",  # until v1.26
    "llm.token_count.prompt",  # OpenInference
    "llm.usage.prompt_tokens",  # OpenLLMetry
    "ai.usage.inputTokens",  # Vercel AI SDK 5
    "ai.usage.promptTokens",  # Vercel AI SDK 4
    "ai.usage.tokens",  # Vercel AI SDK, embeddings
)
_OUTPUT = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "llm.usage.completion_tokens",
    "ai.usage.outputTokens",
    "ai.usage.completionTokens",
)
_CACHE_READ = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.cache_read_tokens",
    "gen_ai.usage.details.cache_read_tokens",
    "gen_ai.usage.details.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
    "ai.usage.inputTokenDetails.cacheReadTokens",
    "ai.usage.cachedInputTokens",
)
_CACHE_WRITE = (
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write_tokens",
    "gen_ai.usage.details.cache_write_tokens",
    "gen_ai.usage.details.cache_creation_input_tokens",
    "llm.token_count.prompt_details.cache_write",
    "ai.usage.inputTokenDetails.cacheWriteTokens",
)
_REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens",
    "llm.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
    "ai.usage.outputTokenDetails.reasoningTokens",
    "ai.usage.reasoningTokens",
)
_TOTAL = (
    "gen_ai.usage.total_tokens",
    "llm.usage.total_tokens",
    "llm.token_count.total",
    "ai.usage.totalTokens",
)
_COST = ("gen_ai.usage.cost", "gen_ai.usage.total_cost", "llm.cost.total")
_MODEL = (
    "gen_ai.response.model",
    "gen_ai.request.model",
    "llm.model_name",
    "ai.response.model",
    "ai.model.id",
)
_PROVIDER = (
    "gen_ai.provider.name",
    "gen_ai.system",  # until v1.36
    "llm.provider",
    "llm.system",
    "ai.model.provider",
)
_RENAMED_PROVIDERS = {
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "xai": "x_ai",
}


def attributes(attributes: Mapping[str, Any], *, scope: str = "") -> TokenUsage:
    """The tokens of a span with these `attributes`; `scope` names its instrumentation.

    Quality `missing` where there are none at all, `partial` where a chat has only one side,
    `estimated` where only the sum of all is known (it is taken for input). Raises `DataError`
    for counts that are none.
    """
    taken, given = _count(attributes, _INPUT), _count(attributes, _OUTPUT)
    total = _count(attributes, _TOTAL)
    cost_usd = _cost_usd(attributes)
    if taken is None and given is None:
        if not total:
            return TokenUsage(0, 0, cost_usd=cost_usd, quality="missing")
        return TokenUsage(total, 0, cost_usd=cost_usd, quality="estimated")
    read, write = _count(attributes, _CACHE_READ) or 0, _count(attributes, _CACHE_WRITE) or 0
    reasoning = _count(attributes, _REASONING) or 0
    one_sided = taken is None or (given is None and not _is_embedding(attributes))
    if total is not None and total >= (known := (taken or 0) + (given or 0)):
        # What the other side does not say, the sum does.
        if one_sided:
            one_sided = False
            taken = total - known if taken is None else taken
            given = total - known if given is None else given
    else:
        total = None
    taken, given = taken or 0, given or 0
    cached = read + write
    cache_outside, reasoning_outside = _outside(taken, given, cached, reasoning, total)
    if cached and (cache_outside or _leaves_cache_out(attributes, scope)):
        taken += cached
    if reasoning_outside:
        given += reasoning
    return TokenUsage(
        input_tokens=taken - cached,
        output_tokens=given,
        cache_read_tokens=read,
        cache_write_tokens=write,
        reasoning_tokens=reasoning,
        cost_usd=cost_usd,
        quality="partial" if one_sided else "reported",
    )


def has_usage(attributes: Mapping[str, Any]) -> bool:
    """Whether they say anything of tokens."""
    return any(
        attributes.get(name) is not None for names in (_INPUT, _OUTPUT, _TOTAL) for name in names
    )


def model(attributes: Mapping[str, Any]) -> str:
    """The model that answered, else the one that was asked for; `unknown` where neither is said."""
    return _text(attributes, _MODEL) or "unknown"


def provider(attributes: Mapping[str, Any]) -> str:
    """The provider by its current name; empty where it is not said."""
    name = _text(attributes, _PROVIDER)
    return _RENAMED_PROVIDERS.get(name, name)


def _outside(
    taken: int, given: int, cached: int, reasoning: int, total: int | None
) -> tuple[bool, bool]:
    """Whether the cached tokens are outside of the input, and reasoning outside of the output."""
    cache_outside, reasoning_outside = cached > taken, reasoning > given
    if total is not None and total != taken + given:
        for cache, thought in ((True, False), (False, True), (True, True)):
            if total == taken + given + cached * cache + reasoning * thought:
                return cache or cache_outside, thought or reasoning_outside
    return cache_outside, reasoning_outside


def _leaves_cache_out(attributes: Mapping[str, Any], scope: str) -> bool:
    """Whether an instrumentation is known to report input without what was cached.

    OpenLLMetry's Bedrock hands on Bedrock's own counts (github.com/traceloop/openllmetry,
    issue 4449), the Vercel AI SDK before version 6 those of Anthropic and Bedrock
    (github.com/vercel/ai, issue 8795); version 6 reports the details besides
    (github.com/getsentry/sentry-javascript, pull request 21488).
    """
    if scope == "opentelemetry.instrumentation.bedrock":
        return True
    if scope != "ai" or any(name.startswith("ai.usage.inputTokenDetails.") for name in attributes):
        return False
    return any(word in provider(attributes) for word in ("anthropic", "bedrock"))


def _is_embedding(attributes: Mapping[str, Any]) -> bool:
    said = (
        attributes.get("gen_ai.operation.name"),
        attributes.get("openinference.span.kind"),
        attributes.get("llm.request.type"),
        attributes.get("ai.operationId"),
    )
    return any("embed" in kind.lower() for kind in said if isinstance(kind, str))


def _count(attributes: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The first count above 0 under one of `names`; 0 if only zeros are there, None if nothing."""
    found: int | None = None
    for name in names:
        value = attributes.get(name)
        if value is None:
            continue
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value) if len(value) < 12 else math.inf
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 <= value <= MAX_TOKENS:
            raise DataError(
                f"{name} is {attributes[name]!r:.60}, expected a number of tokens from 0 to "
                f"{MAX_TOKENS}"
            )
        if value:
            return value
        found = 0
    return found


def _cost_usd(attributes: Mapping[str, Any]) -> float | None:
    for name in _COST:
        value = attributes.get(name)
        if isinstance(value, (int, float)) and math.isfinite(value) and value >= 0:
            return float(value)
    return None


def _text(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str) and value:
            return value
    return ""
