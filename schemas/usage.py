"""`usage`: one model call of one agent of one run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from marlin.schemas.base import MAX_TOKENS, Contract, Id, Label, NonNegative, Tokens, UtcTime

__all__ = ["MAX_TOKENS", "Usage", "UsageQuality"]

UsageQuality = Literal["reported", "partial", "estimated", "missing"]
"""How the token counts came about: reported by the provider, partial (a cancelled stream),
estimated by the runtime, or missing (the call happened, its tokens are unknown)."""


class Usage(Contract):
    """Tokens of one model call, normalised at the edge.

    Token classes do not overlap: `input_tokens` are fresh (computed now, not stored),
    `cache_read_tokens` were served from a cache, `cache_write_tokens` were computed now and
    stored. `output_tokens` includes reasoning; `reasoning_tokens` says how many of it.
    """

    type: Literal["usage"] = "usage"
    event_id: Id
    run_id: Id
    agent_id: Id
    producer_id: Id
    seq: Annotated[int, Field(ge=0, le=2**53)]
    """Counts up by 1 per (producer_id, run_id), from 0. A repeated number is a duplicate and is
    dropped; a skipped one is lost usage and is counted."""
    time: UtcTime
    provider: Label
    model: Id
    region: Label
    input_tokens: Tokens
    cache_read_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    output_tokens: Tokens
    reasoning_tokens: Tokens = 0
    latency_s: NonNegative | None = None
    cost_usd: NonNegative | None = None
    tenant: Label | None = None
    project: Label | None = None
    labels: Annotated[dict[Id, Label], Field(max_length=32)] | None = None
    usage_quality: UsageQuality = "reported"

    @model_validator(mode="after")
    def _reasoning_is_part_of_output(self) -> Self:
        if self.reasoning_tokens > self.output_tokens:
            raise ValueError(
                f"reasoning_tokens ({self.reasoning_tokens}) is part of output_tokens "
                f"({self.output_tokens}) and cannot exceed it"
            )
        return self
