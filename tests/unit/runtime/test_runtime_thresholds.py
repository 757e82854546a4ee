from __future__ import annotations

import pytest

from marlin.runtime.thresholds import Thresholds
from marlin.schemas import Policy

POLICY = Policy(carbon_budget_g=10.0, warn_at=(0.9, 0.5, 0.5, 1.0))


def test_each_share_is_given_once_when_spending_reaches_it() -> None:
    thresholds = Thresholds(POLICY)

    assert thresholds.next_g == 5.0
    assert thresholds.reached(4.999) == []
    assert thresholds.reached(5.0) == [0.5]
    assert thresholds.next_g == 9.0
    assert thresholds.reached(9.5) == [0.9]
    assert thresholds.reached(50.0) == [1.0]
    assert thresholds.reached(50.0) == []
    assert thresholds.next_g == float("inf")


def test_what_the_pipeline_said_is_not_said_again() -> None:
    thresholds = Thresholds(POLICY)

    assert thresholds.named("warn:0.5") == [0.5]
    assert thresholds.named("warn:0.5") == []
    assert thresholds.named("warn:0.75") == []
    assert thresholds.named("operator") == []
    assert thresholds.reached(9.0) == [0.9]


@pytest.mark.parametrize(
    "policy",
    [
        Policy(warn_at=(0.5,)),
        Policy(carbon_budget_g=1.0),
        Policy(carbon_budget_g=1.0, warn_at=(0.5,), enable_environmental=False),
    ],
)
def test_without_budget_or_shares_nothing_is_ever_reached(policy: Policy) -> None:
    thresholds = Thresholds(policy)

    assert thresholds.next_g == float("inf")
    assert thresholds.reached(1e300) == []
