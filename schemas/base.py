"""What every contract shares: strictness, and the field types with their limits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic.types import GetPydanticSchema
from pydantic_core import core_schema

__all__ = [
    "MAX_TOKENS",
    "Contract",
    "Fraction",
    "Grams",
    "Id",
    "Label",
    "NonNegative",
    "Tokens",
    "UtcTime",
]

MAX_TOKENS = 100_000_000
"""Most tokens one call may claim [count]. The largest context windows of 2026 are 10 million;
ten times that is a unit error or an attack, and is dead-lettered."""


def _utc_schema(_source: object, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
    # pydantic-core checks the offset itself; a Python validator would cost 0.5 µs an event.
    return core_schema.datetime_schema(tz_constraint=0)


Id = Annotated[str, Field(min_length=1, max_length=256)]
"""An identifier: 1 to 256 characters."""

Label = Annotated[str, Field(max_length=256)]
"""A free text of at most 256 characters."""

Tokens = Annotated[int, Field(ge=0, le=MAX_TOKENS)]
"""A token count, 0 to `MAX_TOKENS` inclusive."""

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A finite number of 0 or more; its unit is in the field's name."""

Grams = NonNegative
"""A mass of CO2e [g]."""

Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
"""A share, above 0 and at most 1."""

UtcTime = Annotated[datetime, GetPydanticSchema(_utc_schema)]
"""A moment, RFC 3339, in UTC (`Z` or `+00:00`); any other offset is refused."""


class Contract(BaseModel):
    """Base of every event: unknown fields and wrong types are refused, values are frozen.

    Strict in JSON: a number in a string is not a number, a float is not a count.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        # A validator is built when it is first needed: building all takes longer than the rest of
        # an agent's imports, which need half of them.
        defer_build=True,
    )
