"""The carbon-aware router: which region, and which hour, a job costs least in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from marlin.errors import RoutingError
from marlin.estimation import FactorSet, shipped_factor_set
from marlin.routing.hours import HOUR, Window, hour_of, values_of, windows
from marlin.routing.option import RegionChoice
from marlin.routing.score import Strategy, score, weights_of
from marlin.routing.site import Site, Sites, stress_class
from marlin.routing.words import reasons_against, reasons_for

if TYPE_CHECKING:
    from marlin.grid.provider import GridProvider

__all__ = ["CarbonAwareRouter"]


@dataclass(frozen=True, slots=True)
class _Job:
    """What is asked for, checked."""

    strategy: Strategy
    weights: Mapping[str, float]
    start: datetime
    end: datetime
    hours: int
    may_wait: bool


class CarbonAwareRouter:
    """Chooses among candidate regions.

    Without `grid`, yearly averages of the factor set are compared; with it, the hours that it
    knows. `latency_ms` tells how far each region is from the users, as they measured it [ms]:
    Marlin does not guess it.

        >>> router = CarbonAwareRouter()
        >>> router.select_region(["us-east-1", "eu-west-1", "us-west-2"]).region
        'us-west-2'
    """

    def __init__(
        self,
        *,
        grid: GridProvider | None = None,
        latency_ms: Mapping[str, float] | None = None,
        factor_set: FactorSet | None = None,
    ) -> None:
        self._grid = grid
        self._latency_ms = dict(latency_ms or {})
        self._sites = Sites(factor_set or shipped_factor_set())

    def select_region(
        self,
        candidates: Sequence[str],
        strategy: Strategy = "lowest_carbon",
        *,
        weights: Mapping[str, float] | None = None,
        max_latency_ms: float | None = None,
        at: datetime | None = None,
        deadline: datetime | None = None,
        duration_h: int = 1,
    ) -> RegionChoice:
        """The best of `candidates` (`eu-west-1`, `gcp:europe-west1`, a grid zone, a country).

        Args:
            strategy: `lowest_carbon`, `lowest_water` or `balanced`; see `marlin.routing.score`.
            weights: of `balanced`: `carbon`, `water`, `water_stress`, `latency`.
            max_latency_ms: candidates that are farther, or whose latency was not told, are out.
            at: when the job may start; now if not given.
            deadline: when it must have ended: a later, cleaner hour may be chosen.
            duration_h: hours that it takes.

        Raises RoutingError for an unknown region (with near matches) or strategy, for what
        contradicts itself, and when no candidate fits. A failing grid source never raises: yearly
        averages stand in, and the reasons say so. Within a running event loop use
        `aselect_region`.
        """
        return asyncio.run(
            self.aselect_region(
                candidates,
                strategy,
                weights=weights,
                max_latency_ms=max_latency_ms,
                at=at,
                deadline=deadline,
                duration_h=duration_h,
            )
        )

    async def aselect_region(
        self,
        candidates: Sequence[str],
        strategy: Strategy = "lowest_carbon",
        *,
        weights: Mapping[str, float] | None = None,
        max_latency_ms: float | None = None,
        at: datetime | None = None,
        deadline: datetime | None = None,
        duration_h: int = 1,
    ) -> RegionChoice:
        """`select_region` for callers in an event loop."""
        job = _job(strategy, weights, at, deadline, duration_h)
        near, far = self._within(candidates, max_latency_ms)
        found = await asyncio.gather(*(self._option(site, job) for site in near))
        options = [option for option in found if isinstance(option, RegionChoice)]
        far += [option for option in found if isinstance(option, str)]
        if not options:
            raise RoutingError(f"no candidate fits: {'; '.join(far)}; nothing was chosen")
        best, *others = sorted(options, key=lambda one: (one.score, one.carbon_g_per_it_kwh))
        alternatives = tuple(
            replace(one, reasons=(*reasons_against(one, best), *one.reasons)) for one in others
        )
        reasons = (*reasons_for(best, others, job.strategy, job.weights), *best.reasons, *far)
        return replace(best, reasons=reasons, alternatives=alternatives)

    def _within(
        self, candidates: Sequence[str], max_latency_ms: float | None
    ) -> tuple[list[Site], list[str]]:
        """The sites near enough, and in words why others are not."""
        if not candidates:
            raise RoutingError("at least one candidate region was expected; nothing was chosen")
        near: list[Site] = []
        far: list[str] = []
        for name in dict.fromkeys(candidates):
            site, latency_ms = self._sites.find(name), self._latency_ms.get(name)
            if max_latency_ms is None or (latency_ms is not None and latency_ms <= max_latency_ms):
                near.append(site)
            elif latency_ms is None:
                far.append(f"{name} is out: its latency was not told")
            else:
                far.append(f"{name} is out: {latency_ms:g} ms is above {max_latency_ms:g} ms")
        return near, far

    async def _option(self, site: Site, job: _Job) -> RegionChoice | str:
        """The best hours of a site, or why it is out."""
        window, valid_until, why_not = await self._best_window(site, job)
        if window is None and self._grid is not None and not _averages_may_stand_in(self._grid):
            kind = f"{self._grid.signal} {self._grid.basis}"
            return f"{site.name} is out: {why_not}; no average is compared with {kind} values"
        remarks = site.remarks()
        if window is None:
            row = site.place.intensity
            source = f"{row.citation.source} (yearly average, {row.citation.date})"
            intensity = site.yearly_g_per_kwh
            if why_not:
                remarks.insert(0, f"the yearly average stands in: {why_not}")
        else:
            source, intensity = window.source, window.intensity_g_per_kwh
        latency_ms = self._latency_ms.get(site.name)
        carbon, water = intensity * site.pue, site.water_l_per_kwh * site.pue
        return RegionChoice(
            region=site.name,
            carbon_intensity_g_kwh=intensity,
            carbon_source=source,
            pue=site.pue,
            carbon_g_per_it_kwh=carbon,
            water_l_per_kwh=site.water_l_per_kwh,
            water_l_per_it_kwh=water,
            water_stress=site.water_stress,
            water_stress_class=stress_class(site.water_stress),
            latency_ms=latency_ms,
            start=window.start if window else None,
            forecast_valid_until=valid_until,
            score=score(
                job.weights,
                carbon_g_per_it_kwh=carbon,
                water_l_per_it_kwh=water,
                water_stress=site.water_stress,
                latency_ms=latency_ms,
            ),
            reasons=tuple(remarks),
        )

    async def _best_window(
        self, site: Site, job: _Job
    ) -> tuple[Window | None, datetime | None, str]:
        """The cleanest hours that the source knows, until when it knows, and why not."""
        if self._grid is None:
            return None, None, ""
        if not site.zone:
            return None, None, f"the grid zone of {site.name} is not known"
        values, why_not = await values_of(self._grid, site.zone, job.start, job.end)
        fit = list(windows(values, job.hours))
        if not fit:
            gaps = f"{self._grid.name} has no {job.hours} hours in a row for zone {site.zone}"
            return None, None, why_not or gaps
        best = min(fit, key=lambda one: one.intensity_g_per_kwh) if job.may_wait else fit[0]
        return best, values[-1].hour + HOUR, ""


def _averages_may_stand_in(grid: GridProvider) -> bool:
    """Whether yearly averages are of the source's kind: marginal and direct are not."""
    return grid.signal == "average" and grid.basis == "lifecycle"


def _job(
    strategy: Strategy,
    weights: Mapping[str, float] | None,
    at: datetime | None,
    deadline: datetime | None,
    duration_h: int,
) -> _Job:
    if duration_h < 1:
        raise RoutingError(f"a duration of 1 hour or more was expected, got {duration_h}")
    start = hour_of(at or datetime.now(UTC))
    least = start + HOUR * duration_h
    end = least if deadline is None else hour_of(deadline)
    if end < least:
        raise RoutingError(
            f"a deadline of {least.isoformat()} or later was expected for {duration_h} h from "
            f"{start.isoformat()}, got {end.isoformat()}; nothing was chosen"
        )
    return _Job(
        strategy, weights_of(strategy, weights), start, end, duration_h, deadline is not None
    )
