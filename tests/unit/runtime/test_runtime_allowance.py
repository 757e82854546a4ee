"""What fits beside what is under way; and what pre-flight promises, whatever calls take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from marlin.runtime.allowance import Allowance


def test_what_is_under_way_takes_room_until_it_is_over() -> None:
    allowance = Allowance(10.0)

    assert allowance.fits(4.0, 6.0)
    allowance.reserve(4.0)
    assert allowance.reserved_g == 4.0
    assert not allowance.fits(4.0, 6.0)
    assert allowance.fits(4.0, 2.0)
    allowance.give_back(4.0)
    assert allowance.fits(4.0, 6.0)


def test_filling_the_budget_exactly_is_within_it() -> None:
    assert Allowance(10.0).fits(7.5, 2.5)
    assert not Allowance(10.0).fits(7.5, 2.5000001)


def test_a_run_over_its_budget_starts_nothing_not_even_a_call_of_nothing() -> None:
    assert not Allowance(10.0).fits(10.1, 0.0)
    assert Allowance(0.0).fits(0.0, 0.0)


def test_without_a_budget_everything_fits() -> None:
    assert Allowance(None).fits(1e300, 1e300)


@given(st.lists(st.floats(0, 1e6), max_size=30))
def test_once_all_calls_are_over_nothing_is_left_exactly(sizes: list[float]) -> None:
    allowance = Allowance(1.0)
    for size in sizes:
        allowance.reserve(size)
    for size in reversed(sizes):
        allowance.give_back(size)

    assert allowance.reserved_g == 0.0


# A call: what it reserves and what it takes; and whether one under way ends before it starts.
plans = st.lists(
    st.tuples(st.floats(0, 10), st.floats(0, 30), st.booleans()), min_size=1, max_size=60
)


@hypothesis_settings(max_examples=150)
@given(plans, st.floats(0, 50))
def test_spent_and_reserved_exceed_the_budget_by_no_more_than_the_forecast_errors(
    plan: list[tuple[float, float, bool]], budget_g: float
) -> None:
    """Invariant: spent + reserved <= budget + the sum of what calls took beyond their forecast."""
    allowance, spent_g, errors_g = Allowance(budget_g), 0.0, 0.0
    under_way: list[tuple[float, float]] = []
    for forecast_g, takes_g, one_ends in plan:
        if one_ends and under_way:
            reserved_g, took_g = under_way.pop(0)
            allowance.give_back(reserved_g)
            spent_g += took_g
            errors_g += max(0.0, took_g - reserved_g)
        if allowance.fits(spent_g, forecast_g):
            allowance.reserve(forecast_g)
            under_way.append((forecast_g, takes_g))

        assert spent_g + allowance.reserved_g <= (budget_g + errors_g) * (1 + 1e-9) + 1e-9


@given(plans, st.floats(0, 50))
def test_calls_that_take_what_they_reserved_never_overspend(
    plan: list[tuple[float, float, bool]], budget_g: float
) -> None:
    allowance, spent_g = Allowance(budget_g), 0.0
    for forecast_g, _, _ in plan:
        if allowance.fits(spent_g, forecast_g):
            allowance.reserve(forecast_g)
            allowance.give_back(forecast_g)
            spent_g += forecast_g

    assert spent_g == pytest.approx(min(spent_g, budget_g), rel=1e-12)
