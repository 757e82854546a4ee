"""Usage of Google's Gemini, from the Gemini API and from Vertex AI.

Cached tokens are inside the prompt; thoughts and the results of tools that the server ran are
beside the candidates and the prompt: https://github.com/googleapis/python-genai,
types.GenerateContentResponseUsageMetadata.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marlin.errors import DataError
from marlin.normalise.counts import count, within_total
from marlin.tokens import TokenUsage

__all__ = ["usage_metadata"]


def usage_metadata(usage: Mapping[str, Any]) -> TokenUsage:
    """`usageMetadata` of an answer, as REST spells it or as the SDK does (`usage_metadata`).

    Of a streamed answer the last one: each chunk's counts are the totals so far. Raises
    `DataError` without a prompt count, and for counts that are none or contradict each other.
    """
    if all(usage.get(name) is None for name in ("prompt_token_count", "promptTokenCount")):
        raise DataError("usage without promptTokenCount; the usage is refused")
    cached = _count(usage, "cached_content_token_count")
    thoughts = _count(usage, "thoughts_token_count")
    # Embeddings and live sessions name the answer's tokens differently.
    answer = _count(usage, "candidates_token_count") or _count(usage, "response_token_count")
    fresh = within_total(
        _count(usage, "prompt_token_count"), "promptTokenCount", cachedContentTokenCount=cached
    )
    return TokenUsage(
        input_tokens=fresh + _count(usage, "tool_use_prompt_token_count"),
        output_tokens=answer + thoughts,
        cache_read_tokens=cached,
        reasoning_tokens=thoughts,
    )


def _count(usage: Mapping[str, Any], name: str) -> int:
    camel = re.sub("_(.)", lambda found: found[1].upper(), name)
    return count(usage, name) or count(usage, camel)
