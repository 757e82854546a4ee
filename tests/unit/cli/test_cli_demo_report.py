"""The demo's check: what DuckDB has against what the fleet counted."""

from __future__ import annotations

from typing import Any

import pytest

from marlin.cli.demo_report import DemoReport, differences
from marlin.estimation import Range
from marlin.runtime import AgentState, AgentStatus, RunResult, RunStatus


def result(run_id: str, status: RunStatus = RunStatus.COMPLETED) -> RunResult:
    zero = Range(0.0, 0.0, 0.0)
    state = AgentState(
        "writer", AgentStatus.COMPLETED, 2, 70, 1.0, 0.3, zero, 4.0, None, output="text"
    )
    return RunResult(
        run_id=run_id,
        status=status,
        reason=None,
        stopped_by=None,
        command_id=None,
        carbon_budget_g=None,
        total_carbon_g=0.3,
        carbon_range_g=zero,
        total_embodied_g=0.0,
        total_water_ml=4.0,
        total_energy_wh=1.0,
        total_tokens=70,
        total_cost_usd=None,
        agent_states=(state,),
        outputs={},
        error=None,
    )


def row(run_id: str, **changes: Any) -> dict[str, Any]:
    amounts = {"carbon_g": 0.3, "carbon_g_low": 0.1, "carbon_g_high": 0.9}
    fixed = {"run_id": run_id, "status": "completed", "calls": 2, "tokens": 70}
    return {**fixed, **amounts, "energy_wh": 1.0, "water_ml": 4.0, **changes}


def report(*runs: dict[str, Any], commands: tuple[str, ...] = ()) -> DemoReport:
    return DemoReport(
        runs=list(runs),
        agents=[],
        models=[],
        commands=[{"command_id": str(n), "run_id": run} for n, run in enumerate(commands)],
        events=4,
    )


def test_agreeing_reports_have_no_differences() -> None:
    stored = report(row("a"), row("b", status="aborted"), commands=("b",))

    assert differences(stored, [result("a"), result("b", RunStatus.ABORTED)]) == []


@pytest.mark.parametrize(
    ("stored", "difference"),
    [
        (report(), "run a is not in DuckDB"),
        (report(row("a", calls=3)), "run a: calls is 3 in DuckDB and was 2"),
        (report(row("a", tokens=71)), "run a: tokens is 71 in DuckDB and was 70"),
        (report(row("a", status="running")), "run a: status is running in DuckDB and was compl"),
        (report(row("a", carbon_g=0.30000001)), "run a: carbon_g is 0.30000001 in DuckDB and was"),
        (report(row("a"), commands=("a",)), "run a: abort commands is 1 in DuckDB and was 0"),
        (report(row("a"), row("z")), "run z is in DuckDB and was never started"),
    ],
)
def test_every_difference_is_told(stored: DemoReport, difference: str) -> None:
    (found,) = differences(stored, [result("a")])

    assert found.startswith(difference)


@pytest.mark.parametrize("commands", [(), ("a", "a")])
def test_an_aborted_run_has_exactly_one_command(commands: tuple[str, ...]) -> None:
    stored = report(row("a", status="aborted"), commands=commands)

    (found,) = differences(stored, [result("a", RunStatus.ABORTED)])

    assert found == f"run a: abort commands is {len(commands)} in DuckDB and was 1"


def test_the_json_is_summed_over_the_runs() -> None:
    aborted = row("b", status="aborted", reason="r", carbon_budget_g=0.2, overshoot_g=0.1)

    printed = report(row("a"), aborted, commands=("b",)).as_json()

    assert printed == {
        "runs": 2,
        "completed": 1,
        "aborted": 1,
        "failed": 0,
        "commands": 1,
        "events": 4,
        "energy_wh": 2.0,
        "carbon_g": 0.6,
        "carbon_g_low": 0.2,
        "carbon_g_high": 1.8,
        "water_ml": 8.0,
        "aborted_runs": [
            {"run_id": "b", "reason": "r", "carbon_budget_g": 0.2, "overshoot_g": 0.1}
        ],
        "agents": [],
    }
