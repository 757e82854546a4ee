from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.estimation import Coefficients, Range, default_estimator
from marlin.schemas import Policy, Usage
from marlin.totals import Footprint, Totals, footprint

TAKEN = Footprint(2.0, 1.0, 4.0, 2.0, 1.0, 4.0, 2.0, 1.0, 4.0, 2.0, 1.0, 4.0)


def usage(**changes: Any) -> Usage:
    fields: dict[str, Any] = {
        **{"event_id": "e", "run_id": "r", "agent_id": "a", "producer_id": "p", "seq": 0},
        **{"time": datetime(2026, 3, 1, tzinfo=UTC), "provider": "", "model": "m", "region": ""},
        **{"input_tokens": 10, "output_tokens": 5},
    }
    return Usage(**(fields | changes))


def test_a_footprint_is_the_estimate_with_its_ranges() -> None:
    by = default_estimator().coefficients("small-7b", "", "us-east-1")
    one = usage(input_tokens=100, cache_read_tokens=50, cache_write_tokens=20, output_tokens=30)

    taken = footprint(one, by)

    energy_wh, carbon_g, embodied_g, water_ml = by.footprint(100, 50, 20, 30)
    assert taken == Footprint(
        *(energy_wh, energy_wh * by.energy_low, energy_wh * by.energy_high),
        *(carbon_g, carbon_g * by.carbon_low, carbon_g * by.carbon_high),
        *(embodied_g, embodied_g * by.embodied_low, embodied_g * by.embodied_high),
        *(water_ml, water_ml * by.water_low, water_ml * by.water_high),
    )


def test_coefficients_are_asked_for_each_token_class_in_its_place() -> None:
    by = default_estimator().coefficients("small-7b", "", "us-east-1")
    cached = footprint(usage(input_tokens=0, cache_read_tokens=1000, output_tokens=0), by)
    fresh = footprint(usage(input_tokens=1000, output_tokens=0), by)

    assert isinstance(by, Coefficients)
    assert 0 < cached.carbon_g < fresh.carbon_g


def test_totals_add_up_every_class() -> None:
    totals = Totals()
    one = usage(
        **{"input_tokens": 1, "cache_read_tokens": 2, "cache_write_tokens": 3},
        **{"output_tokens": 4, "reasoning_tokens": 4, "cost_usd": 0.5},
    )

    totals.add(one, TAKEN)
    totals.add(one, TAKEN)

    assert (totals.calls, totals.tokens, totals.cost_usd) == (2, 20, 1.0)
    sums = [getattr(totals, name) for name in Footprint._fields]
    assert sums == [4.0, 2.0, 8.0] * 4
    assert totals.carbon_range_g == Range(2.0, 4.0, 8.0)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [([], 0.0), ([None], None), ([None, 0.25], 0.25), ([0.0], 0.0), ([0.5, 0.25], 0.75)],
)
def test_an_unknown_cost_is_not_zero(costs: list[float | None], expected: float | None) -> None:
    totals = Totals()
    for cost_usd in costs:
        totals.add(usage(cost_usd=cost_usd), TAKEN)

    assert totals.cost_usd == expected


@pytest.mark.parametrize(("bound", "spent_g"), [("low", 1.0), ("central", 2.0), ("high", 4.0)])
def test_the_policy_says_which_end_counts(bound: Any, spent_g: float) -> None:
    totals = Totals()
    totals.add(usage(), TAKEN)

    assert totals.spent_g(Policy(carbon_budget_g=1, bound=bound)) == spent_g


masses = st.floats(min_value=0, max_value=1e9)


@given(st.lists(st.tuples(masses, masses, masses).map(sorted), max_size=30))
def test_sums_keep_the_order_of_a_range(values: list[list[float]]) -> None:
    totals = Totals()
    for low, central, high in values:
        totals.add(usage(), Footprint(*([central, low, high] * 4)))

    assert totals.carbon_range_g == Range(
        sum(value[0] for value in values),
        sum(value[1] for value in values),
        sum(value[2] for value in values),
    )
