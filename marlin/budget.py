"""What a budget means: when a run has spent too much. Pure; the worker and the SDK share it."""

from __future__ import annotations

from collections.abc import Iterator

from marlin.schemas import Policy

__all__ = [
    "REASON",
    "crossed_warnings",
    "enforced_budget_g",
    "is_breached",
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


def crossed_warnings(policy: Policy, before_g: float, after_g: float) -> Iterator[float]:
    """The `warn_at` shares that spending from `before_g` to `after_g` [gCO2e] reached.

    A share is reached when spending is at or above it; each is yielded once over a run's life,
    smallest first.
    """
    budget_g = enforced_budget_g(policy)
    if budget_g is None:
        return
    for share in sorted(set(policy.warn_at)):
        line_g = share * budget_g
        if before_g < line_g <= after_g:
            yield share


def warn_cause(share: float) -> str:
    """The cause under which the warning at `share` of the budget is issued."""
    return f"warn:{share:g}"
