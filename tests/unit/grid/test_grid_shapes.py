"""The adapters on whole answers in the providers' own shapes, where these are at hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from grid_api import FakeApi, Reply, grid_settings

from marlin.errors import GridAuthError, GridDataError
from marlin.grid.eia import Eia
from marlin.grid.electricity_maps import ElectricityMaps
from marlin.grid.entsoe import EntsoE
from marlin.grid.provider import HOUR, GridProvider, GridValue
from marlin.grid.ukci import UkCarbonIntensity
from marlin.grid.watttime import WattTime

SHAPES = Path(__file__).parents[3] / "../shared/science/api_shapes"
pytestmark = pytest.mark.skipif(not SHAPES.is_dir(), reason="no api_shapes in ../shared/science")

T = datetime(2026, 1, 15, 10, 41, tzinfo=UTC)
H9, H10 = T.replace(hour=9, minute=0), T.replace(minute=0)


def shape(name: str, status: int = 200) -> Reply:
    return Reply((SHAPES / name).read_bytes(), status)


def brief(values: list[GridValue]) -> list[tuple[int, float, str]]:
    return [(v.hour.hour, round(v.intensity_g_per_kwh, 6), v.estimate) for v in values]


async def history(
    source: GridProvider, zone: str, start: datetime, end: datetime
) -> list[GridValue]:
    try:
        return await source.history(zone, start, end)
    finally:
        await source.aclose()


async def forecast(source: GridProvider, zone: str, until: datetime) -> list[GridValue]:
    try:
        return await source.forecast(zone, until)
    finally:
        await source.aclose()


async def test_electricity_maps(api: FakeApi) -> None:
    for what in ("latest", "history", "forecast"):
        api.on(
            f"/carbon-intensity/{what}", shape(f"electricitymaps_v3_carbon_intensity_{what}.json")
        )
    found = await history(ElectricityMaps(grid_settings(api), now=lambda: T), "DE", H9, H10 + HOUR)
    assert brief(found) == [(9, 310.0, "measured"), (10, 301.0, "estimated")]

    ahead = await forecast(ElectricityMaps(grid_settings(api), now=lambda: T), "DE", H10 + 9 * HOUR)
    assert brief(ahead) == [(11, 290.0, "forecast"), (12, 275.0, "forecast")]


async def test_electricity_maps_long_ago(api: FakeApi) -> None:
    later = datetime(2026, 2, 16, 18, tzinfo=UTC)
    api.on(
        "/carbon-intensity/past-range", shape("electricitymaps_v3_carbon_intensity_past_range.json")
    )
    start = H9.replace(hour=2)
    source = ElectricityMaps(grid_settings(api), now=lambda: later)

    assert brief(await history(source, "DK-DK2", start, start + HOUR)) == [(2, 150.0, "measured")]


async def test_electricity_maps_refused(api: FakeApi) -> None:
    api.on("/carbon-intensity/history", shape("electricitymaps_error_401.json", 401))

    with pytest.raises(GridAuthError):
        await history(ElectricityMaps(grid_settings(api), now=lambda: T), "DE", H9, H10)


async def test_watttime(api: FakeApi) -> None:
    api.on("/login", shape("watttime_login.json"))
    api.on("/v3/historical", shape("watttime_v3_historical.json"))
    api.on("/v3/forecast", shape("watttime_v3_forecast.json"))
    zone = "US-CAL-CISO"
    # One value of twelve is no hour yet.
    assert await history(WattTime(grid_settings(api), now=lambda: T), zone, H9, H10) == []

    found = await forecast(WattTime(grid_settings(api), now=lambda: T), zone, H10 + 2 * HOUR)
    # (870 + 865.5) / 2 x 0.45359237
    assert brief(found) == [(10, 393.604779, "forecast")]
    assert found[0].signal == "marginal"


async def test_watttime_other_signals_are_not_taken(api: FakeApi) -> None:
    api.on("/login", shape("watttime_login.json"))
    api.on("/v3/historical", shape("watttime_v3_signal_index.json"))

    with pytest.raises(GridDataError, match="region CAISO_NORTH was expected, got 'PSCO'"):
        await history(WattTime(grid_settings(api), now=lambda: T), "US-CAL-CISO", H9, H10)


async def test_ukci(api: FakeApi) -> None:
    api.on("/intensity/2026-01-15T10:00Z/fw48h", shape("ukci_intensity_fw24h.json"))
    api.on("/intensity/2026-01-15T09:00Z/2026-01-15T10:00Z", shape("ukci_error.json", 400))
    source = UkCarbonIntensity(grid_settings(api), now=lambda: T)
    found = await source.forecast("GB", H10 + 2 * HOUR)
    assert brief(found) == [(10, 182.0, "forecast"), (11, 170.0, "forecast")]

    with pytest.raises(GridDataError, match="400 Bad Request"):
        await history(source, "GB", H9, H10)


async def test_eia(api: FakeApi) -> None:
    api.on("/electricity/rto/fuel-type-data/data/", shape("eia_v2_rto_fuel_type_data.json"))
    found = await history(Eia(grid_settings(api)), "US-MIDA-PJM", H9 - HOUR, H9)

    assert brief(found) == [(8, 271.485714, "measured")]


async def test_entsoe(api: FakeApi) -> None:
    api.on("/api", shape("entsoe_a75_generation_per_type.xml"))
    found = await history(EntsoE(grid_settings(api)), "BE", H9, H10 + HOUR)

    assert brief(found) == [(9, 198.71875, "measured"), (10, 203.2, "measured")]
