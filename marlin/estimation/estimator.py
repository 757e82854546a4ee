"""The estimator: names in, compiled coefficients out, cached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

from marlin.estimation.catalogue import ModelSpec
from marlin.estimation.coefficients import Coefficients
from marlin.estimation.compiler import Load, assume_load, compile_coefficients
from marlin.estimation.factorset import FactorSet, shipped_factor_set
from marlin.estimation.hardware import OperatingPoint
from marlin.estimation.locating import Locator
from marlin.estimation.naming import ModelFinder
from marlin.estimation.places import Place

__all__ = ["Estimator", "GridIntensity", "Resolved", "default_estimator"]

_Key = tuple[str, str, str, "datetime | None"]


class GridIntensity(Protocol):
    """Hourly grid intensity, for instance from the grid topic."""

    def intensity_g_per_kwh(self, zone: str, hour: datetime) -> float | None:
        """Average lifecycle intensity of `zone` in the UTC hour that starts at `hour`, or None.

        Called once per zone and hour while that hour's coefficients are cached; must not block.
        """
        ...


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model on a load in a place."""

    spec: ModelSpec
    model_codes: tuple[str, ...]
    load: Load
    place: Place

    def compile(self, factor_set: FactorSet) -> Coefficients:
        """The coefficients of this, by `factor_set`."""
        return compile_coefficients(self.spec, self.model_codes, self.load, self.place, factor_set)


class Estimator:
    """Compiles and caches coefficients. Thread-safe; memory is bounded by `cache_size`."""

    def __init__(
        self,
        factor_set: FactorSet | None = None,
        *,
        grid: GridIntensity | None = None,
        cache_size: int = 4096,
    ) -> None:
        self.factor_set = shipped_factor_set() if factor_set is None else factor_set
        self._grid = grid
        self._finder = ModelFinder(self.factor_set)
        self._locator = Locator(self.factor_set)
        cached = lru_cache(cache_size)(self._compile)
        self._cached: Callable[[_Key], Coefficients] = cached
        self._cache_info = cached.cache_info

    @property
    def cached_keys(self) -> int:
        """Compiled keys held in memory [count]; never more than `cache_size`."""
        return self._cache_info().currsize

    def coefficients(
        self, model: str, provider: str, region: str, at: datetime | None = None
    ) -> Coefficients:
        """The coefficients of a model, provider and region, in the hour of `at`.

        Unknown names give wide, coded coefficients and never raise. `at` counts only with a grid
        source; a naive time is taken as UTC. Results are cached, least recently used leave first.
        """
        hour = None if at is None or self._grid is None else _hour(at)
        return self._cached((model, provider, region, hour))

    @property
    def has_grid(self) -> bool:
        """Whether coefficients depend on the hour."""
        return self._grid is not None

    def zone(self, provider: str, region: str) -> str:
        """The Electricity Maps zone of a region; empty where none is known. Never raises."""
        return self._locator.locate(provider, region).region.zone

    def resolve(
        self,
        model: str | ModelSpec,
        *,
        provider: str = "",
        region: str = "",
        operating_point: OperatingPoint | None = None,
        at: datetime | None = None,
    ) -> Resolved:
        """What names mean before anything is computed: model, load and place, with codes."""
        spec, codes = (model, ()) if isinstance(model, ModelSpec) else self._finder.find(model)
        place = self._locator.locate(provider, region)
        if at is not None:
            place = self._at(place, _hour(at))
        load = assume_load(spec, provider, operating_point, self.factor_set)
        return Resolved(spec, codes, load, place)

    def compile(
        self,
        model: str | ModelSpec,
        *,
        provider: str = "",
        region: str = "",
        operating_point: OperatingPoint | None = None,
        at: datetime | None = None,
    ) -> Coefficients:
        """Coefficients outside the cache, for a model of one's own or a known operating point."""
        found = self.resolve(
            model, provider=provider, region=region, operating_point=operating_point, at=at
        )
        return found.compile(self.factor_set)

    def _compile(self, key: _Key) -> Coefficients:
        model, provider, region, hour = key
        return self.compile(model, provider=provider, region=region, at=hour)

    def _at(self, place: Place, hour: datetime) -> Place:
        if self._grid is None or not place.region.zone:
            return place
        value = self._grid.intensity_g_per_kwh(place.region.zone, hour)
        if value is None or not 0 <= value < float("inf"):
            return place
        row = replace(place.intensity, scope="zone", key=place.region.zone, value=value)
        codes = [code for code in place.codes if not code.startswith("intensity_")]
        return replace(place, intensity=row, codes=(*codes, "intensity_hour"))


def _hour(at: datetime) -> datetime:
    utc = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return utc.replace(minute=0, second=0, microsecond=0)


@lru_cache(maxsize=1)
def default_estimator() -> Estimator:
    """The process-wide estimator on the shipped factor set."""
    return Estimator()
