from __future__ import annotations

from datetime import UTC, datetime

import pytest

from marlin.estimation import Estimator
from marlin.grid.provider import HOUR
from marlin.grid.static import StaticGrid

T = datetime(2026, 1, 15, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "intensity_g_per_kwh", "tier"),
    [
        ("DE", 370.93, "year"),
        ("US-MIDA-PJM", 396.25, "year"),
        ("XX", 458.3, "world"),
    ],
)
async def test_the_yearly_average_of_every_hour(
    zone: str, intensity_g_per_kwh: float, tier: str
) -> None:
    values = await StaticGrid().history(zone, T, T + 3 * HOUR)

    assert [value.hour for value in values] == [T, T + HOUR, T + 2 * HOUR]
    assert {value.intensity_g_per_kwh for value in values} == {intensity_g_per_kwh}
    assert {(value.tier, value.estimate, value.is_headline) for value in values} == {
        (tier, "estimated", True)
    }


async def test_it_says_what_the_estimator_takes() -> None:
    estimator = Estimator()
    for region in estimator.factor_set.regions.values():
        if region.zone:
            (value,) = await StaticGrid().history(region.zone, T, T + HOUR)
            row = estimator.resolve("gpt-4o", region=region.zone).place.intensity
            assert value.intensity_g_per_kwh == row.value


async def test_a_forecast_is_the_same_average() -> None:
    values = await StaticGrid(now=lambda: T).forecast("DE", T + 2 * HOUR)

    assert [(value.hour, value.intensity_g_per_kwh) for value in values] == [
        (T, 370.93),
        (T + HOUR, 370.93),
    ]
