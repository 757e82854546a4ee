"""What must hold of every estimate: more is never less, and ranges are in order."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.estimation import (
    Coefficients,
    Estimator,
    ModelSpec,
    OperatingPoint,
    default_estimator,
    shipped_factor_set,
)
from marlin.estimation.overrides import overlay

NAMES = sorted(shipped_factor_set().models)
PLACES = sorted(shipped_factor_set().regions)
TOKENS = st.tuples(*[st.integers(min_value=0, max_value=2_000_000)] * 4)
PARAMETERS = st.floats(min_value=0.1, max_value=5000)
BATCHES = st.floats(min_value=1, max_value=5000)


def compiled(name: str, place: str) -> Coefficients:
    provider, _, region = place.partition(":")
    return default_estimator().coefficients(name, provider, region)


@cache
def with_place(intensity: float, pue: float) -> Estimator:
    cited = 'source = "s"\ndate = "2026"\nlicence = "own"\n'
    text = f"""
[regions."own:x"]
location = "x"
country = "USA"
zone = "X"
{cited}
[[places]]
scope = "zone"
key = "X"
quantity = "intensity"
basis = "lifecycle"
value = {intensity}
unit = "gCO2e/kWh"
{cited}
[[places]]
scope = "region"
key = "own:x"
quantity = "pue"
basis = "annual"
value = {pue}
unit = "1"
{cited}
"""
    return Estimator(overlay(shipped_factor_set(), text, "own"))


@given(st.sampled_from(NAMES), st.sampled_from(PLACES), TOKENS, st.integers(0, 3))
def test_more_tokens_never_cost_less(
    name: str, place: str, tokens: tuple[int, int, int, int], which: int
) -> None:
    by = compiled(name, place)
    more = [count + (1 if index == which else 0) for index, count in enumerate(tokens)]
    for less, greater in zip(by.footprint(*tokens), by.footprint(*more), strict=True):
        assert 0 <= less < greater


@given(st.sampled_from(NAMES), st.sampled_from(PLACES))
def test_every_range_encloses_its_centre(name: str, place: str) -> None:
    by = compiled(name, place)
    for quantity in ("energy", "carbon", "embodied", "water", "gpu"):
        assert 0 < getattr(by, f"{quantity}_low") < 1 < getattr(by, f"{quantity}_high")
    # Each boundary adds its own factors: a range never narrows on the way out.
    assert by.gpu_high <= by.energy_high <= by.carbon_high
    assert by.gpu_low >= by.energy_low >= by.carbon_low


@given(st.sampled_from(NAMES), st.sampled_from(PLACES), TOKENS)
def test_a_thousand_calls_are_a_thousand_times_one(
    name: str, place: str, tokens: tuple[int, int, int, int]
) -> None:
    # Systematic errors do not shrink by summing: the sum's range is the range of the sum.
    by = compiled(name, place)
    energy_wh = by.footprint(*tokens)[0]
    total = sum(by.footprint(*tokens)[0] for _ in range(10))
    assert total * by.energy_high == pytest.approx(10 * energy_wh * by.energy_high)


@given(PARAMETERS, st.floats(1.0, 4.0), BATCHES)
def test_more_parameters_never_cost_less(size: float, factor: float, batch: float) -> None:
    point = OperatingPoint(hardware="H100", gpus=8, batch=batch, precision="bf16")
    small, large = (
        default_estimator().compile(ModelSpec(active_params_b=one), operating_point=point)
        for one in (size, size * factor)
    )
    assert small.footprint(1000, 0, 0, 500)[0] <= large.footprint(1000, 0, 0, 500)[0]


@given(PARAMETERS, st.floats(1.0, 20.0), st.floats(1.0, 4.0), BATCHES)
def test_more_stored_parameters_never_cost_less(
    active: float, sparsity: float, factor: float, batch: float
) -> None:
    point = OperatingPoint(hardware="H100", gpus=8, batch=batch, precision="bf16")
    spec = ModelSpec(active_params_b=active, total_params_b=active * sparsity, expert_share=0.04)
    larger = replace(spec, total_params_b=active * sparsity * factor)
    by, more = (default_estimator().compile(one, operating_point=point) for one in (spec, larger))
    # To rounding: where all that is added stays unread, both are the same.
    assert by.decode_wh <= more.decode_wh * (1 + 1e-9)


@given(st.floats(1, 1500), st.floats(1.0, 3.0), TOKENS)
def test_a_dirtier_grid_never_emits_less(
    intensity: float, factor: float, tokens: tuple[int, int, int, int]
) -> None:
    clean = with_place(100.0, 1.2).coefficients("small-7b", "own", "x")
    dirty = replace(clean, carbon_g_per_wh=clean.carbon_g_per_wh * factor)
    assert clean.footprint(*tokens)[1] <= dirty.footprint(*tokens)[1]
    assert with_place(round(intensity), 1.2).coefficients("a", "own", "x").carbon_g_per_wh == (
        pytest.approx(round(intensity) / 1000)
    )


@pytest.mark.parametrize(("better", "worse"), [(1.0, 1.1), (1.1, 1.5), (1.5, 2.5)])
def test_a_higher_pue_never_takes_less(better: float, worse: float) -> None:
    low, high = (
        with_place(300.0, pue).coefficients("small-7b", "own", "x").footprint(1000, 0, 0, 500)
        for pue in (better, worse)
    )
    assert high[0] == pytest.approx(low[0] * worse / better)
    assert high[1] > low[1]
    assert high[3] > low[3]
    # Hardware does not work longer for it.
    assert high[2] == pytest.approx(low[2])


@given(BATCHES, st.floats(1.0, 4.0))
def test_a_fuller_batch_never_costs_more_per_token(batch: float, factor: float) -> None:
    spec = ModelSpec(active_params_b=22, total_params_b=235, expert_share=1 / 16)
    one, fuller = (
        default_estimator().compile(
            spec,
            operating_point=OperatingPoint(hardware="H100", gpus=8, batch=size, precision="bf16"),
        )
        for size in (batch, batch * factor)
    )
    assert fuller.decode_wh <= one.decode_wh * (1 + 1e-9)


@given(st.sampled_from(NAMES), st.integers(1, 100_000))
def test_cached_input_costs_less_than_fresh_but_something(name: str, tokens: int) -> None:
    by = compiled(name, "aws:us-east-1")
    cached, fresh = by.footprint(0, tokens, 0, 0)[0], by.footprint(tokens, 0, 0, 0)[0]
    assert 0 < cached < fresh


@given(st.sampled_from(NAMES), st.integers(0, 100_000), st.integers(0, 100_000))
def test_writing_to_a_cache_costs_what_fresh_input_costs(name: str, one: int, two: int) -> None:
    by = compiled(name, "aws:us-east-1")
    assert by.footprint(one, 0, two, 10) == by.footprint(one + two, 0, 0, 10)


@given(st.sampled_from(NAMES), st.integers(60_000, 1_000_000))
def test_long_prompts_are_superlinear(name: str, tokens: int) -> None:
    by = compiled(name, "aws:us-east-1")
    half, whole = by.footprint(tokens // 2, 0, 0, 0)[0], by.footprint(tokens // 2 * 2, 0, 0, 0)[0]
    assert whole >= 2 * half
