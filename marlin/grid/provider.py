"""What every source of grid carbon intensity gives: one value per zone and hour.

Three things must never be mixed, so each value names them:

- `signal`: **average** (the mix as it is: what a footprint is counted with) or **marginal** (what
  one more kWh would cause: for the choice of when and where to run, never for a footprint);
- `basis`: **lifecycle** (with fuel supply and building the plants) or **direct** (combustion only);
- `tier`: how near the value is to the place and hour asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from marlin.errors import GridDataError

__all__ = [
    "AverageGridProvider",
    "Basis",
    "Estimate",
    "GridProvider",
    "GridValue",
    "Signal",
    "Tier",
    "headline",
    "hour_of",
]

Basis = Literal["lifecycle", "direct"]
Signal = Literal["average", "marginal"]
Estimate = Literal["measured", "estimated", "forecast"]
Tier = Literal["hour", "year", "country", "world"]

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class GridValue:
    """The carbon intensity of one zone in one hour, as one source told it.

    Raises GridDataError for a time that is no hour in UTC and for a negative or endless intensity.
    """

    zone: str
    """Electricity Maps zone, such as `DE` or `US-MIDA-PJM`."""
    hour: datetime
    """Begin of the hour (UTC)."""
    intensity_g_per_kwh: float
    """[gCO2e/kWh]; [gCO2/kWh] where `signal` is marginal."""
    basis: Basis
    signal: Signal
    estimate: Estimate
    source: str
    """Who told it, such as `electricitymaps-v3`."""
    fetched_at: datetime
    """When it was fetched (UTC)."""
    tier: Tier = "hour"
    """`hour`: of this zone and hour; `year`: the zone's yearly average stands in; `country` and
    `world`: the yearly average of those."""

    def __post_init__(self) -> None:
        if self.hour.tzinfo is not UTC or self.hour != hour_of(self.hour):
            raise GridDataError(
                f"{self.source}: the begin of an hour in UTC was expected for zone {self.zone}, "
                f"got {self.hour.isoformat()}; the value is not used",
                provider=self.source,
            )
        if not 0 <= self.intensity_g_per_kwh < float("inf"):
            raise GridDataError(
                f"{self.source}: an intensity of 0 g/kWh or more was expected for zone "
                f"{self.zone} at {self.hour.isoformat()}, got {self.intensity_g_per_kwh}; "
                "the value is not used",
                provider=self.source,
            )

    @property
    def is_headline(self) -> bool:
        """Whether a footprint may be counted with it: average and lifecycle."""
        return self.signal == "average" and self.basis == "lifecycle"


class GridProvider(Protocol):
    """A source of intensities. Safe to ask from many tasks of one event loop."""

    @property
    def name(self) -> str:
        """Becomes `GridValue.source`."""
        ...

    @property
    def basis(self) -> Basis:
        """The basis of every value it gives."""
        ...

    @property
    def signal(self) -> Signal:
        """The signal of every value it gives."""
        ...

    async def history(self, zone: str, start: datetime, end: datetime) -> list[GridValue]:
        """Values of the hours from `start` (inclusive) to `end` (exclusive), in order of time.

        Hours that the source does not know, not yet or not at all, are left out. Raises GridError:
        GridZoneError where the source, or the plan paid for, has no such zone.
        """
        ...

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        """Forecast values of the hours from the present one to `until` (exclusive), in order.

        Empty where the source forecasts nothing. Raises GridError as `history` does.
        """
        ...

    async def aclose(self) -> None:
        """Close its connections. It may not be asked any more."""
        ...


class AverageGridProvider(GridProvider, Protocol):
    """A provider that a footprint may be counted with, as far as its signal goes.

    Consumers that count take this type: a type checker refuses a marginal provider there, and
    `marlin.grid.chain` refuses it when it runs.
    """

    @property
    def signal(self) -> Literal["average"]:
        """Always average."""
        ...


def headline(values: Iterable[GridValue]) -> list[GridValue]:
    """Those of `values` that a footprint may be counted with: average and lifecycle."""
    return [value for value in values if value.is_headline]


def hour_of(at: datetime) -> datetime:
    """Begin of the UTC hour that `at` is in. Raises ValueError for a time without a zone."""
    if at.tzinfo is None:
        raise ValueError(f"a time with a time zone was expected, got {at.isoformat()}")
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
