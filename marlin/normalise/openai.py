"""Usage of OpenAI's chat completions and responses, and of the many servers that copy them.

Cached tokens are inside the input, reasoning is inside the output:
https://github.com/openai/openai-python, types/completion_usage.py and
types/responses/response_usage.py. Audio, images and predictions are inside both totals too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marlin.normalise.counts import count, part, required, within_total
from marlin.tokens import TokenUsage

__all__ = ["chat", "responses"]


def chat(usage: Mapping[str, Any]) -> TokenUsage:
    """`usage` of a chat completion, or of the last chunk of a streamed one.

    Raises `DataError` for counts that are none or contradict each other.
    """
    details = part(usage, "prompt_tokens_details")
    # DeepSeek names its cache hits beside the total, Moonshot puts OpenAI's name there.
    cached = (
        count(details, "cached_tokens")
        or count(usage, "prompt_cache_hit_tokens")
        or count(usage, "cached_tokens")
    )
    prompt, completion = required(usage, "prompt_tokens"), required(usage, "completion_tokens")
    reasoning = count(part(usage, "completion_tokens_details"), "reasoning_tokens")
    # xAI leaves reasoning out of completion_tokens; only its total_tokens gives it away.
    if reasoning and count(usage, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    return _usage(
        (prompt, "prompt_tokens"),
        (completion, "completion_tokens"),
        cached=cached,
        written=count(details, "cache_write_tokens"),
        reasoning=reasoning,
    )


def responses(usage: Mapping[str, Any]) -> TokenUsage:
    """`usage` of a response (`/v1/responses`), or of the last event of a streamed one.

    Raises `DataError` for counts that are none or contradict each other.
    """
    details = part(usage, "input_tokens_details")
    return _usage(
        (required(usage, "input_tokens"), "input_tokens"),
        (required(usage, "output_tokens"), "output_tokens"),
        cached=count(details, "cached_tokens"),
        written=count(details, "cache_write_tokens"),
        reasoning=count(part(usage, "output_tokens_details"), "reasoning_tokens"),
    )


def _usage(
    taken: tuple[int, str], given: tuple[int, str], *, cached: int, written: int, reasoning: int
) -> TokenUsage:
    fresh = within_total(*taken, cached_tokens=cached, cache_write_tokens=written)
    within_total(*given, reasoning_tokens=reasoning)
    return TokenUsage(
        input_tokens=fresh,
        output_tokens=given[0],
        cache_read_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
    )
