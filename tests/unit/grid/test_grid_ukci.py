from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grid_api import FakeApi, Reply, grid_settings

from marlin.errors import ConfigurationError, GridDataError, GridZoneError
from marlin.grid.chain import GridChain
from marlin.grid.provider import HOUR
from marlin.grid.ukci import UkCarbonIntensity

T = datetime(2026, 1, 15, 10, tzinfo=UTC)
NOW = T + timedelta(hours=3, minutes=10)
PATH = "/intensity/2026-01-15T10:00Z/2026-01-15T13:00Z"


def half_hour(n: int, forecast: Any, actual: Any) -> dict[str, Any]:
    start = T + n * timedelta(minutes=30)
    return {
        "from": f"{start:%Y-%m-%dT%H:%MZ}",
        "to": f"{start + timedelta(minutes=30):%Y-%m-%dT%H:%MZ}",
        "intensity": {"forecast": forecast, "actual": actual, "index": "moderate"},
    }


@pytest.fixture
async def source(api: FakeApi) -> AsyncIterator[UkCarbonIntensity]:
    made = UkCarbonIntensity(grid_settings(api), now=lambda: NOW)
    yield made
    await made.aclose()


async def test_half_hours_become_hours(source: UkCarbonIntensity, api: FakeApi) -> None:
    rows = [
        # The API starts with the half hour that ends at the asked time.
        half_hour(-1, 200, 190),
        half_hour(0, 180, 176),
        half_hour(1, 182, 179),
        half_hour(2, 170, 171),
        half_hour(3, 160, None),
        half_hour(4, None, None),
        half_hour(5, 150, 151),
    ]
    api.on(PATH, Reply({"data": rows}))

    values = await source.history("GB", T, T + 3 * HOUR)

    # 11:00 has a half that is not measured yet: (171 + 160) / 2. Of 12:00 half is not known at all.
    assert [(v.hour, v.intensity_g_per_kwh, v.estimate) for v in values] == [
        (T, 177.5, "measured"),
        (T + HOUR, 165.5, "estimated"),
    ]
    assert {(v.basis, v.signal, v.source) for v in values} == {
        ("direct", "average", "uk-carbon-intensity")
    }


async def test_hours_that_have_not_begun_are_no_history(
    source: UkCarbonIntensity, api: FakeApi
) -> None:
    path = "/intensity/2026-01-15T13:00Z/2026-01-15T14:00Z"
    api.on(path, Reply({"data": [half_hour(n, 100, None) for n in range(6, 12)]}))

    values = await source.history("GB", T + 3 * HOUR, T + 30 * HOUR)

    assert [(v.hour, v.estimate) for v in values] == [(T + 3 * HOUR, "estimated")]


async def test_a_forecast(source: UkCarbonIntensity, api: FakeApi) -> None:
    path = "/intensity/2026-01-15T13:00Z/fw48h"
    rows = [half_hour(n, 100 + n, None) for n in range(5, 13)]
    api.on(path, Reply({"data": rows}))

    values = await source.forecast("GB", T + 6 * HOUR)

    assert [(v.hour, v.intensity_g_per_kwh) for v in values] == [
        (T + 3 * HOUR, 106.5),
        (T + 4 * HOUR, 108.5),
        (T + 5 * HOUR, 110.5),
    ]
    assert {v.estimate for v in values} == {"forecast"}


async def test_long_ranges_come_in_pieces(source: UkCarbonIntensity, api: FakeApi) -> None:
    api.on("/intensity/2025-12-26T10:00Z/2026-01-09T10:00Z", Reply({"data": []}))
    api.on("/intensity/2026-01-09T10:00Z/2026-01-15T10:00Z", Reply({"data": []}))

    assert await source.history("GB", T - timedelta(days=20), T) == []
    assert len(api.requests) == 2


async def test_only_great_britain(source: UkCarbonIntensity, api: FakeApi) -> None:
    with pytest.raises(GridZoneError, match="zone GB was expected, got DE"):
        await source.history("DE", T, T + HOUR)
    with pytest.raises(GridZoneError):
        await source.forecast("DE", T + HOUR)
    assert api.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [{"from": "2026-01-15T10:00Z", "intensity": None}]},
        {"data": [{"from": "2026-01-15T10:00", "intensity": {"forecast": 1, "actual": 1}}]},
        {"data": {}},
        {},
    ],
)
async def test_what_is_not_documented_is_not_used(
    source: UkCarbonIntensity, api: FakeApi, answer: object
) -> None:
    api.on(PATH, Reply(answer))

    with pytest.raises(GridDataError):
        await source.history("GB", T, T + 3 * HOUR)


async def test_its_error_is_told(source: UkCarbonIntensity, api: FakeApi) -> None:
    api.on(PATH, Reply({"error": {"code": "400 Bad Request", "message": "invalid date"}}, 400))

    with pytest.raises(GridDataError, match="invalid date"):
        await source.history("GB", T, T + 3 * HOUR)


async def test_direct_values_never_count(source: UkCarbonIntensity) -> None:
    with pytest.raises(ConfigurationError, match="its values are average and direct"):
        GridChain([source])
