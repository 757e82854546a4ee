"""A run's running sums: what every call changes and every check reads."""

from __future__ import annotations

from collections.abc import Sequence

from marlin.estimation import Range
from marlin.runtime.outgoing import RecordedCall
from marlin.schemas import Policy
from marlin.totals import Totals

__all__ = ["MAX_AGENTS", "OTHER_AGENTS", "RunSums"]

MAX_AGENTS = 1000
OTHER_AGENTS = "(other agents)"
"""Agents counted apart [count]; usage of further ones is summed under the second name. As the
worker does: names that are made up for each call must not fill the memory."""

_CARBON_G = {"central": 3, "low": 4, "high": 5}
"""Where the grams that count are in a `Footprint`, by the policy's bound."""


class RunSums:
    """What a run and its agents used so far, added up in the order of the calls.

    The run's own sums are those that the worker keeps for it, to the bit; all else is the sum over
    the agents, made when asked for. Not thread-safe.
    """

    __slots__ = (
        *("_counted", "agents", "calls", "carbon_g", "carbon_g_high", "carbon_g_low"),
        *("energy_wh", "spent_g", "water_ml"),
    )

    def __init__(self, policy: Policy) -> None:
        self._counted = _CARBON_G[policy.bound]
        self.agents: dict[str, Totals] = {}
        self.calls = 0
        self.energy_wh = 0.0
        self.carbon_g = self.carbon_g_low = self.carbon_g_high = 0.0
        self.water_ml = 0.0
        self.spent_g = 0.0
        """What counts against the budget [gCO2e]: one of the three above."""

    def add(self, call: RecordedCall, of: Sequence[float]) -> None:
        """Count one call; `of` is its `Footprint`."""
        self.calls += 1
        self.energy_wh += of[0]
        self.carbon_g += of[3]
        self.carbon_g_low += of[4]
        self.carbon_g_high += of[5]
        self.water_ml += of[9]
        self.spent_g += of[self._counted]
        agent = self.agents.get(call.agent_id)
        if agent is None:
            agent_id = call.agent_id if len(self.agents) < MAX_AGENTS else OTHER_AGENTS
            agent = self.agents.setdefault(agent_id, Totals())
        agent.add(call, of)

    @property
    def carbon_range_g(self) -> Range:
        """Operational carbon with its range [gCO2e]."""
        return Range(self.carbon_g_low, self.carbon_g, self.carbon_g_high)

    def totals(self) -> Totals:
        """Everything the run used, added up over its agents."""
        totals = Totals()
        for agent in self.agents.values():
            totals.merge(agent)
        # Sums of sums differ in the last digit; the run's own are the ones that count.
        totals.energy_wh, totals.water_ml = self.energy_wh, self.water_ml
        totals.carbon_g = self.carbon_g
        totals.carbon_g_low, totals.carbon_g_high = self.carbon_g_low, self.carbon_g_high
        return totals
