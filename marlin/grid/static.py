"""Yearly averages as a provider: what there is without any network."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from marlin.estimation.factorset import FactorSet, shipped_factor_set
from marlin.estimation.locating import Locator
from marlin.grid.provider import HOUR, GridValue, Tier, hour_of
from marlin.grid.readings import utc_now

__all__ = ["StaticGrid"]

_TIERS: dict[str, Tier] = {"zone": "year", "country": "country", "world": "world"}
"""Tier by the scope of the row that stands in."""


class StaticGrid:
    """The yearly averages of `places.csv`: the zone's, else its country's, else the world's.

    Every hour of a zone has the same value, and `tier` says whose average it is. No daily shape is
    laid over it: none was found that its source gives zone by zone.
    """

    name: str = "yearly-average"
    basis: Literal["lifecycle"] = "lifecycle"
    signal: Literal["average"] = "average"

    def __init__(
        self, factor_set: FactorSet | None = None, *, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._locator = Locator(shipped_factor_set() if factor_set is None else factor_set)
        self._now = now

    async def history(self, zone: str, start: datetime, end: datetime) -> list[GridValue]:
        """See `GridProvider`. A zone that is not in the tables has the world's average."""
        row = self._locator.locate("", zone).intensity
        now, hour = self._now(), hour_of(start)
        values: list[GridValue] = []
        while hour < end:
            values.append(
                GridValue(
                    zone,
                    hour,
                    row.value,
                    self.basis,
                    self.signal,
                    "estimated",
                    f"{self.name}-{row.citation.date}",
                    fetched_at=now,
                    tier=_TIERS[row.scope],
                )
            )
            hour += HOUR
        return values

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        """See `GridProvider`. The same average for every hour ahead."""
        return await self.history(zone, self._now(), until)

    async def aclose(self) -> None:
        """Nothing to close."""
