"""The estimator: caching, bounds, hours, and that no name ever raises."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.estimation import CODES, Estimator, ModelSpec, default_estimator

NOON = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


class Grid:
    """Hourly intensities by zone; remembers what it was asked."""

    def __init__(self, values: dict[tuple[str, int], float | None]) -> None:
        self.values = values
        self.asked: list[tuple[str, datetime]] = []

    def intensity_g_per_kwh(self, zone: str, hour: datetime) -> float | None:
        self.asked.append((zone, hour))
        return self.values.get((zone, hour.hour))


def test_the_same_key_gives_the_same_object() -> None:
    estimator = Estimator()
    first = estimator.coefficients("gpt-4o", "openai", "us-east-1")
    assert estimator.coefficients("gpt-4o", "openai", "us-east-1") is first
    assert estimator.cached_keys == 1


def test_time_without_a_grid_source_is_no_new_key() -> None:
    estimator = Estimator()
    for hour in range(100):
        estimator.coefficients("gpt-4o", "openai", "us-east-1", NOON + timedelta(hours=hour))
    assert estimator.cached_keys == 1


def test_a_thousand_names_stay_within_the_cache() -> None:
    estimator = Estimator(cache_size=64)
    for number in range(1000):
        estimator.coefficients(f"model-{number}", f"provider-{number}", f"region-{number}")
    assert estimator.cached_keys == 64


def test_the_least_recently_used_leave_first() -> None:
    estimator = Estimator(cache_size=2)
    kept = estimator.coefficients("a", "", "")
    estimator.coefficients("b", "", "")
    estimator.coefficients("a", "", "")
    estimator.coefficients("c", "", "")
    assert estimator.coefficients("a", "", "") is kept


@given(st.text(max_size=256), st.text(max_size=64), st.text(max_size=64))
def test_no_name_raises_or_costs_nothing(model: str, provider: str, region: str) -> None:
    one = default_estimator().coefficients(model, provider, region)
    assert min(one.footprint(1, 0, 0, 0)) > 0
    assert min(one.footprint(0, 1, 0, 0)) > 0
    assert min(one.footprint(0, 0, 1, 0)) > 0
    assert min(one.footprint(0, 0, 0, 1)) > 0
    assert set(one.codes) <= set(CODES)
    assert len(set(one.codes)) == len(one.codes)


def test_the_hour_of_the_grid_is_used() -> None:
    grid = Grid({("IE", 12): 250.0, ("IE", 13): 300.0})
    estimator = Estimator(grid=grid)
    noon = estimator.coefficients("small-7b", "aws", "eu-west-1", NOON)
    later = estimator.coefficients("small-7b", "aws", "eu-west-1", NOON + timedelta(hours=1))
    assert (noon.intensity_g_per_kwh, later.intensity_g_per_kwh) == (250.0, 300.0)
    assert noon.footprint(0, 0, 0, 100)[1] * 1.2 == pytest.approx(later.footprint(0, 0, 0, 100)[1])
    assert grid.asked == [("IE", NOON.replace(minute=0)), ("IE", NOON.replace(hour=13, minute=0))]


def test_a_code_says_which_intensity_was_used() -> None:
    # This zone has no yearly value: the country's stands in, until an hour is told.
    grid = Grid({("IE", 12): 250.0, ("US-SW-AZPS", 12): 500.0})
    estimator = Estimator(grid=grid)

    def told(region: str, at: datetime) -> list[str]:
        codes = estimator.coefficients("small-7b", "azure", region, at).codes
        return [code for code in codes if code.startswith("intensity_")]

    assert told("eu-west-1", NOON) == ["intensity_hour"]
    assert told("eu-west-1", NOON + timedelta(hours=1)) == []
    assert told("westus3", NOON) == ["intensity_hour"]
    assert told("westus3", NOON + timedelta(hours=1)) == ["intensity_country"]
    assert told("no-such-region", NOON) == ["intensity_world"]


def test_the_zone_of_a_region_is_told() -> None:
    estimator = Estimator()
    assert estimator.zone("aws", "eu-west-1") == "IE"
    assert estimator.zone("openai", "DE") == "DE"
    assert estimator.zone("aws", "no-such-region") == ""


def test_one_hour_is_one_key_in_every_time_zone() -> None:
    grid = Grid({("IE", 12): 250.0})
    estimator = Estimator(grid=grid)
    for at in (NOON, NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=5)))):
        assert estimator.coefficients("x", "aws", "eu-west-1", at).intensity_g_per_kwh == 250.0
    assert len(grid.asked) == 1


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -1.0])
def test_without_a_usable_hour_the_year_stands(value: float | None) -> None:
    estimator = Estimator(grid=Grid({("IE", 12): value}))
    assert estimator.coefficients("x", "aws", "eu-west-1", NOON).intensity_g_per_kwh == 403.4


def test_a_place_without_a_zone_asks_no_grid() -> None:
    grid = Grid({})
    assert Estimator(grid=grid).coefficients("x", "", "", NOON).intensity_g_per_kwh == 458.3
    assert grid.asked == []


def test_a_model_of_ones_own() -> None:
    spec = ModelSpec(name="own", active_params_b=7)
    one = Estimator().compile(spec, region="SE")
    assert "model_unknown" not in one.codes
    assert one.intensity_g_per_kwh == 24.71


def test_importing_needs_neither_numpy_nor_arrow() -> None:
    import subprocess

    code = (
        "import sys, marlin.estimation as e; e.estimate('gpt-4o', output_tokens=1); "
        "print([m for m in ('numpy', 'pyarrow', 'duckdb', 'typer', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
