from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from grid_api import FakeApi, Reply, grid_settings

from marlin.errors import ConfigurationError
from marlin.estimation import Estimator
from marlin.grid.chain import GridChain
from marlin.grid.opening import PROVIDERS, open_grid, open_provider
from marlin.grid.provider import HOUR
from marlin.grid.static import StaticGrid
from marlin.grid.zones import EIA_RESPONDENTS, ENTSOE_AREAS, UKCI_ZONE, WATTTIME_REGIONS
from marlin.settings import GridSettings, Settings

T = datetime(2026, 1, 15, 10, tzinfo=UTC)


@pytest.fixture
def everything(api: FakeApi, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, grid=grid_settings(api, provider=tuple(PROVIDERS)))


def test_lists_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARLIN_GRID__PROVIDER", "electricitymaps, entsoe")
    monkeypatch.setenv("MARLIN_GRID__ZONES", "DE,US-MIDA-PJM,")
    monkeypatch.setenv("MARLIN_GRID__ELECTRICITYMAPS_TOKEN", "hush")
    grid = Settings().grid

    assert grid.provider == ("electricitymaps", "entsoe")
    assert grid.zones == ("DE", "US-MIDA-PJM")
    assert "hush" not in repr(grid)


async def test_without_a_provider_there_are_yearly_averages(tmp_path: Path) -> None:
    async with open_grid(Settings(home=tmp_path)) as grid:
        assert isinstance(grid, StaticGrid)
    assert list(tmp_path.iterdir()) == []


async def test_only_what_counts_is_in_the_chain(everything: Settings) -> None:
    async with open_grid(everything) as grid:
        assert isinstance(grid, GridChain)
        assert [one.name for one in grid.providers] == [
            "electricitymaps-v3",
            "eia-v2",
            "entsoe-a75",
        ]


async def test_memos_alone_leave_yearly_averages(everything: Settings) -> None:
    memos = everything.grid.model_copy(update={"provider": ("watttime", "ukci")})

    async with open_grid(everything.model_copy(update={"grid": memos})) as grid:
        assert isinstance(grid, StaticGrid)


async def test_fetched_once_over_restarts(everything: Settings, api: FakeApi) -> None:
    half_hours = [
        {"from": f"2026-01-15T10:{minute}Z", "intensity": {"forecast": 1, "actual": actual}}
        for minute, actual in (("00", 176), ("30", 180))
    ]
    api.on("/intensity/2026-01-15T10:00Z/2026-01-15T11:00Z", Reply({"data": half_hours}))

    for _ in range(2):
        async with open_provider("ukci", everything) as source:
            (value,) = await source.history("GB", T, T + HOUR)
            assert (value.intensity_g_per_kwh, value.is_headline) == (178.0, False)
    assert len(api.requests) == 1
    assert (everything.home_dir / "grid" / "intensities.sqlite").is_file()


async def test_static_by_name(everything: Settings) -> None:
    async with open_provider("static", everything) as source:
        assert isinstance(source, StaticGrid)


@pytest.mark.parametrize(
    ("name", "told"), [("nonsense", "got 'nonsense'"), ("eia", "MARLIN_GRID__EIA_API_KEY")]
)
async def test_what_cannot_be_opened(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        async with open_provider(name, Settings(home=tmp_path, grid=GridSettings())):
            pass


@pytest.mark.parametrize(
    "names", [EIA_RESPONDENTS, ENTSOE_AREAS, WATTTIME_REGIONS, {UKCI_ZONE: "GB"}]
)
def test_zones_are_those_of_the_regions(names: dict[str, Any]) -> None:
    zones = {region.zone for region in Estimator().factor_set.regions.values()}

    assert set(names) <= zones
    assert all(names.values())


def test_every_european_and_american_zone_has_a_source() -> None:
    zones = {region.zone for region in Estimator().factor_set.regions.values() if region.zone}

    assert {zone for zone in zones if zone.startswith("US-")} == set(EIA_RESPONDENTS)
    assert all(len(code) == 16 for code in ENTSOE_AREAS.values())
