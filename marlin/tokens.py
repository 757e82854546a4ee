"""The tokens of one model call, in classes that do not overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marlin.schemas.usage import UsageQuality

__all__ = ["CHARACTERS_PER_TOKEN", "TokenUsage", "tokens_of_length"]

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


def tokens_of_length(characters: int) -> int:
    """How many tokens a text of so many characters is, roughly; rounded up."""
    return -(-characters // CHARACTERS_PER_TOKEN)
