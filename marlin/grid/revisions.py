"""What a provider tells that the grid topic does not say yet. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from marlin.grid.provider import GridValue
from marlin.schemas import GridRecord

__all__ = ["Told"]

_DECIMALS = 6
"""Digits of an intensity that are told: far below what any source knows, far above what computing
it twice changes."""


@dataclass(slots=True)
class Told:
    """What the grid topic says: the newest revision of each zone and hour."""

    _newest: dict[tuple[str, datetime], GridRecord] = field(
        default_factory=dict[tuple[str, datetime], GridRecord]
    )

    def take(self, record: GridRecord) -> None:
        """Take in a record of the topic; of each revision the first counts."""
        key = (record.zone, record.hour)
        known = self._newest.get(key)
        if known is None or record.revision > known.revision:
            self._newest[key] = record

    def news(self, values: Iterable[GridValue]) -> list[GridRecord]:
        """The records that `values` lead to: first values, and revisions of those that changed.

        A forecast is only ever a first value, and an estimate does not revise what was measured.
        What is not of the very hour, not average or not life-cycle leads to nothing.
        """
        found: dict[tuple[str, datetime], GridRecord] = {}
        for value in values:
            if value.is_headline and value.tier == "hour":
                record = self._next(value)
                if record is not None:
                    found[value.zone, value.hour] = record
        return list(found.values())

    def fetched_at(self, zone: str) -> datetime | None:
        """When anybody last fetched something new of `zone`."""
        return max(
            (one.fetched_at for one in self._newest.values() if one.zone == zone), default=None
        )

    def forget_before(self, hour: datetime) -> None:
        """Forget hours that nobody asks for any more."""
        self._newest = {key: one for key, one in self._newest.items() if key[1] >= hour}

    def _next(self, value: GridValue) -> GridRecord | None:
        known = self._newest.get((value.zone, value.hour))
        intensity = round(value.intensity_g_per_kwh, _DECIMALS)
        if known is not None:
            if value.estimate == "forecast" or intensity == known.intensity_g_per_kwh:
                return None
            if value.estimate == "estimated" and known.estimate == "measured":
                return None
        return GridRecord(
            zone=value.zone,
            hour=value.hour,
            revision=0 if known is None else known.revision + 1,
            intensity_g_per_kwh=intensity,
            basis="lifecycle",
            estimate=value.estimate,
            source=value.source,
            fetched_at=value.fetched_at,
        )
