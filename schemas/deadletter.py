"""A refused record: its bytes unchanged as key and value, the reason in its headers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from marlin.schemas.base import Contract, UtcTime

__all__ = ["DeadLetter", "Step"]

Step = Literal["size", "decode", "validate", "key"]
"""Where a record was refused: too large, not JSON, against the contract, or under a wrong key."""

_PREFIX = "marlin."


class DeadLetter(Contract):
    """Why and where a record was refused. Travels as headers `marlin.<field>`, UTF-8 text.

    The record's key and value are the original bytes, so that a mended producer, or an
    operator, can send them again as they were.
    """

    step: Step
    reason: Annotated[str, Field(max_length=2048)]
    topic: str
    partition: int
    offset: int
    refused_at: UtcTime

    def to_headers(self) -> list[tuple[str, bytes]]:
        """The Kafka headers that carry this."""
        dumped = self.model_dump(mode="json")
        return [(_PREFIX + name, str(value).encode()) for name, value in dumped.items()]

    @classmethod
    def from_headers(cls, headers: Sequence[tuple[str, bytes]]) -> Self:
        """Read what `to_headers` wrote; raises `pydantic.ValidationError` on anything else."""
        fields = {
            name.removeprefix(_PREFIX): value.decode()
            for name, value in headers
            if name.startswith(_PREFIX)
        }
        return cls(
            step=fields["step"],  # type: ignore[arg-type]
            reason=fields["reason"],
            topic=fields["topic"],
            partition=int(fields["partition"]),
            offset=int(fields["offset"]),
            refused_at=datetime.fromisoformat(fields["refused_at"]),
        )
