"""Why a run stops, and what its user is warned of before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from marlin.estimation import Range

__all__ = ["BudgetWarning", "Stop"]


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run must stop."""

    reason: str
    spent_g: float
    """Spent when the stop was seen [gCO2e], on the policy's bound."""
    agent_id: str | None
    """The agent whose call crossed the budget, or could not fit, if there is one."""
    command_id: str | None
    """The command that asked for it; None while only the local check did."""
    spent: Range
    """Spent when the stop was seen [gCO2e], with its range."""
    step: int
    """Calls made until then [count]."""
    at: datetime
    """When the stop was seen here."""
    forecast_g: float | None = None
    """What a call would have taken that could not fit [gCO2e], where that stopped the run."""


@dataclass(frozen=True, slots=True)
class BudgetWarning:
    """A run has reached one of its policy's `warn_at` shares."""

    run_id: str
    share: float
    """The share of the budget that is reached [1]."""
    spent_g: float
    """Spent so far [gCO2e], on the policy's bound."""
    budget_g: float
    agent_id: str | None
    """The agent whose call reached it; None where the pipeline saw it first."""
