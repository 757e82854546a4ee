"""EIA v2, Form EIA-930: hourly generation by fuel of US balancing authorities.

Answers: `GET /electricity/rto/fuel-type-data/data/?api_key=…` (eia.gov/opendata), at most 5000 rows
each. `period` names the hour by its **end** (EIA-930: "UTC time at end of hour"). Data comes about
a day late, and there is no forecast of it. Public domain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from marlin.errors import ConfigurationError, GridZoneError
from marlin.grid.client import GridClient
from marlin.grid.generation import Fuel, mix, values_of
from marlin.grid.provider import HOUR, GridValue, hour_of
from marlin.grid.readings import field, number, rows, utc_now
from marlin.grid.zones import EIA_RESPONDENTS
from marlin.settings import GridSettings

__all__ = ["Eia"]

_ROWS = 5000
_CONTEXT = timedelta(days=1)
"""Asked for before the wanted hours, to know which fuels there are."""

_FUELS: dict[str, Fuel] = {
    "BM": "biomass",
    "COL": "coal",
    "GEO": "geothermal",
    "NG": "gas",
    "NUC": "nuclear",
    "OIL": "oil",
    "OTH": "unknown",
    "SNB": "solar",
    "SUN": "solar",
    "WAT": "hydro",
    "WNB": "wind",
    "WND": "wind",
}
"""`SNB` and `WNB` are solar and wind with a battery beside them. A code not here is unknown."""
_STORAGE = frozenset({"BAT", "OES", "PS", "UES"})


class Eia:
    """EIA as a provider. Raises ConfigurationError without a key."""

    name: str = "eia-v2"
    basis: Literal["lifecycle"] = "lifecycle"
    signal: Literal["average"] = "average"

    def __init__(self, settings: GridSettings, *, now: Callable[[], datetime] = utc_now) -> None:
        if settings.eia_api_key is None:
            raise ConfigurationError("EIA needs a key: set MARLIN_GRID__EIA_API_KEY")
        self._key = settings.eia_api_key.get_secret_value()
        self._client = GridClient(self.name, settings.eia_url, settings, secrets=[self._key])
        self._now = now

    async def history(self, zone: str, start: datetime, end: datetime) -> list[GridValue]:
        """See `GridProvider`. Estimated where a small fuel has not reported yet."""
        respondent = EIA_RESPONDENTS.get(zone)
        if respondent is None:
            raise GridZoneError(
                f"{self.name}: zone {zone} is no balancing authority that is known here; use "
                "another source for it",
                provider=self.name,
            )
        start = hour_of(start)
        if start >= end:
            return []
        power = await self._power(respondent, start - _CONTEXT, end)
        now = self._now()
        return values_of(
            mix(power, _FUELS), zone=zone, source=self.name, start=start, end=end, fetched_at=now
        )

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        """Always empty: EIA forecasts demand, not what it is generated from."""
        return []

    async def aclose(self) -> None:
        """See `GridProvider`."""
        await self._client.aclose()

    async def _power(
        self, respondent: str, start: datetime, end: datetime
    ) -> dict[str, dict[datetime, float]]:
        """Power by code and hour [MW] (an hour's MWh)."""
        by_code: defaultdict[str, dict[datetime, float]] = defaultdict(dict)
        offset = 0
        while True:
            found = await self._page(respondent, start, end, offset)
            for row in found:
                if (told := field(row, "respondent", provider=self.name)) != respondent:
                    raise self._client.data_error(
                        f"respondent {respondent} was expected, got {told!r}"
                    )
                value = number(field(row, "value", provider=self.name), provider=self.name)
                code = str(field(row, "fueltype", provider=self.name))
                if value is not None and code not in _STORAGE:
                    by_code[code][self._hour(row)] = value
            if len(found) < _ROWS:
                return dict(by_code)
            offset += _ROWS

    async def _page(
        self, respondent: str, start: datetime, end: datetime, offset: int
    ) -> list[dict[str, Any]]:
        answer = await self._client.get_json(
            "/electricity/rto/fuel-type-data/data/",
            [
                ("api_key", self._key),
                ("frequency", "hourly"),
                ("data[]", "value"),
                ("facets[respondent][]", respondent),
                # Both ends are inclusive, and name hours by their end.
                ("start", f"{start + HOUR:%Y-%m-%dT%H}"),
                ("end", f"{hour_of(end - timedelta(microseconds=1)) + HOUR:%Y-%m-%dT%H}"),
                ("sort[0][column]", "period"),
                ("sort[0][direction]", "asc"),
                # Without a second key, rows of one hour could change places between pages.
                ("sort[1][column]", "fueltype"),
                ("sort[1][direction]", "asc"),
                ("offset", str(offset)),
                ("length", str(_ROWS)),
            ],
        )
        return rows(answer, "response", "data", provider=self.name)

    def _hour(self, row: dict[str, Any]) -> datetime:
        period = field(row, "period", provider=self.name)
        try:
            ended = datetime.strptime(period, "%Y-%m-%dT%H").replace(tzinfo=UTC)
        except (TypeError, ValueError) as exc:
            raise self._client.data_error(
                f"a period such as 2026-01-15T09 was expected, got {period!r}"
            ) from exc
        return ended - HOUR
