"""The shares of a budget that a run's owner wants to hear of. Pure."""

from __future__ import annotations

from marlin import budget
from marlin.schemas import Policy

__all__ = ["Thresholds"]

_NEVER_G = float("inf")


class Thresholds:
    """The `warn_at` shares of a policy that were not reached yet; each is given once."""

    __slots__ = ("_left", "_policy", "next_g")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._left = set(policy.warn_at)
        self.next_g = _NEVER_G
        """Spending that reaches the next share [gCO2e]; infinite where there is none."""
        self._set_next()

    def reached(self, spent_g: float) -> list[float]:
        """The shares that spending of `spent_g` reaches and that were not given, smallest first."""
        shares = [s for s in budget.reached_warnings(self._policy, spent_g) if s in self._left]
        self._take(shares)
        return shares

    def named(self, cause: str) -> list[float]:
        """The share of a warning that the pipeline gave by this cause, unless it was given."""
        shares = [share for share in self._left if budget.warn_cause(share) == cause]
        self._take(shares)
        return shares

    def _take(self, shares: list[float]) -> None:
        self._left.difference_update(shares)
        self._set_next()

    def _set_next(self) -> None:
        budget_g = budget.enforced_budget_g(self._policy)
        if budget_g is not None:
            self.next_g = min((share * budget_g for share in self._left), default=_NEVER_G)
