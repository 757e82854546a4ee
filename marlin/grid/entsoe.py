"""ENTSO-E Transparency Platform: generation per type (document A75, process A16), as XML.

Answers: `GET ?securityToken=…&documentType=A75&processType=A16&in_Domain=…&period…`
(the platform's RESTful API guide). At most 400 requests a minute for a token. There is no forecast
of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

from marlin.errors import ConfigurationError, GridZoneError
from marlin.grid.client import GridClient
from marlin.grid.entsoe_document import Series, parse_generation
from marlin.grid.generation import Fuel, mix, values_of
from marlin.grid.provider import HOUR, GridValue, hour_of
from marlin.grid.readings import hourly, spans, utc_now
from marlin.grid.zones import ENTSOE_AREAS
from marlin.settings import GridSettings

__all__ = ["EntsoE"]

_LONGEST = timedelta(days=90)
"""Longest range of one answer: 20 types by quarter hours are about 15 MB. The API takes a year."""
_CONTEXT = timedelta(days=1)
"""Asked for before the wanted hours, to know which fuels there are."""

_FUELS: dict[str, Fuel] = {
    "B01": "biomass",
    "B02": "coal",
    "B03": "coal",
    "B04": "gas",
    "B05": "coal",
    "B06": "oil",
    "B07": "coal",
    "B08": "coal",
    "B09": "geothermal",
    "B11": "hydro",
    "B12": "hydro",
    "B13": "marine",
    "B14": "nuclear",
    "B15": "unknown",
    "B16": "solar",
    "B17": "biomass",
    "B18": "wind",
    "B19": "wind",
    "B20": "unknown",
}
"""Of the platform's production types. Lignite (B02), coal gas (B03), oil shale (B07) and peat (B08)
have no median of their own in the IPCC's table: coal stands in, and biomass for waste (B17). A type
not here is unknown."""
_STORAGE = frozenset({"B10", "B25"})
"""Pumped hydro and other storage."""


class EntsoE:
    """ENTSO-E as a provider. Raises ConfigurationError without a token."""

    name: str = "entsoe-a75"
    basis: Literal["lifecycle"] = "lifecycle"
    signal: Literal["average"] = "average"

    def __init__(self, settings: GridSettings, *, now: Callable[[], datetime] = utc_now) -> None:
        if settings.entsoe_token is None:
            raise ConfigurationError("ENTSO-E needs a token: set MARLIN_GRID__ENTSOE_TOKEN")
        self._token = settings.entsoe_token.get_secret_value()
        self._client = GridClient(self.name, settings.entsoe_url, settings, secrets=[self._token])
        self._now = now

    async def history(self, zone: str, start: datetime, end: datetime) -> list[GridValue]:
        """See `GridProvider`. Estimated where a small fuel has not reported yet."""
        area = ENTSOE_AREAS.get(zone)
        if area is None:
            raise GridZoneError(
                f"{self.name}: zone {zone} is no area that is known here; use another source",
                provider=self.name,
            )
        start, now = hour_of(start), self._now()
        found: list[Series] = []
        if start < end:
            for since, until in spans(start - _CONTEXT, end, _LONGEST):
                found += await self._series(area, since, until)
        return values_of(
            mix(_power(found), _FUELS),
            zone=zone,
            source=self.name,
            start=start,
            end=end,
            fetched_at=now,
        )

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        """Always empty: the platform forecasts wind, sun and load, not the whole mix."""
        return []

    async def aclose(self) -> None:
        """See `GridProvider`."""
        await self._client.aclose()

    async def _series(self, area: str, start: datetime, end: datetime) -> list[Series]:
        body = await self._client.get(
            "",
            [
                ("securityToken", self._token),
                ("documentType", "A75"),
                ("processType", "A16"),
                ("in_Domain", area),
                ("periodStart", f"{start:%Y%m%d%H%M}"),
                ("periodEnd", f"{hour_of(end - timedelta(microseconds=1)) + HOUR:%Y%m%d%H%M}"),
            ],
            # "No matching data" has come with 400 as well as with 200.
            readable=(200, 400),
        )
        return parse_generation(body, area, provider=self.name)


def _power(found: list[Series]) -> dict[str, dict[datetime, float]]:
    """Mean power [MW] by type and hour, of the hours that were reported as a whole."""
    # A type's hour may be told in two periods: put together before hours are made.
    points: defaultdict[tuple[str, timedelta], dict[datetime, float]] = defaultdict(dict)
    for series in found:
        if series.production_type not in _STORAGE:
            points[series.production_type, series.interval] |= series.power_mw
    by_type: defaultdict[str, dict[datetime, float]] = defaultdict(dict)
    for (production_type, interval), power_mw in points.items():
        by_type[production_type] |= hourly(power_mw, interval)
    return dict(by_type)
