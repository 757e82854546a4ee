"""What became of a run and its agents, as its result says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marlin.runtime.result import AgentState, AgentStatus, RunResult, RunStatus
from marlin.runtime.run import Run

__all__ = ["AgentEnd", "result_of"]


@dataclass(frozen=True, slots=True)
class AgentEnd:
    """How one agent ended."""

    agent_id: str
    status: AgentStatus
    error: Exception | None = None


def result_of(run: Run, ended: Sequence[AgentEnd], failure: BaseException | None) -> RunResult:
    """The result of a run that ended so; `failure` is the exception that ended it, if one did.

    A stop counts more than what failed after it.
    """
    stop = run.stop
    error = failure if isinstance(failure, Exception) else None
    failed = next((one for one in ended if error is not None and one.error is error), None)
    stopped_by = failed.agent_id if failed else None
    if stop is not None:
        status, reason, stopped_by, error = RunStatus.ABORTED, stop.reason, stop.agent_id, None
    elif failure is None:
        status, reason = RunStatus.COMPLETED, None
    elif error is None:
        status, reason = RunStatus.FAILED, f"interrupted: {type(failure).__name__}"
    else:
        who = f"agent {stopped_by} failed" if stopped_by else "failed"
        status, reason = RunStatus.FAILED, f"{who}: {type(error).__name__}: {error}"
    totals, outputs = run.totals, run.outputs
    return RunResult(
        run_id=run.run_id,
        status=status,
        reason=reason,
        stopped_by=stopped_by,
        command_id=stop.command_id if stop else None,
        carbon_budget_g=run.budget_g,
        total_carbon_g=totals.carbon_g,
        carbon_range_g=totals.carbon_range_g,
        total_embodied_g=totals.embodied_g,
        total_water_ml=totals.water_ml,
        total_energy_wh=totals.energy_wh,
        total_tokens=totals.tokens,
        total_cost_usd=totals.cost_usd,
        agent_states=tuple(_state(run, one, outputs.get(one.agent_id)) for one in ended),
        outputs=outputs,
        error=error,
    )


def _state(run: Run, ended: AgentEnd, output: Any) -> AgentState:
    totals = run.agent_totals(ended.agent_id)
    return AgentState(
        agent_id=ended.agent_id,
        status=ended.status,
        calls=totals.calls,
        tokens=totals.tokens,
        energy_wh=totals.energy_wh,
        carbon_g=totals.carbon_g,
        carbon_range_g=totals.carbon_range_g,
        water_ml=totals.water_ml,
        cost_usd=totals.cost_usd,
        output=output,
        error=ended.error,
    )
