"""Several providers as one, for footprints: the first that knows an hour gives it."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Literal

from marlin.errors import ConfigurationError, GridDataError, GridError
from marlin.grid.provider import HOUR, GridProvider, GridValue, hour_of

__all__ = ["GridChain"]

_log = logging.getLogger(__name__)

_Ask = Callable[[GridProvider], Awaitable[list[GridValue]]]


class GridChain:
    """`providers` in order of preference, all of them average and lifecycle.

    An hour comes from the first provider that knows it. Later ones are asked only where hours are
    missing. Raises ConfigurationError for a provider of marginal or direct values: they never mix
    with these.
    """

    name: str = "chain"
    basis: Literal["lifecycle"] = "lifecycle"
    signal: Literal["average"] = "average"

    def __init__(self, providers: Sequence[GridProvider]) -> None:
        for provider in providers:
            if (provider.signal, provider.basis) != ("average", "lifecycle"):
                raise ConfigurationError(
                    f"{provider.name}: its values are {provider.signal} and {provider.basis}, a "
                    "footprint is counted with average lifecycle values; use it as a memo"
                )
        self.providers = tuple(providers)

    async def history(self, zone: str, start: datetime, end: datetime) -> list[GridValue]:
        """See `GridProvider`. Raises the first provider's GridError where all of them failed."""
        hours = math.ceil((end - hour_of(start)) / HOUR)
        return await self._merged(lambda provider: provider.history(zone, start, end), hours)

    async def forecast(self, zone: str, until: datetime) -> list[GridValue]:
        """See `GridProvider`. From the first provider that forecasts anything for the zone: two
        forecasts put together would jump where one ends."""
        return await self._merged(lambda provider: provider.forecast(zone, until), 1)

    async def aclose(self) -> None:
        """Close all providers."""
        for provider in self.providers:
            await provider.aclose()

    async def _merged(self, ask: _Ask, enough: int) -> list[GridValue]:
        found: dict[datetime, GridValue] = {}
        errors: list[GridError] = []
        for provider in self.providers:
            if len(found) >= enough:
                break
            try:
                values = await ask(provider)
            except GridError as exc:
                _log.info("%s failed, the next source is asked: %s", provider.name, exc)
                errors.append(exc)
                continue
            for value in values:
                if not value.is_headline:
                    raise GridDataError(
                        f"{provider.name}: an average lifecycle value was expected, got a "
                        f"{value.signal} {value.basis} one; nothing is used",
                        provider=provider.name,
                    )
                found.setdefault(value.hour, value)
        if errors and len(errors) == len(self.providers):
            raise errors[0]
        return [found[hour] for hour in sorted(found)]
