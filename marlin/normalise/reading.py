"""What was read from a model's answer."""

from __future__ import annotations

from dataclasses import dataclass

from marlin.tokens import TokenUsage

__all__ = ["Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """The tokens of an answer, and what the answer says of its model.

    Where the tokens are not `reported`, classes that are not known are 0.
    """

    tokens: TokenUsage
    model: str | None = None
    """The model that answered, as the answer names it; None where it does not."""
    provider: str | None = None
    """Who answered, where the shape of the answer tells; None where it does not."""
