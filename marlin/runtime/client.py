"""What an agent calls a model through: the client protocol and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from marlin.tokens import TokenUsage, tokens_of_length

__all__ = ["ModelClient", "ModelReply", "TokenUsage", "estimated_usage"]


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
        input_tokens=tokens_of_length(len(prompt)),
        output_tokens=tokens_of_length(len(text)),
        quality="estimated",
    )
