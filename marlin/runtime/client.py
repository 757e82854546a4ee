"""What an agent calls a model through: the client protocol and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from marlin.schemas.usage import UsageQuality

__all__ = ["ModelClient", "ModelReply", "TokenUsage", "estimated_usage"]

CHARACTERS_PER_TOKEN = 4
"""English text, rule of thumb [characters/token]; OpenAI, "What are tokens and how to count them?"
(help centre, 2023). Used only where a provider reported nothing."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one model call. The classes do not overlap; reasoning is part of output."""

    input_tokens: int
    """Fresh input: computed now, not stored."""
    output_tokens: int
    """Output, reasoning included."""
    cache_read_tokens: int = 0
    """Input served from a cache."""
    cache_write_tokens: int = 0
    """Input computed now and stored in a cache."""
    reasoning_tokens: int = 0
    """How many of `output_tokens` were reasoning."""
    cost_usd: float | None = None
    """What the provider charged [USD]; None where unknown."""
    quality: UsageQuality = "reported"
    """How the counts came about."""


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What a model answered, and the tokens it took.

    `usage=None` (the provider reported nothing) is estimated from the lengths of prompt and text
    and marked `estimated`: a call is never counted as zero.
    """

    text: str
    usage: TokenUsage | None


class ModelClient(Protocol):
    """Calls a model. The user's own, or `MockModelClient`."""

    async def complete(self, prompt: str, *, model: str) -> ModelReply:
        """Answer `prompt`; called on the event loop of the run, concurrently for several calls.

        What it raises reaches the agent unchanged; the failed call is not counted.
        """
        ...


def estimated_usage(prompt: str, text: str) -> TokenUsage:
    """Token counts from text lengths, for a reply without usage; marked `estimated`."""
    return TokenUsage(
        input_tokens=_tokens(prompt), output_tokens=_tokens(text), quality="estimated"
    )


def _tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)
