"""A provider that asks another once per zone and hour, whoever asks and however often."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from copy import copy
from datetime import datetime, timedelta

from marlin.errors import GridAuthError, GridError, GridRateLimitError, GridZoneError
from marlin.grid.provider import HOUR, Basis, GridProvider, GridValue, Signal, hour_of
from marlin.grid.readings import utc_now
from marlin.grid.store import GridStore, Kind, Stored
from marlin.settings import GridSettings

__all__ = ["CachedGrid"]

_log = logging.getLogger(__name__)

_WHOLE = ("", "")
"""Stands for all zones of a provider."""
_AHEAD = timedelta(hours=48)
"""How far forecasts are asked for at least, so that askers of nearer hours share one answer."""
_SETTLED = timedelta(days=7)
"""What a source does not have, or has only estimated, after so long will hardly come: it is asked
for once a day (`uncovered_pause_s`) rather than every quarter of an hour."""


class CachedGrid:
    """`provider` behind a store on disk.

    Measured hours are fetched once and kept. Estimated and missing ones are fetched again after
    `refresh_after_s`, forecasts too. Concurrent askers of a zone wait for one fetch. After an error
    the provider is left alone, for that zone, for `error_pause_s` or as long as it asked for; zones
    that it does not have for `uncovered_pause_s`. What is known is given meanwhile.

    Closing it closes the provider, not the store.
    """

    def __init__(
        self,
        provider: GridProvider,
        store: GridStore,
        settings: GridSettings,
        *,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.provider = provider
        self._store = store
        self._settings = settings
        self._now = now
        self._asking: defaultdict[tuple[str, Kind], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._failed: dict[tuple[str, str], tuple[GridError, datetime]] = {}

    @property
    def name(self) -> str:
        """See `GridProvider`."""
        return self.provider.name

    @property
    def basis(self) -> Basis:
        """See `GridProvider`."""
        return self.provider.basis

    @property
    def signal(self) -> Signal:
        """See `GridProvider`."""
        return self.provider.signal

    async def history(self, zone: str, start: datetime, end: datetime) -> list[GridValue]:
        """See `GridProvider`. Hours that have not begun are never asked for.

        Raises GridError only where nothing of these hours is known.
        """
        start, end = hour_of(start), min(end, hour_of(self._now()) + HOUR)
        known = self._hours(zone, start, end)
        error: GridError | None = None
        if self._needed(known, start, end):
            async with self._asking[zone, "history"]:
                # Whoever waited for this may find that another has fetched it.
                needed = self._needed(self._hours(zone, start, end), start, end)
                if needed:
                    error = await self._fetch_history(zone, needed)
            known = self._hours(zone, start, end)
        values = [stored.value for stored in known.values() if stored.value is not None]
        if error is not None and not values:
            raise error
        return values

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        """See `GridProvider`. Raises GridError only where no earlier forecast reaches as far as
        the present hour."""
        error: GridError | None = None
        if not self._is_fresh(zone, until):
            async with self._asking[zone, "forecast"]:
                if not self._is_fresh(zone, until):
                    error = await self._fetch_forecast(zone, until)
        known = self._store.hours(self.name, zone, "forecast", hour_of(self._now()), until)
        values = [stored.value for stored in known.values() if stored.value is not None]
        if error is not None and not values:
            raise error
        return values

    async def aclose(self) -> None:
        """See `GridProvider`."""
        await self.provider.aclose()

    def _hours(self, zone: str, start: datetime, end: datetime) -> dict[datetime, Stored]:
        return self._store.hours(self.name, zone, "history", start, end)

    def _needed(
        self, known: dict[datetime, Stored], start: datetime, end: datetime
    ) -> list[datetime]:
        """The hours that are not known, or may have changed."""
        now = self._now()
        needed: list[datetime] = []
        hour = start
        while hour < end:
            stored = known.get(hour)
            settled = hour < now - _SETTLED
            pause_s = (
                self._settings.uncovered_pause_s if settled else self._settings.refresh_after_s
            )
            if stored is None or (
                not stored.final and (now - stored.fetched_at).total_seconds() >= pause_s
            ):
                needed.append(hour)
            hour += HOUR
        return needed

    def _is_fresh(self, zone: str, until: datetime) -> bool:
        asked = self._store.forecast_asked(self.name, zone)
        if asked is None:
            return False
        asked_until, fetched_at = asked
        age_s = (self._now() - fetched_at).total_seconds()
        return asked_until >= until and age_s < self._settings.refresh_after_s

    async def _fetch_history(self, zone: str, needed: list[datetime]) -> GridError | None:
        if (paused := self._paused(zone, "history")) is not None:
            return paused
        start, end = needed[0], needed[-1] + HOUR
        try:
            values = await self.provider.history(zone, start, end)
        except GridError as exc:
            return self._failure(zone, "history", exc)
        told = {value.hour for value in values}
        missing = [hour for hour in needed if hour not in told]
        self._store.keep_hours(self.name, zone, values, missing, self._now())
        return None

    async def _fetch_forecast(self, zone: str, until: datetime) -> GridError | None:
        if (paused := self._paused(zone, "forecast")) is not None:
            return paused
        until = max(until, hour_of(self._now()) + _AHEAD)
        try:
            values = await self.provider.forecast(zone, until)
        except GridError as exc:
            return self._failure(zone, "forecast", exc)
        self._store.keep_forecast(self.name, zone, values, until, self._now())
        return None

    def _paused(self, zone: str, kind: Kind) -> GridError | None:
        """The error because of which the provider is left alone for now."""
        now = self._now()
        for key in ((zone, kind), _WHOLE):
            if key in self._failed:
                error, until = self._failed[key]
                if now < until:
                    # One instance raised in many tasks would gather the tracebacks of all.
                    return copy(error)
                del self._failed[key]
        message = self._store.uncovered(self.name, zone, kind, now)
        return None if message is None else GridZoneError(message, provider=self.name)

    def _failure(self, zone: str, kind: Kind, error: GridError) -> GridError:
        """Remember an error for as long as it should keep others from asking."""
        _log.warning("%s of zone %s: %s", kind, zone, error)
        now, settings = self._now(), self._settings
        if isinstance(error, GridZoneError):
            until = now + timedelta(seconds=settings.uncovered_pause_s)
            self._store.keep_uncovered(self.name, zone, kind, str(error), until)
            return error
        # A wrong token or a spent allowance concerns every zone.
        everywhere = isinstance(error, (GridAuthError, GridRateLimitError))
        pause_s = error.retry_after_s
        if pause_s is None:
            refused = isinstance(error, GridAuthError)
            pause_s = settings.uncovered_pause_s if refused else settings.error_pause_s
        key = _WHOLE if everywhere else (zone, kind)
        self._failed[key] = copy(error), now + timedelta(seconds=pause_s)
        return error
