"""Compiled coefficients: what one event costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from marlin.estimation import Coefficients

ONE = Coefficients(
    prefill_wh=2.0,
    prefill_attention_wh=0.2,
    cached_wh=0.5,
    decode_wh=10.0,
    context_wh=0.04,
    carbon_g_per_wh=0.4,
    embodied_g_per_wh=0.05,
    water_ml_per_wh=3.0,
    water_offsite_ml_per_wh=2.0,
    water_onsite_ml_per_wh=1.0,
    water_onsite_basis="consumption",
    market_g_per_wh=None,
    gpu_share=0.5,
    energy_low=0.5,
    energy_high=2.0,
    carbon_low=0.5,
    carbon_high=2.0,
    embodied_low=0.5,
    embodied_high=2.0,
    water_low=0.5,
    water_high=2.0,
    water_offsite_low=0.5,
    water_offsite_high=2.0,
    water_onsite_low=0.5,
    water_onsite_high=2.0,
    gpu_low=0.5,
    gpu_high=2.0,
    intensity_g_per_kwh=400.0,
    method="m",
    factors="f",
    codes=(),
)


def energy(*tokens: int) -> float:
    return ONE.footprint(*tokens)[0]


def test_fresh_input_grows_with_its_square() -> None:
    # 10 x 2 + 0.2 x 10^2 / 2
    assert energy(10, 0, 0, 0) == pytest.approx(30.0)
    assert energy(20, 0, 0, 0) == pytest.approx(80.0)


def test_a_cache_write_costs_what_fresh_input_costs() -> None:
    assert energy(0, 0, 10, 0) == energy(10, 0, 0, 0)
    assert energy(4, 0, 6, 0) == energy(10, 0, 0, 0)


def test_cached_input_is_cheap_but_not_free() -> None:
    assert energy(0, 10, 0, 0) == pytest.approx(5.0)
    assert 0 < energy(0, 10, 0, 0) < energy(10, 0, 0, 0)


def test_fresh_input_attends_to_what_is_cached() -> None:
    # 10 x (2 + 0.2 x (100 + 5)) + 100 x 0.5
    assert energy(10, 100, 0, 0) == pytest.approx(280.0)


def test_output_pays_for_all_context() -> None:
    # 5 x (10 + 0.04 x (10 + 20 + 30 + 2.5)) on top of the input's cost.
    assert energy(10, 20, 30, 5) - energy(10, 20, 30, 0) == pytest.approx(62.5)


def test_everything_else_follows_energy() -> None:
    energy_wh, carbon_g, embodied_g, water_ml = ONE.footprint(100, 50, 20, 30)
    assert carbon_g == energy_wh * 0.4
    assert embodied_g == energy_wh * 0.05
    assert water_ml == energy_wh * 3.0


def test_no_tokens_cost_nothing() -> None:
    assert ONE.footprint(0, 0, 0, 0) == (0.0, 0.0, 0.0, 0.0)


def test_a_changed_copy_prices_by_its_own_numbers() -> None:
    dirtier = replace(ONE, carbon_g_per_wh=0.8)
    assert dirtier.footprint(1, 0, 0, 1)[1] == 2 * ONE.footprint(1, 0, 0, 1)[1]
    assert replace(dirtier, carbon_g_per_wh=0.4) == ONE
