"""Hourly intensities that came late, or were revised: found in the ledger, and adjusted.

An event is counted with what was known when it came. What is known now is the newest revision in
`grid_intensity`; the difference becomes a restatement of kind `grid`, by the same computation as
any other, so repeating it, or being killed in it, changes nothing twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from marlin.errors import DataError
from marlin.estimation.compiler import METHOD
from marlin.estimation.estimator import Estimator
from marlin.estimation.factorset import FactorSet, shipped_factor_set
from marlin.restatement.core import Restatement, compute
from marlin.restatement.ledger import Reader

__all__ = ["LateGrid", "NewestGrid", "newest_grid"]

_log = logging.getLogger(__name__)

_HOUR = timedelta(hours=1)

_NEWEST = """
SELECT zone, hour, arg_max(intensity_g_per_kwh, revision) AS intensity_g_per_kwh,
    max(revision) AS revision
FROM grid_intensity
WHERE basis = 'lifecycle' AND hour >= $start::TIMESTAMPTZ AND hour < $end::TIMESTAMPTZ
GROUP BY zone, hour
"""

_PLACES = """
SELECT DISTINCT provider, region FROM hourly
WHERE hour >= $start::TIMESTAMPTZ AND hour < $end::TIMESTAMPTZ
"""

_HOURS = f"""
WITH newest AS ({_NEWEST}),
places AS (
    SELECT unnest($providers::VARCHAR[]) AS provider, unnest($regions::VARCHAR[]) AS region,
        unnest($zones::VARCHAR[]) AS zone
),
calls AS (
    SELECT date_trunc('hour', event_time) AS hour, provider, region, intensity_g_per_kwh AS used,
        method, factors, count(*) AS calls
    FROM events
    WHERE event_time >= $start::TIMESTAMPTZ AND event_time < $end::TIMESTAMPTZ GROUP BY ALL
)
SELECT c.hour,
    coalesce(sum(c.calls) FILTER (c.used <> n.intensity_g_per_kwh), 0)::BIGINT AS other,
    list_sort(list(DISTINCT n.zone || ' ' || n.revision)) AS revisions,
    bool_or(n.revision > 0) AS revised,
    bool_and(c.method = $method AND c.factors = $factors) AS same
FROM calls AS c JOIN places AS p USING (provider, region)
    JOIN newest AS n ON n.zone = p.zone AND n.hour = c.hour
GROUP BY c.hour
HAVING other > 0 OR revised
ORDER BY c.hour
"""

_RESTATED_WITH = """
SELECT factors FROM restatements
WHERE kind = 'factors' AND period_start <= $hour::TIMESTAMPTZ AND period_end > $hour::TIMESTAMPTZ
ORDER BY restated_at DESC LIMIT 1
"""


class NewestGrid:
    """Newest values by zone and hour, as a source of the estimator."""

    def __init__(self, values: dict[tuple[str, datetime], float]) -> None:
        self._values = values

    def intensity_g_per_kwh(self, zone: str, hour: datetime) -> float | None:
        """See `marlin.estimation.estimator.GridIntensity`."""
        return self._values.get((zone, hour))


def newest_grid(connection: Reader, start: datetime, end: datetime) -> NewestGrid | None:
    """What `grid_intensity` knows of the hours from `start` (inclusive) to `end` (exclusive).

    None where it knows nothing. Whoever estimates history again needs it: without, calls that were
    counted with their hour would fall back to the year.
    """
    within = {"start": start.isoformat(), "end": end.isoformat()}
    rows: list[tuple[str, datetime, float, int]] = connection.execute(_NEWEST, within).fetchall()
    values = {(zone, hour): value for zone, hour, value, _ in rows}
    return NewestGrid(values) if values else None


class _Hour(NamedTuple):
    hour: datetime
    other: int
    """Calls that were counted with another value [count]."""
    revisions: list[str]
    revised: bool
    same: bool
    """Whether all were estimated as this process would."""


class LateGrid:
    """Looks for late values and writes adjustments through `adjust`. One call at a time.

    What was looked at is remembered, so that it is not computed again until something changes;
    forgetting it, as a restart does, costs time and nothing else.
    """

    def __init__(
        self, adjust: Callable[[Restatement], int], *, factor_set: FactorSet | None = None
    ) -> None:
        self._adjust = adjust
        self._factor_set = factor_set or shipped_factor_set()
        self._zone = Estimator(self._factor_set).zone
        self._seen: dict[datetime, tuple[int, list[str]]] = {}

    def run(self, connection: Reader, *, now: datetime, days: int) -> list[Restatement]:
        """Adjust the full hours of the last `days` before `now`; returns what was written.

        Hours that other factors or another method were used in are left alone: their adjustments
        would mix both. Raises `SinkError` when an adjustment cannot be written; nothing of it is.
        """
        end = now.replace(minute=0, second=0, microsecond=0)
        start = end - timedelta(days=days)
        hours = [one for one in self._hours(connection, start, end) if self._is_news(one)]
        written = [
            restatement
            for first, last in _periods(one.hour for one in hours)
            if (restatement := self._restate(connection, first, last + _HOUR)) is not None
        ]
        self._seen |= {one.hour: (one.other, one.revisions) for one in hours}
        self._seen = {hour: seen for hour, seen in self._seen.items() if hour >= start}
        return written

    def _hours(self, connection: Reader, start: datetime, end: datetime) -> list[_Hour]:
        within = {"start": start.isoformat(), "end": end.isoformat()}
        places: Sequence[tuple[str, str]] = connection.execute(_PLACES, within).fetchall()
        parameters = within | {
            "providers": [provider for provider, _ in places],
            "regions": [region for _, region in places],
            "zones": [self._zone(provider, region) for provider, region in places],
            "method": METHOD,
            "factors": self._factor_set.version,
        }
        found = [_Hour(*row) for row in connection.execute(_HOURS, parameters).fetchall()]
        return [one for one in found if self._is_ours(connection, one)]

    def _is_ours(self, connection: Reader, one: _Hour) -> bool:
        row = connection.execute(_RESTATED_WITH, {"hour": one.hour.isoformat()}).fetchone()
        ours = row[0] == self._factor_set.version if row else one.same
        if not ours and self._is_news(one):
            self._seen[one.hour] = (one.other, one.revisions)
            _log.warning(
                "the hour %s was estimated with other factors: its late grid data is left to "
                "`marlin restate`",
                f"{one.hour:%Y-%m-%dT%HZ}",
            )
        return ours

    def _is_news(self, one: _Hour) -> bool:
        return self._seen.get(one.hour) != (one.other, one.revisions)

    def _restate(self, connection: Reader, start: datetime, end: datetime) -> Restatement | None:
        estimator = Estimator(self._factor_set, grid=newest_grid(connection, start, end))
        try:
            restatement = compute(
                connection,
                estimator=estimator,
                kind="grid",
                reason="hourly grid data that came late or was revised",
                period_start=start,
                period_end=end,
            )
        except DataError as exc:  # calls were removed from the ledger
            _log.warning("late grid data of %s to %s: %s", start, end, exc)
            return None
        if not restatement.adjustments.num_rows:
            return None
        self._adjust(restatement)
        return restatement


def _periods(hours: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """First and last hour of each unbroken row of `hours`, which are in order."""
    found: list[tuple[datetime, datetime]] = []
    for hour in hours:
        if found and hour - found[-1][1] == _HOUR:
            found[-1] = (found[-1][0], hour)
        else:
            found.append((hour, hour))
    return found
