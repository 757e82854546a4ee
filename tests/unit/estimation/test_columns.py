"""Whole columns: equal to the rows one by one, for lists, NumPy and Arrow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from marlin.estimation import Estimator, default_estimator, estimate_columns
from marlin.estimation.columns import COLUMNS

# Arrow publishes no types.
pa: Any = import_module("pyarrow")

MODELS = ["gpt-4o", "small-7b", "nobody-knows", "gpt-4o"]
PROVIDERS = ["openai", "aws", "", "openai"]
REGIONS = ["us-east-1", "eu-west-1", "", "us-east-1"]
FRESH, READ, WRITE, OUTPUT = [1000, 0, 7, 3], [0, 500, 0, 9], [0, 20, 0, 0], [300, 40, 1, 0]


def columns(**changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "model": MODELS,
        "provider": PROVIDERS,
        "region": REGIONS,
        "input_tokens": FRESH,
        "cache_read_tokens": READ,
        "cache_write_tokens": WRITE,
        "output_tokens": OUTPUT,
    }
    return {**given, **changed}


def arrow() -> dict[str, Any]:
    return {name: pa.array(values) for name, values in columns().items()}


def chunked() -> dict[str, Any]:
    return {name: pa.chunked_array([values[:1], values[1:]]) for name, values in columns().items()}


def numpy() -> dict[str, Any]:
    return {name: np.array(values) for name, values in columns().items()}


@pytest.mark.parametrize("given", [columns(), arrow(), chunked(), numpy()])
def test_rows_are_what_the_coefficients_say(given: dict[str, Any]) -> None:
    found = estimate_columns(**given)
    assert set(found) == {*COLUMNS, "intensity_g_per_kwh"}
    for row in range(len(MODELS)):
        by = default_estimator().coefficients(MODELS[row], PROVIDERS[row], REGIONS[row])
        expected = by.footprint(FRESH[row], READ[row], WRITE[row], OUTPUT[row])
        for quantity, value in zip(
            ("energy_wh", "carbon_g", "embodied_g", "water_ml"), expected, strict=True
        ):
            kind = quantity.rpartition("_")[0]
            assert found[quantity][row] == pytest.approx(value, rel=1e-14)
            assert found[f"{quantity}_low"][row] == pytest.approx(
                value * getattr(by, f"{kind}_low"), rel=1e-14
            )
            assert found[f"{quantity}_high"][row] == pytest.approx(
                value * getattr(by, f"{kind}_high"), rel=1e-14
            )
        assert found["intensity_g_per_kwh"][row] == by.intensity_g_per_kwh


def test_no_rows() -> None:
    empty: dict[str, Any] = {name: [] for name in columns()}
    assert all(len(values) == 0 for values in estimate_columns(**empty).values())


@pytest.mark.parametrize("name", list(columns()))
def test_columns_of_unequal_length_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"rows, expected equal|has shape"):
        estimate_columns(**columns(**{name: columns()[name][:2]}))


def test_more_kinds_than_the_table_of_flags_holds() -> None:
    rows = 200
    names = [f"m{number}" for number in range(rows)]
    zeros = [0] * rows
    found = estimate_columns(
        model=names,
        provider=names,
        region=names,
        input_tokens=zeros,
        cache_read_tokens=zeros,
        cache_write_tokens=zeros,
        output_tokens=list(range(rows)),
        estimator=Estimator(cache_size=8),
    )
    # 200^3 combinations are above the limit; 200 of them occur.
    by = default_estimator().coefficients("m7", "m7", "m7")
    assert found["energy_wh"][7] == pytest.approx(by.footprint(0, 0, 0, 7)[0])


def test_hours_of_a_grid() -> None:
    class Grid:
        def intensity_g_per_kwh(self, zone: str, hour: datetime) -> float | None:
            return 100.0 + hour.hour if zone == "IE" else None

    start = datetime(2026, 5, 1, 10, 15, tzinfo=UTC)
    found = estimate_columns(
        **columns(),
        at=[start + timedelta(hours=h) for h in range(4)],
        estimator=Estimator(grid=Grid()),
    )
    assert list(found["intensity_g_per_kwh"]) == [396.25, 111.0, 458.3, 396.25]
