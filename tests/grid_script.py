"""A grid provider that says what a test tells it to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from marlin.errors import GridUnavailableError
from marlin.grid.provider import Basis, Estimate, GridValue, Signal

__all__ = ["Script"]


class Script:
    """Measured values by zone and hour in `measured`, forecasts in `forecasts`; a zone in `down`
    fails. `asked` lists the zones it was asked for, in order."""

    name = "script"

    def __init__(self, *, basis: Basis = "lifecycle", signal: Signal = "average") -> None:
        self.basis: Basis = basis
        self.signal: Signal = signal
        self.measured: dict[tuple[str, datetime], float] = {}
        self.forecasts: dict[tuple[str, datetime], float] = {}
        self.down: set[str] = set()
        self.asked: list[str] = []

    async def history(self, zone: str, start: datetime, end: datetime) -> list[GridValue]:
        self.asked.append(zone)
        if zone in self.down:
            raise GridUnavailableError(f"{zone} is down", provider=self.name)
        return self._values(self.measured, zone, start, end, "measured")

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        return self._values(self.forecasts, zone, now, until, "forecast")

    async def aclose(self) -> None:
        """Nothing to close."""

    def _values(
        self,
        known: dict[tuple[str, datetime], float],
        zone: str,
        start: datetime,
        end: datetime,
        estimate: Literal["measured", "forecast"],
    ) -> list[GridValue]:
        told: Estimate = estimate
        return [
            GridValue(
                zone,
                hour,
                known[zone, hour],
                self.basis,
                self.signal,
                told,
                self.name,
                datetime.now(UTC) - timedelta(hours=1),
            )
            for of, hour in sorted(known)
            if of == zone and start <= hour < end
        ]
