"""`grid`: carbon intensity of one grid zone in one hour, as a provider told it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, field_validator

from marlin.schemas.base import Contract, NonNegative, UtcTime

__all__ = ["GridEstimate", "GridRecord"]

GridEstimate = Literal["measured", "estimated", "forecast"]


class GridRecord(Contract):
    """A zone's average life-cycle carbon intensity in one hour.

    Only average values on the life-cycle basis: marginal ones, and ones of direct emissions alone,
    never come here. A record is never changed; a value that changed is the next revision. At least
    once: readers keep the first of each zone, hour and revision.
    """

    type: Literal["grid"] = "grid"
    zone: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^|]+$")]
    """Electricity Maps zone, such as `DE` or `US-MIDA-PJM`."""
    hour: UtcTime
    """Begin of the hour, on the hour."""
    revision: Annotated[int, Field(ge=0, le=2**31 - 1)]
    """0 as first told, counted up by each later value."""
    intensity_g_per_kwh: NonNegative
    """Carbon intensity of the electricity used there [gCO2e/kWh]."""
    basis: Literal["lifecycle"]
    estimate: GridEstimate
    """How the source came to the value."""
    source: Annotated[str, Field(min_length=1, max_length=256)]
    """Who told it, such as `electricitymaps-v3`."""
    fetched_at: UtcTime

    @field_validator("hour")
    @classmethod
    def _is_on_the_hour(cls, hour: datetime) -> datetime:
        if hour.minute or hour.second or hour.microsecond:
            raise ValueError("an hour is told by its begin, with no minutes or seconds")
        return hour.astimezone(UTC)

    @property
    def key(self) -> bytes:
        """Key of the record on its topic: `zone|hour|revision`."""
        return f"{self.zone}|{self.hour:%Y-%m-%dT%HZ}|{self.revision}".encode()
