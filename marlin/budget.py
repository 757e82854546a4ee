"""What a budget means: when a run has spent too much. Pure; the worker and the SDK share it."""

from __future__ import annotations

from collections.abc import Iterator

from marlin.schemas import Policy

__all__ = [
    "REASON",
    "enforced_budget_g",
    "is_breached",
    "reached_warnings",
    "spent_g",
    "warn_cause",
]

REASON = "carbon_budget_exceeded"
"""Reason of every command and result that a breached budget causes."""


def enforced_budget_g(policy: Policy) -> float | None:
    """The budget [gCO2e] that counts, or None where nothing is enforced."""
    return policy.carbon_budget_g if policy.enable_environmental else None


def spent_g(policy: Policy, low_g: float, central_g: float, high_g: float) -> float:
    """What counts against the budget [gCO2e]: the end of the range the policy names."""
    if policy.bound == "central":
        return central_g
    return low_g if policy.bound == "low" else high_g


def is_breached(spent_g: float, budget_g: float | None) -> bool:
    """Whether a run is over its budget. Spending exactly the budget is within it."""
    return budget_g is not None and spent_g > budget_g


def reached_warnings(policy: Policy, spent_g: float) -> Iterator[float]:
    """The `warn_at` shares that spending of `spent_g` [gCO2e] has reached, smallest first.

    A share is reached when spending is at or above it.
    """
    budget_g = enforced_budget_g(policy)
    if budget_g is None:
        return
    for share in sorted(set(policy.warn_at)):
        if spent_g >= share * budget_g:
            yield share


def warn_cause(share: float) -> str:
    """The cause under which the warning at `share` of the budget is issued."""
    return f"warn:{share:g}"
