"""A grid provider and a clock that tests set."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from marlin.errors import GridError
from marlin.grid.provider import HOUR, Basis, Estimate, GridValue, Signal, hour_of

START = datetime(2026, 1, 15, 10, tzinfo=UTC)


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.time = START + 6 * HOUR + timedelta(minutes=5)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Source:
    """A provider with hours that tests set; it records what it was asked."""

    def __init__(self, clock: Clock, name: str = "source") -> None:
        self.name = name
        self.basis: Basis = "lifecycle"
        self.signal: Signal = "average"
        self.estimates: dict[datetime, Estimate] = {}
        self.intensity_g_per_kwh = 300.0
        self.error: GridError | None = None
        self.asked: list[tuple[str, datetime, datetime]] = []
        self.closed = False
        self._clock = clock

    def value(self, zone: str, hour: datetime, estimate: Estimate) -> GridValue:
        return GridValue(
            zone,
            hour,
            self.intensity_g_per_kwh,
            self.basis,
            self.signal,
            estimate,
            self.name,
            self._clock(),
        )

    async def history(self, zone: str, start: datetime, end: datetime) -> list[GridValue]:
        self.asked.append((zone, start, end))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return [
            self.value(zone, hour, estimate)
            for hour, estimate in sorted(self.estimates.items())
            if start <= hour < end
        ]

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        now = hour_of(self._clock())
        self.asked.append((zone, now, until))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return [self.value(zone, now + n * HOUR, "forecast") for n in range(24)]

    async def aclose(self) -> None:
        self.closed = True
