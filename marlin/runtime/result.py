"""What a run leaves behind: status, totals, each agent's share, outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from marlin.estimation import Range

__all__ = ["AgentState", "AgentStatus", "RunResult", "RunStatus"]


class RunStatus(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    """Every agent ran, within the budget."""
    ABORTED = "aborted"
    """Stopped by its budget or an operator; the agents that had not run never did."""
    FAILED = "failed"
    """An agent raised; the agents after it never ran."""


class AgentStatus(StrEnum):
    """What became of an agent in a run."""

    COMPLETED = "completed"
    ABORTED = "aborted"
    """Stopped while it ran: its next step was refused."""
    FAILED = "failed"
    BLOCKED = "blocked"
    """Never ran, because the run had stopped before."""


@dataclass(frozen=True, slots=True)
class AgentState:
    """One agent's part in a run."""

    agent_id: str
    status: AgentStatus
    calls: int
    tokens: int
    """All tokens of its calls: input, cached and output [count]."""
    energy_wh: float
    carbon_g: float
    """Operational carbon, central [gCO2e]."""
    carbon_range_g: Range
    water_ml: float
    cost_usd: float | None
    output: Any
    """What the agent returned; None for one that did not complete."""
    error: Exception | None = None
    """What the agent raised, if it did."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended and what it took. Usage is kept however the run ended."""

    run_id: str
    status: RunStatus
    reason: str | None
    """`carbon_budget_exceeded`, an operator's reason, or the failure; None when completed."""
    stopped_by: str | None
    """The agent whose call crossed the budget, or that failed."""
    command_id: str | None
    """The pipeline's command that the run obeyed; None where the local check stopped it."""
    carbon_budget_g: float | None
    total_carbon_g: float
    """Operational carbon, central [gCO2e]."""
    carbon_range_g: Range
    total_embodied_g: float
    """Hardware's share, central [gCO2e]; not part of `total_carbon_g`."""
    total_water_ml: float
    total_energy_wh: float
    total_tokens: int
    total_cost_usd: float | None
    """Sum of the costs that the client reported [USD]; None where no call reported one."""
    agent_states: tuple[AgentState, ...]
    """Every agent, in the order of the workflow."""
    outputs: Mapping[str, Any]
    """What the completed agents returned, by agent."""
    error: Exception | None
    """What the failing agent raised; None unless the status is failed."""

    def agent(self, agent_id: str) -> AgentState:
        """The state of one agent; raises KeyError for an unknown one."""
        for state in self.agent_states:
            if state.agent_id == agent_id:
                return state
        raise KeyError(agent_id)

    def environmental_summary(self) -> str:
        """A labelled text block, one `name: value` a line, then one line per agent."""
        ended = self.status.value + (f" ({self.reason})" if self.reason else "")
        carbon = self.carbon_range_g
        lines = [
            "Environmental summary",
            f"  run_id          : {self.run_id}",
            f"  status          : {ended}",
            f"  carbon_budget_g : {_optional(self.carbon_budget_g, 'none')}",
            f"  total_carbon_g  : {self.total_carbon_g:.6g} gCO2e "
            f"(range {carbon.low:.3g} to {carbon.high:.3g})",
            f"  embodied_g      : {self.total_embodied_g:.6g} gCO2e (not in total_carbon_g)",
            f"  water_ml        : {self.total_water_ml:.6g} mL",
            f"  energy_wh       : {self.total_energy_wh:.6g} Wh",
            f"  tokens          : {self.total_tokens}",
            f"  cost_usd        : {_optional(self.total_cost_usd, 'not reported')}",
            "",
            *_agent_lines(self.agent_states),
        ]
        return "\n".join(lines)


def _optional(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.6g}"


def _agent_lines(states: tuple[AgentState, ...]) -> list[str]:
    width = max([len("agent"), *(len(state.agent_id) for state in states)])
    head = f"  {'agent':<{width}}  {'status':<9}  {'calls':>5}  {'tokens':>8}"
    head += f"  {'energy_wh':>11}  {'carbon_g':>11}  {'water_ml':>11}"
    rows = [
        f"  {state.agent_id:<{width}}  {state.status.value:<9}  {state.calls:>5}"
        f"  {state.tokens:>8}  {state.energy_wh:>11.6f}  {state.carbon_g:>11.6f}"
        f"  {state.water_ml:>11.6f}"
        for state in states
    ]
    return [head, *rows]
