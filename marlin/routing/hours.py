"""The hours that a job may run in, with the intensity of each as one source tells it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from marlin.errors import GridError

if TYPE_CHECKING:
    from marlin.grid.provider import GridProvider, GridValue

__all__ = ["Window", "hour_of", "values_of", "windows"]

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive hours that a job would fill."""

    start: datetime
    intensity_g_per_kwh: float
    """Mean over its hours [gCO2e/kWh]."""
    source: str


def hour_of(at: datetime) -> datetime:
    """Begin of the UTC hour; a naive time is taken as UTC."""
    utc = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return utc.replace(minute=0, second=0, microsecond=0)


async def values_of(
    grid: GridProvider, zone: str, start: datetime, end: datetime
) -> tuple[list[GridValue], str]:
    """What `grid` knows of the hours of `zone` from `start` to `end`, and why it is not more.

    Past hours come from its history, the present and later ones from its forecast. Never raises
    for a source that fails: a router must answer without it.
    """
    now = hour_of(datetime.now(UTC))
    found: dict[datetime, GridValue] = {}
    try:
        if start < now:
            past = await grid.history(zone, start, min(end, now))
            found |= {value.hour: value for value in past}
        if end > now:
            coming = await grid.forecast(zone, end)
            found |= {value.hour: value for value in coming}
    except GridError as exc:
        return [], str(exc)
    values = [found[hour] for hour in sorted(found) if start <= hour < end]
    return values, "" if values else f"{grid.name} has no values for zone {zone} then"


def windows(values: Sequence[GridValue], hours: int) -> Iterable[Window]:
    """Every run of `hours` consecutive hours in `values`, which are in order of time."""
    for first in range(len(values) - hours + 1):
        part = values[first : first + hours]
        if part[-1].hour - part[0].hour == HOUR * (hours - 1):
            kinds = sorted({value.estimate for value in part})
            yield Window(
                part[0].hour,
                sum(value.intensity_g_per_kwh for value in part) / hours,
                f"{part[0].source}, {part[0].signal} {part[0].basis}, {' and '.join(kinds)}",
            )
