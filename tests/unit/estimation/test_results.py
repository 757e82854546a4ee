"""One estimate: its ranges, boundaries and refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.estimation import (
    Estimate,
    ModelSpec,
    OperatingPoint,
    Range,
    default_estimator,
    estimate,
)

TOKENS = st.integers(min_value=0, max_value=1_000_000)
RANGES = (
    "gpu_energy_wh",
    "energy_wh",
    "carbon_g",
    "embodied_g",
    "water_ml",
    "water_offsite_ml",
    "water_onsite_ml",
)


def spans(one: Estimate) -> list[Range]:
    return [getattr(one, name) for name in RANGES]


def test_the_estimate_is_the_coefficients_footprint() -> None:
    one = estimate(
        "gpt-4o",
        provider="openai",
        region="us-east-1",
        input_tokens=1000,
        cache_read_tokens=200,
        cache_write_tokens=50,
        output_tokens=300,
    )
    by = default_estimator().coefficients("gpt-4o", "openai", "us-east-1")
    energy_wh, carbon_g, embodied_g, water_ml = by.footprint(1000, 200, 50, 300)
    assert one.energy_wh == Range(energy_wh * by.energy_low, energy_wh, energy_wh * by.energy_high)
    assert one.carbon_g.central == carbon_g
    assert one.embodied_g.central == embodied_g
    assert one.water_ml.central == water_ml
    assert one.gpu_energy_wh.central == energy_wh * by.gpu_share
    assert (one.method, one.factors, one.codes) == (by.method, by.factors, by.codes)


@given(TOKENS, TOKENS, TOKENS, TOKENS)
def test_every_range_is_in_order(fresh: int, read: int, write: int, output: int) -> None:
    one = estimate(
        "claude-sonnet-4-5",
        provider="gcp",
        region="us-west1",
        input_tokens=fresh,
        cache_read_tokens=read,
        cache_write_tokens=write,
        output_tokens=output,
    )
    for span in spans(one):
        assert 0 <= span.low <= span.central <= span.high
    assert one.gpu_energy_wh.central <= one.energy_wh.central


def test_water_parts_add_up_only_on_one_basis() -> None:
    both = estimate("small-7b", provider="gcp", region="us-west1", output_tokens=100)
    assert both.water_onsite_basis == "consumption"
    parts = both.water_onsite_ml.central + both.water_offsite_ml.central
    assert both.water_ml.central == pytest.approx(parts)
    apart = estimate("small-7b", provider="aws", region="us-west-2", output_tokens=100)
    assert apart.water_onsite_basis == "withdrawal"
    assert apart.water_onsite_ml.central > 0
    assert apart.water_ml.central == apart.water_offsite_ml.central


@pytest.mark.parametrize("name", ["input_tokens", "cache_read_tokens", "output_tokens"])
def test_negative_tokens_are_refused(name: str) -> None:
    arguments: dict[str, int] = {name: -1}
    with pytest.raises(ValueError, match="token counts must be 0 or more"):
        estimate("gpt-4o", **arguments)  # type: ignore[arg-type]


def test_an_operating_point_is_used() -> None:
    few = estimate("llama-3.1-8b", output_tokens=100, operating_point=OperatingPoint(batch=8))
    many = estimate("llama-3.1-8b", output_tokens=100, operating_point=OperatingPoint(batch=256))
    assert few.energy_wh.central > 3 * many.energy_wh.central
    assert "batch_unknown" not in few.codes


def test_a_model_spec_and_a_repository_name_agree() -> None:
    named = estimate("meta-llama/Llama-3.1-8B-Instruct", output_tokens=100)
    spec = ModelSpec(
        name="mine",
        active_params_b=8.03,
        layers=32,
        kv_elements=65_536,
        attention_width=32 * 32 * 128,
    )
    assert estimate(spec, output_tokens=100).energy_wh == named.energy_wh


def test_without_a_factor_there_is_no_market_based_carbon() -> None:
    assert estimate("gpt-4o", output_tokens=1).carbon_market_g is None
