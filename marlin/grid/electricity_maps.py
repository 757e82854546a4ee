"""Electricity Maps v3: average lifecycle intensity of consumption.

Answers: `GET /carbon-intensity/{latest,history,past-range,forecast}?zone=`, header `auth-token`
(portal.electricitymaps.com/developer-hub/api/reference). `history` has the last 24 hours,
`past-range` at most 10 days in one answer; the latter and `forecast` are parts of paid plans.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

from marlin.errors import ConfigurationError, GridZoneError
from marlin.grid.client import GridClient
from marlin.grid.provider import HOUR, Estimate, GridValue, hour_of
from marlin.grid.readings import field, instant, number, rows, spans, utc_now
from marlin.settings import GridSettings

__all__ = ["ElectricityMaps"]

_log = logging.getLogger(__name__)

_LONGEST = timedelta(days=10)
"""Longest range of one `past-range` answer at hourly granularity."""
_FACTORS = "lifecycle"


class ElectricityMaps:
    """Electricity Maps as a provider. Raises ConfigurationError without a token."""

    name: str = "electricitymaps-v3"
    basis: Literal["lifecycle"] = "lifecycle"
    signal: Literal["average"] = "average"

    def __init__(self, settings: GridSettings, *, now: Callable[[], datetime] = utc_now) -> None:
        if settings.electricitymaps_token is None:
            raise ConfigurationError(
                "Electricity Maps needs a token: set MARLIN_GRID__ELECTRICITYMAPS_TOKEN"
            )
        token = settings.electricitymaps_token.get_secret_value()
        self._headers = {"auth-token": token}
        self._client = GridClient(
            self.name, settings.electricitymaps_url, settings, secrets=[token]
        )
        self._now = now

    async def history(self, zone: str, start: datetime, end: datetime) -> list[GridValue]:
        """See `GridProvider`. Older hours need a plan with `past-range`; else they are left out."""
        start, now = hour_of(start), self._now()
        if start >= end:
            return []
        found: dict[datetime, GridValue] = {}
        refused: GridZoneError | None = None
        if start < hour_of(now) - 23 * HOUR:
            try:
                for since, until in spans(start, end, _LONGEST):
                    found |= await self._past_range(zone, since, until)
            except GridZoneError as exc:
                refused = exc
        # With a plan without `past-range`, this says whether the zone itself is in it.
        if refused is not None or end > hour_of(now) - 23 * HOUR:
            found |= await self._recent(zone, now, end)
        if refused is not None:
            _log.info("older hours of zone %s are left out: %s", zone, refused)
        return [found[hour] for hour in sorted(found) if start <= hour < end]

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        """See `GridProvider`. Needs a plan with forecasts, else GridZoneError."""
        now = self._now()
        answer = await self._get("forecast", zone)
        found: dict[datetime, GridValue] = {}
        for row in rows(answer, "forecast", provider=self.name):
            value = self._value(zone, row, now, estimate="forecast")
            if value is not None:
                found[value.hour] = value
        return [found[hour] for hour in sorted(found) if hour_of(now) <= hour < until]

    async def aclose(self) -> None:
        """See `GridProvider`."""
        await self._client.aclose()

    async def _past_range(
        self, zone: str, start: datetime, end: datetime
    ) -> dict[datetime, GridValue]:
        answer = await self._get(
            "past-range", zone, ("start", f"{start:%Y-%m-%dT%H:%M:%SZ}"), ("end", _upper(end))
        )
        return self._values(zone, rows(answer, "data", provider=self.name))

    async def _recent(self, zone: str, now: datetime, end: datetime) -> dict[datetime, GridValue]:
        answer = await self._get("history", zone)
        found = self._values(zone, rows(answer, "history", provider=self.name))
        if end > hour_of(now) and hour_of(now) not in found:
            found |= self._values(zone, [await self._get("latest", zone)])
        return found

    async def _get(self, what: str, zone: str, *more: tuple[str, str]) -> Any:
        answer = await self._client.get_json(
            f"/carbon-intensity/{what}",
            [("zone", zone), ("emissionFactorType", _FACTORS), *more],
            headers=self._headers,
            uncovered=(403, 404),
        )
        # For a zone that it does not know, the API may fall back to where the caller is.
        if (told := field(answer, "zone", provider=self.name)) != zone:
            raise self._client.data_error(f"zone {zone} was expected, got {told!r}")
        return answer

    def _values(self, zone: str, found: list[dict[str, Any]]) -> dict[datetime, GridValue]:
        now = self._now()
        values = (self._value(zone, row, now) for row in found)
        return {value.hour: value for value in values if value is not None}

    def _value(
        self, zone: str, row: dict[str, Any], now: datetime, *, estimate: Estimate | None = None
    ) -> GridValue | None:
        """None where the row has no value yet."""
        for name, expected in (("zone", zone), ("emissionFactorType", _FACTORS)):
            if row.get(name, expected) != expected:
                raise self._client.data_error(f"{name} {expected} was expected, got {row[name]!r}")
        intensity = number(field(row, "carbonIntensity", provider=self.name), provider=self.name)
        if intensity is None:
            return None
        hour = instant(field(row, "datetime", provider=self.name), provider=self.name)
        if estimate is None:
            # An hour that is not over cannot be measured.
            done = not row.get("isEstimated", False) and hour + HOUR <= now
            estimate = "measured" if done else "estimated"
        return GridValue(
            zone, hour, intensity, self.basis, self.signal, estimate, self.name, fetched_at=now
        )


def _upper(end: datetime) -> str:
    return f"{hour_of(end - timedelta(microseconds=1)) + HOUR:%Y-%m-%dT%H:%M:%SZ}"
