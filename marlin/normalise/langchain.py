"""LangChain: `usage_metadata`, and what providers leave in `response_metadata` or `llm_output`.

`usage_metadata` has one convention for all providers: `input_tokens` and `output_tokens` are the
sums of every type, the details say how much of them was cached or reasoning
(https://github.com/langchain-ai/langchain, langchain_core/messages/ai.py). Packages that leave
cached or reasoning tokens out of the sums give themselves away by `total_tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marlin.errors import DataError
from marlin.normalise import anthropic, openai
from marlin.normalise.counts import count, part, required, within_total
from marlin.tokens import TokenUsage

__all__ = ["response_metadata", "usage_metadata"]

SERVICE_TIERS = ("", "flex_", "priority_")
"""langchain-openai prefixes the details by the service tier that answered."""

CACHE_WRITE_BY_LIFETIME = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
"""langchain-anthropic splits `cache_creation` by lifetime, and says 0 in it then."""


def usage_metadata(usage: Mapping[str, Any]) -> TokenUsage:
    """The tokens of an `AIMessage.usage_metadata`.

    Raises `DataError` for counts that are none, or sums that are smaller than their details.
    """
    taken, given = required(usage, "input_tokens"), required(usage, "output_tokens")
    inputs, outputs = part(usage, "input_token_details"), part(usage, "output_token_details")
    read = sum(count(inputs, f"{tier}cache_read") for tier in SERVICE_TIERS)
    written = max(
        sum(count(inputs, f"{tier}cache_creation") for tier in SERVICE_TIERS),
        sum(count(inputs, lifetime) for lifetime in CACHE_WRITE_BY_LIFETIME),
    )
    reasoning = sum(count(outputs, f"{tier}reasoning") for tier in SERVICE_TIERS)
    left_out = count(usage, "total_tokens") - taken - given
    if left_out > 0 and left_out in (read + written, read + written + reasoning):
        taken += read + written
        left_out -= read + written
    if left_out > 0 and left_out == reasoning:
        given += reasoning
    within_total(given, "output_tokens", reasoning=reasoning)
    return TokenUsage(
        input_tokens=within_total(taken, "input_tokens", cache_read=read, cache_creation=written),
        output_tokens=given,
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
    )


def response_metadata(metadata: Mapping[str, Any]) -> TokenUsage:
    """The tokens in a message's `response_metadata`, or in an `LLMResult.llm_output`.

    A fallback for models that fill no `usage_metadata`: the provider's own usage, as LangChain's
    packages pass it on. Raises `DataError` where there is none, or an invalid one.
    """
    if "prompt_eval_count" in metadata or "eval_count" in metadata:  # Ollama
        return TokenUsage(count(metadata, "prompt_eval_count"), count(metadata, "eval_count"))
    for key in ("token_usage", "usage"):
        usage = part(metadata, key)
        if "prompt_tokens" in usage:
            return openai.chat(usage)
        if "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage:
            return anthropic.message(usage)
        if "input_tokens" in usage:
            return openai.responses(usage)
    raise DataError("no token usage in response_metadata or llm_output; the usage is refused")
