"""UK Carbon Intensity API (NESO): **direct** intensity of Great Britain, by the half hour.

Answers: `GET /intensity/{from}/{to}` (at most 14 days) and `/intensity/{from}/fw48h`, without a
token (carbon-intensity.github.io/api-definitions; CC BY 4.0). It counts what power stations emit
while they run, imports and losses included, and no lifecycle: a memo beside the headline.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

from marlin.errors import GridZoneError
from marlin.grid.client import GridClient
from marlin.grid.provider import HOUR, Estimate, GridValue, hour_of
from marlin.grid.readings import field, hourly, instant, number, rows, spans, utc_now
from marlin.grid.zones import UKCI_ZONE
from marlin.settings import GridSettings

__all__ = ["UkCarbonIntensity"]

_LONGEST = timedelta(days=14)
_HALF_HOUR = timedelta(minutes=30)


class UkCarbonIntensity:
    """The UK Carbon Intensity API as a provider. Its values are direct, so they are a memo."""

    name: str = "uk-carbon-intensity"
    basis: Literal["direct"] = "direct"
    signal: Literal["average"] = "average"

    def __init__(self, settings: GridSettings, *, now: Callable[[], datetime] = utc_now) -> None:
        self._client = GridClient(self.name, settings.ukci_url, settings)
        self._now = now

    async def history(self, zone: str, start: datetime, end: datetime) -> list[GridValue]:
        """See `GridProvider`. Measured where both half hours are; where one's actual value is
        not there yet, its forecast stands in, and the hour is estimated."""
        self._check(zone)
        start, end = hour_of(start), min(end, hour_of(self._now()) + HOUR)
        means: dict[datetime, float] = {}
        estimated: set[datetime] = set()
        for since, until in spans(start, end, _LONGEST):
            found, guessed = await self._half_hours(f"/intensity/{_iso(since)}/{_iso(until)}")
            means |= found
            estimated |= guessed
        return [
            self._value(zone, hour, mean, "estimated" if hour in estimated else "measured")
            for hour, mean in hourly(means, _HALF_HOUR).items()
            if start <= hour < end
        ]

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        """See `GridProvider`. Up to 48 hours ahead."""
        self._check(zone)
        now = hour_of(self._now())
        means, _ = await self._half_hours(f"/intensity/{_iso(now)}/fw48h")
        return [
            self._value(zone, hour, mean, "forecast")
            for hour, mean in hourly(means, _HALF_HOUR, whole=False).items()
            if now <= hour < until
        ]

    async def aclose(self) -> None:
        """See `GridProvider`."""
        await self._client.aclose()

    def _check(self, zone: str) -> None:
        if zone != UKCI_ZONE:
            raise GridZoneError(
                f"{self.name}: zone {UKCI_ZONE} was expected, got {zone}; use another source",
                provider=self.name,
            )

    async def _half_hours(self, path: str) -> tuple[dict[datetime, float], set[datetime]]:
        """Values by half hour [g/kWh], and the hours that have a forecast one among them."""
        answer = await self._client.get_json(path)
        values: dict[datetime, float] = {}
        estimated: set[datetime] = set()
        for row in rows(answer, "data", provider=self.name):
            at = instant(field(row, "from", provider=self.name), provider=self.name)
            intensity: Any = field(row, "intensity", provider=self.name)
            actual = number(field(intensity, "actual", provider=self.name), provider=self.name)
            forecast = number(field(intensity, "forecast", provider=self.name), provider=self.name)
            if actual is None:
                estimated.add(hour_of(at))
            value = forecast if actual is None else actual
            if value is not None:
                values[at] = value
        return values, estimated

    def _value(
        self, zone: str, hour: datetime, intensity_g_per_kwh: float, estimate: Estimate
    ) -> GridValue:
        return GridValue(
            zone,
            hour,
            intensity_g_per_kwh,
            self.basis,
            self.signal,
            estimate,
            self.name,
            fetched_at=self._now(),
        )


def _iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%MZ}"
