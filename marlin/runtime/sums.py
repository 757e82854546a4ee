"""A run's running sums: what every call changes and every check reads."""

from __future__ import annotations

from marlin import budget
from marlin.estimation import Range
from marlin.schemas import Policy
from marlin.totals import RunTotals

__all__ = ["RunSums"]


class RunSums(RunTotals):
    """The totals that the worker keeps, to the bit, and what counts of them. Not thread-safe."""

    __slots__ = ("_policy",)

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._policy = policy

    @property
    def spent_g(self) -> float:
        """What counts against the budget [gCO2e], on the policy's bound."""
        return budget.spent_g(self._policy, self.carbon_g_low, self.carbon_g, self.carbon_g_high)

    @property
    def carbon_range_g(self) -> Range:
        """Operational carbon with its range [gCO2e]."""
        return Range(self.carbon_g_low, self.carbon_g, self.carbon_g_high)
