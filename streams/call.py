"""A usage event as the hot path holds it, decoded at a fraction of pydantic's cost.

The contract stays `marlin.schemas.Usage`. What is decoded here would have been accepted by it
with the same values; whatever is not decoded here is for the contract to judge. A test compares
the two on anything Hypothesis comes up with.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from marlin.schemas.usage import MAX_TOKENS, UsageQuality

__all__ = ["Call", "decode_call", "encode_call"]

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Label = Annotated[str, msgspec.Meta(max_length=256)]
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
_NonNegative = Annotated[float, msgspec.Meta(ge=0)]
_Labels = Annotated[dict[_Id, _Label], msgspec.Meta(max_length=32)]


class Call(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """The fields of `marlin.schemas.Usage`, under the same names."""

    type: Literal["usage"]
    event_id: _Id
    run_id: _Id
    agent_id: _Id
    producer_id: _Id
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    time: datetime
    provider: _Label
    model: _Id
    region: _Label
    input_tokens: _Tokens
    cache_read_tokens: _Tokens = 0
    cache_write_tokens: _Tokens = 0
    output_tokens: _Tokens
    reasoning_tokens: _Tokens = 0
    latency_s: _NonNegative | None = None
    cost_usd: _NonNegative | None = None
    tenant: _Label | None = None
    project: _Label | None = None
    labels: _Labels | None = None
    usage_quality: UsageQuality = "reported"


_decode = msgspec.json.Decoder(Call).decode
encode_call = msgspec.json.Encoder().encode
"""The event as JSON, its fields in the contract's order."""


def decode_call(value: bytes) -> Call | None:
    """The usage event that `value` is; None where the contract has to say what it is."""
    try:
        call = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if call.time.tzinfo is not UTC or call.reasoning_tokens > call.output_tokens:
        return None
    return call
