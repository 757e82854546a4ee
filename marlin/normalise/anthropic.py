"""Usage of Anthropic's messages.

`input_tokens` is fresh input alone; what the cache served and what was written to it are beside
it. Thinking is inside the output: https://github.com/anthropics/anthropic-sdk-python,
types/usage.py and types/message_delta_usage.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marlin.normalise.counts import count, part, parts, required, within_total
from marlin.tokens import TokenUsage

__all__ = ["message", "updated"]


def message(usage: Mapping[str, Any]) -> TokenUsage:
    """`usage` of a message; of a streamed one, what `updated` made of its events.

    Raises `DataError` for counts that are none or contradict each other.
    """
    # What the server did besides answering is in `iterations` alone: summing up a context that
    # grew too long, asking an advisor model. Its `message` entries are in the totals.
    beside = [one for one in parts(usage, "iterations") if one.get("type") in _BESIDE_THE_TOTALS]
    counted = [usage, *beside]
    output = sum(required(one, "output_tokens") for one in counted)
    thinking = count(part(usage, "output_tokens_details"), "thinking_tokens")
    within_total(output, "output_tokens", thinking_tokens=thinking)
    return TokenUsage(
        input_tokens=sum(required(one, "input_tokens") for one in counted),
        output_tokens=output,
        cache_read_tokens=sum(count(one, "cache_read_input_tokens") for one in counted),
        cache_write_tokens=sum(map(_written, counted)),
        reasoning_tokens=thinking,
    )


def updated(usage: Mapping[str, Any], event_usage: Mapping[str, Any]) -> dict[str, Any]:
    """`usage` of a stream so far, after an event with `event_usage`.

    Counts are cumulative: they replace, never add. What an event leaves out keeps its value.
    """
    return {**usage, **{key: value for key, value in event_usage.items() if value is not None}}


_BESIDE_THE_TOTALS = ("compaction", "advisor_message")


def _written(usage: Mapping[str, Any]) -> int:
    # The same tokens twice: the sum, and by how long they are kept.
    by_lifetime = part(usage, "cache_creation")
    return count(usage, "cache_creation_input_tokens") or sum(
        count(by_lifetime, key) for key in by_lifetime if key.endswith("_input_tokens")
    )
