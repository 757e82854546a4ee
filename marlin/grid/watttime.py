"""WattTime v3: **marginal** operating emissions (MOER), what one more kWh would cause.

Answers: `GET /login` (HTTP Basic; a token for 30 minutes), then `/v3/historical` (at most 32 days)
and `/v3/forecast` with it (docs.watttime.org). Values are lb CO2 per MWh, every five minutes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

from marlin.errors import ConfigurationError, GridAuthError, GridZoneError
from marlin.grid.client import GridClient, Params, basic_authorization
from marlin.grid.provider import HOUR, Estimate, GridValue, hour_of
from marlin.grid.readings import field, hourly, instant, number, rows, spans, utc_now
from marlin.grid.zones import WATTTIME_REGIONS
from marlin.settings import GridSettings

__all__ = ["WattTime"]

_G_PER_KWH = 0.45359237
"""One lb/MWh in g/kWh: 1 lb = 453.59237 g exactly (international pound, 1959), 1 MWh = 1000 kWh."""
_LONGEST = timedelta(days=31)
"""Longest range of one `historical` answer; the API takes 32 days."""
_TOKEN_LIFE = timedelta(minutes=25)
"""A token lives 30 minutes; it is renewed before, so that none expires on its way."""
_HORIZON_H = 72
"""Furthest that a forecast goes [h]."""
_SIGNAL_TYPE = "co2_moer"


class WattTime:
    """WattTime as a provider. Raises ConfigurationError without a name and a password.

    Its values are marginal: to choose when and where to run, never to count a footprint with.
    """

    name: str = "watttime-v3"
    basis: Literal["direct"] = "direct"
    signal: Literal["marginal"] = "marginal"

    def __init__(self, settings: GridSettings, *, now: Callable[[], datetime] = utc_now) -> None:
        if settings.watttime_username is None or settings.watttime_password is None:
            raise ConfigurationError(
                "WattTime needs an account: set MARLIN_GRID__WATTTIME_USERNAME and "
                "MARLIN_GRID__WATTTIME_PASSWORD"
            )
        password = settings.watttime_password.get_secret_value()
        self._login = basic_authorization(settings.watttime_username, password)
        self._client = GridClient(self.name, settings.watttime_url, settings, secrets=[password])
        self._now = now
        self._token: str | None = None
        self._token_until: datetime | None = None
        self._renewing = asyncio.Lock()

    async def history(self, zone: str, start: datetime, end: datetime) -> list[GridValue]:
        """See `GridProvider`. Whole hours only."""
        start = hour_of(start)
        points: dict[datetime, float] = {}
        interval = timedelta(minutes=5)
        for since, until in spans(start, end, _LONGEST):
            answer = await self._get(
                "/v3/historical", zone, [("start", _iso(since)), ("end", _iso(until))]
            )
            interval, found = self._points(answer)
            points |= found
        return self._values(zone, hourly(points, interval), "measured", start, end)

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        """See `GridProvider`. The present hour is the mean of what is left of it."""
        now = self._now()
        hours = math.ceil((until - now) / HOUR)
        if hours <= 0:
            return []
        answer = await self._get(
            "/v3/forecast", zone, [("horizon_hours", str(min(hours, _HORIZON_H)))]
        )
        interval, points = self._points(answer)
        means = hourly(points, interval, whole=False)
        return self._values(zone, means, "forecast", hour_of(now), until)

    async def aclose(self) -> None:
        """See `GridProvider`."""
        await self._client.aclose()

    async def _get(self, path: str, zone: str, params: Params) -> dict[str, Any]:
        region = WATTTIME_REGIONS.get(zone)
        if region is None:
            raise GridZoneError(
                f"{self.name}: zone {zone} has no region there; use another source for it",
                provider=self.name,
            )
        query = [("region", region), ("signal_type", _SIGNAL_TYPE), *params]
        token = await self._valid_token(None)
        try:
            answer = await self._ask(path, query, token)
        except GridAuthError:
            # The token may have been revoked before its time; a new one is tried once.
            answer = await self._ask(path, query, await self._valid_token(token))
        meta = field(answer, "meta", provider=self.name)
        for name, expected in (
            ("region", region),
            ("signal_type", _SIGNAL_TYPE),
            ("units", "lbs_co2_per_mwh"),
        ):
            if (told := field(meta, name, provider=self.name)) != expected:
                raise self._client.data_error(f"{name} {expected} was expected, got {told!r}")
        return answer

    async def _ask(self, path: str, query: Params, token: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        # With a valid token, 403 means that the plan does not have the region.
        answer: dict[str, Any] = await self._client.get_json(
            path, query, headers=headers, uncovered=(403, 404)
        )
        return answer

    async def _valid_token(self, refused: str | None) -> str:
        """The token in use, or a new one where it is too old or is the one that was `refused`."""
        async with self._renewing:
            until = self._token_until
            if self._token in (None, refused) or until is None or self._now() >= until:
                started = self._now()
                answer = await self._client.get_json(
                    "/login", headers={"Authorization": self._login}
                )
                token = field(answer, "token", provider=self.name)
                if not isinstance(token, str) or not token:
                    raise self._client.data_error("a token was expected from /login, got none")
                self._token, self._token_until = token, started + _TOKEN_LIFE
            assert self._token is not None
            return self._token

    def _points(self, answer: dict[str, Any]) -> tuple[timedelta, dict[datetime, float]]:
        """The interval of an answer and its values [lb/MWh]; nulls are left out."""
        seconds = number(
            field(answer["meta"], "data_point_period_seconds", provider=self.name),
            provider=self.name,
        )
        if seconds is None or seconds <= 0 or 3600 % seconds:
            raise self._client.data_error(
                f"data_point_period_seconds that divide an hour were expected, got {seconds}"
            )
        found: dict[datetime, float] = {}
        for row in rows(answer, "data", provider=self.name):
            value = number(field(row, "value", provider=self.name), provider=self.name)
            if value is not None:
                at = instant(field(row, "point_time", provider=self.name), provider=self.name)
                found[at] = value
        return timedelta(seconds=seconds), found

    def _values(
        self,
        zone: str,
        means: dict[datetime, float],
        estimate: Estimate,
        start: datetime,
        end: datetime,
    ) -> list[GridValue]:
        now = self._now()
        return [
            GridValue(
                zone, hour, mean * _G_PER_KWH, self.basis, self.signal, estimate, self.name, now
            )
            for hour, mean in means.items()
            if start <= hour < end
        ]


def _iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S+00:00}"
