"""From settings to sources: each configured provider, cached."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager

from marlin.errors import ConfigurationError
from marlin.grid.cache import CachedGrid
from marlin.grid.chain import GridChain
from marlin.grid.eia import Eia
from marlin.grid.electricity_maps import ElectricityMaps
from marlin.grid.entsoe import EntsoE
from marlin.grid.provider import AverageGridProvider, GridProvider
from marlin.grid.static import StaticGrid
from marlin.grid.store import GridStore
from marlin.grid.ukci import UkCarbonIntensity
from marlin.grid.watttime import WattTime
from marlin.settings import GridSettings, Settings

__all__ = ["PROVIDERS", "open_grid", "open_provider"]

PROVIDERS: dict[str, Callable[[GridSettings], GridProvider]] = {
    "electricitymaps": ElectricityMaps,
    "watttime": WattTime,
    "ukci": UkCarbonIntensity,
    "eia": Eia,
    "entsoe": EntsoE,
}
"""Provider by its name in `MARLIN_GRID__PROVIDER`."""


@asynccontextmanager
async def open_provider(name: str, settings: Settings) -> AsyncGenerator[GridProvider, None]:
    """One provider, cached on disk; `static` for the yearly averages.

    Raises ConfigurationError for an unknown name and for settings that miss its token.
    """
    if name == StaticGrid.name or name == "static":
        yield StaticGrid()
        return
    async with _opened([name], settings) as (provider,):
        yield provider


@asynccontextmanager
async def open_grid(settings: Settings) -> AsyncGenerator[AverageGridProvider, None]:
    """What footprints are counted with: the configured providers of average lifecycle values, the
    preferred one first, each cached on disk; the yearly averages where there are none.

    Providers of marginal or direct values are passed over: `open_provider` opens them. Raises
    ConfigurationError where a token is missing.
    """
    async with _opened(settings.grid.provider, settings) as providers:
        fit = [one for one in providers if (one.signal, one.basis) == ("average", "lifecycle")]
        yield GridChain(fit) if fit else StaticGrid()


@asynccontextmanager
async def _opened(
    names: Iterable[str], settings: Settings
) -> AsyncGenerator[list[GridProvider], None]:
    unknown = [name for name in names if name not in PROVIDERS]
    if unknown:
        raise ConfigurationError(
            f"a grid provider among {', '.join(PROVIDERS)} was expected, got {unknown[0]!r}"
        )
    bare = [PROVIDERS[name](settings.grid) for name in names]
    if not bare:
        yield []
        return
    store = GridStore(settings.grid_cache_path, max_hours=settings.grid.cache_max_hours)
    try:
        yield [CachedGrid(provider, store, settings.grid) for provider in bare]
    finally:
        for provider in bare:
            await provider.aclose()
        store.close()
