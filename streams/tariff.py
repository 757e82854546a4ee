"""What calls of one model, provider and region cost, and what their carbon records say of it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import orjson

from marlin.estimation import Estimator, Ranged
from marlin.streams.grid import HourlyValues, hour_number

__all__ = ["AFTER_FINISH", "Tariff", "Tariffs"]

AFTER_FINISH = "after_finish"
"""Quality code of usage that came after its run's `run.finished`."""

MAX_TARIFFS = 4096
"""Tariffs remembered [count]; compiling one again takes 0.2 ms."""


class Tariff(NamedTuple):
    """Compiled coefficients, and the part of a carbon record that depends on nothing else."""

    ranged: Ranged
    said: bytes
    """`,"intensity_g_per_kwh":…,"method":…,"factors":…,"quality":[…],`"""
    said_late: bytes
    """The same for usage after its run has finished."""


class Tariffs:
    """Tariffs by name, as the estimator has them."""

    def __init__(self, estimator: Estimator, grid: HourlyValues | None = None) -> None:
        """With `grid`, `estimator` must have the same one as its source."""
        self._estimator = estimator
        self._grid = grid
        self._zones: dict[tuple[str, str], str] = {}
        self._known: dict[tuple[str, str, str, int | None], Tariff] = {}

    def of(self, model: str, provider: str, region: str, at: datetime, sent_ms: int) -> Tariff:
        """The tariff of a call made `at`, whose event came on its topic at `sent_ms` [ms].

        Unknown names have a wide one; never raises.
        """
        hour = None if self._grid is None else self._hour(provider, region, at, sent_ms)
        key = (model, provider, region, hour)
        tariff = self._known.get(key)
        if tariff is None:
            if len(self._known) >= MAX_TARIFFS:
                self._known.clear()
            tariff = self._known[key] = self._compile(
                model, provider, region, None if hour is None else at
            )
        return tariff

    def _hour(self, provider: str, region: str, at: datetime, sent_ms: int) -> int | None:
        """The number of the hour of `at`, where its own intensity is used."""
        place = (provider, region)
        zone = self._zones.get(place)
        if zone is None:
            if len(self._zones) >= MAX_TARIFFS:
                self._zones.clear()
            zone = self._zones[place] = self._estimator.zone(provider, region)
        hour = hour_number(at)
        assert self._grid is not None
        return hour if self._grid.is_usable(zone, hour, sent_ms) else None

    def _compile(self, model: str, provider: str, region: str, at: datetime | None) -> Tariff:
        by = self._estimator.coefficients(model, provider, region, at)

        def said(*codes: str) -> bytes:
            told = orjson.dumps(
                {
                    "intensity_g_per_kwh": by.intensity_g_per_kwh,
                    "method": by.method,
                    "factors": by.factors,
                    "quality": codes,
                }
            )
            return b"," + told[1:-1] + b","

        return Tariff(by.ranged, said(*by.codes), said(*by.codes, AFTER_FINISH))
