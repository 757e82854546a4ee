from __future__ import annotations

import json

import pytest

from marlin.estimation import Range
from marlin.runtime import AgentState, AgentStatus, RunResult, RunStatus


def result(status: RunStatus = RunStatus.ABORTED, cost_usd: float | None = None) -> RunResult:
    writer = AgentState(
        agent_id="writer",
        status=AgentStatus.COMPLETED,
        calls=2,
        tokens=1234,
        energy_wh=0.5,
        carbon_g=0.25,
        carbon_range_g=Range(0.125, 0.25, 0.5),
        water_ml=1.5,
        cost_usd=cost_usd,
        output="text",
    )
    return RunResult(
        run_id="run-1",
        status=status,
        reason="carbon_budget_exceeded",
        stopped_by="writer",
        command_id=None,
        carbon_budget_g=0.2,
        total_carbon_g=0.25,
        carbon_range_g=Range(0.125, 0.25, 0.5),
        total_embodied_g=0.0625,
        total_water_ml=1.5,
        total_energy_wh=0.5,
        total_tokens=1234,
        total_cost_usd=cost_usd,
        agent_states=(writer,),
        outputs={"writer": "text"},
        error=None,
    )


def test_the_summary_labels_every_figure() -> None:
    assert result().environmental_summary().splitlines() == [
        "Environmental summary",
        "  run_id          : run-1",
        "  status          : aborted (carbon_budget_exceeded)",
        "  carbon_budget_g : 0.2",
        "  total_carbon_g  : 0.25 gCO2e (range 0.125 to 0.5)",
        "  embodied_g      : 0.0625 gCO2e (not in total_carbon_g)",
        "  water_ml        : 1.5 mL",
        "  energy_wh       : 0.5 Wh",
        "  tokens          : 1234",
        "  cost_usd        : not reported",
        "",
        "  agent   status     calls    tokens    energy_wh     carbon_g     water_ml",
        "  writer  completed      2      1234     0.500000     0.250000     1.500000",
    ]


def test_a_reported_cost_is_shown() -> None:
    assert "cost_usd        : 0.0125" in result(cost_usd=0.0125).environmental_summary()


def test_statuses_are_strings() -> None:
    assert RunStatus.ABORTED == "aborted"
    assert json.dumps({"status": RunStatus.FAILED}) == '{"status": "failed"}'
    assert f"{AgentStatus.BLOCKED}" == "blocked"


def test_agents_are_found_by_name() -> None:
    assert result().agent("writer").tokens == 1234
    with pytest.raises(KeyError, match="nobody"):
        result().agent("nobody")
