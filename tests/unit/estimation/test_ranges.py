"""Ranges: order, scaling, and how spreads combine."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.estimation.ranges import Range, combine

FACTORS = st.lists(st.floats(min_value=0.01, max_value=100), max_size=8)


def test_scaled_multiplies_all_three() -> None:
    assert Range(1.0, 2.0, 4.0).scaled(2.5) == Range(2.5, 5.0, 10.0)


@pytest.mark.parametrize(
    ("low", "central", "high"),
    [(2.0, 1.0, 3.0), (1.0, 3.0, 2.0), (math.nan, 1.0, 2.0), (0.0, math.nan, 1.0)],
)
def test_broken_order_is_refused(low: float, central: float, high: float) -> None:
    with pytest.raises(ValueError, match="low <= central <= high"):
        Range(low, central, high)


def test_combine_adds_logarithms_in_quadrature() -> None:
    # ln 2 * sqrt(2): two factors of two make 2.665, not four.
    assert combine([2.0, 2.0]) == pytest.approx(2 ** math.sqrt(2))
    assert combine([3.0]) == pytest.approx(3.0)
    assert combine([]) == 1.0


@given(FACTORS)
def test_combined_spread_is_between_the_largest_and_the_product(factors: list[float]) -> None:
    spreads = [max(factor, 1 / factor) for factor in factors]
    combined = combine(factors)
    assert combined >= max(spreads, default=1.0) * (1 - 1e-9)
    assert combined <= math.prod(spreads) * (1 + 1e-9)


@given(FACTORS)
def test_a_factor_and_its_inverse_spread_alike(factors: list[float]) -> None:
    assert combine(factors) == pytest.approx(combine(1 / factor for factor in factors))
