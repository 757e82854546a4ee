"""What `marlin demo` tells at its end: read back from DuckDB, checked against the fleet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marlin.query import query
from marlin.runtime import RunResult
from marlin.settings import Settings

__all__ = ["DemoReport", "differences", "read_report"]

Row = dict[str, Any]

_RUNS = """
SELECT run_id, task, project, status, reason, calls, carbon_budget_g, overshoot_g, ack_outcome,
       energy_wh, carbon_g, carbon_g_low, carbon_g_high, water_ml,
       input_tokens + cache_read_tokens + cache_write_tokens + output_tokens AS tokens
FROM runs WHERE starts_with(run_id, $1) ORDER BY run_id
"""
_AGENTS = """
SELECT project, agent_id, count(*) AS runs, sum(a.calls) AS calls,
       sum(a.input_tokens + a.output_tokens) AS tokens, sum(a.energy_wh) AS energy_wh,
       sum(a.carbon_g) AS carbon_g, sum(a.carbon_g_low) AS carbon_g_low,
       sum(a.carbon_g_high) AS carbon_g_high, sum(a.water_ml) AS water_ml
FROM agents a JOIN runs USING (run_id)
WHERE starts_with(run_id, $1) GROUP BY ALL ORDER BY carbon_g DESC
"""
_MODELS = """
SELECT model, count(*) AS calls, sum(input_tokens + output_tokens) AS tokens,
       sum(energy_wh) AS energy_wh, sum(carbon_g) AS carbon_g
FROM events WHERE starts_with(run_id, $1)
GROUP BY model ORDER BY sum(energy_wh) / sum(input_tokens + output_tokens)
"""
_EVENTS = "SELECT count(*) AS events FROM events WHERE starts_with(run_id, $1)"
_COMMANDS = """
SELECT command_id, run_id, action, outcome FROM commands
WHERE starts_with(run_id, $1) AND action = 'abort'
"""


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Everything of one demo, as DuckDB has it."""

    runs: list[Row]
    agents: list[Row]
    models: list[Row]
    commands: list[Row]
    events: int

    def total(self, column: str) -> float:
        """The sum of a column over the runs."""
        return math.fsum(run[column] for run in self.runs)

    def with_status(self, status: str) -> list[Row]:
        """The runs that ended so."""
        return [run for run in self.runs if run["status"] == status]

    def as_json(self) -> dict[str, object]:
        """What `marlin demo --json` prints, but for the path."""
        aborted = self.with_status("aborted")
        return {
            "runs": len(self.runs),
            "completed": len(self.with_status("completed")),
            "aborted": len(aborted),
            "failed": len(self.with_status("failed")),
            "commands": len(self.commands),
            "events": self.events,
            "energy_wh": self.total("energy_wh"),
            "carbon_g": self.total("carbon_g"),
            "carbon_g_low": self.total("carbon_g_low"),
            "carbon_g_high": self.total("carbon_g_high"),
            "water_ml": self.total("water_ml"),
            "aborted_runs": [
                {name: run[name] for name in ("run_id", "reason", "carbon_budget_g", "overshoot_g")}
                for run in aborted
            ],
            "agents": self.agents,
        }


def read_report(settings: Settings, demo_id: str) -> DemoReport:
    """Read what DuckDB has of the runs whose ids start with `demo_id`."""

    def ask(sql: str) -> list[Row]:
        return query(sql, [f"{demo_id}-"], settings=settings).to_dicts()

    return DemoReport(
        runs=ask(_RUNS),
        agents=ask(_AGENTS),
        models=ask(_MODELS),
        commands=ask(_COMMANDS),
        events=ask(_EVENTS)[0]["events"],
    )


def differences(report: DemoReport, results: Sequence[RunResult]) -> list[str]:
    """What DuckDB has other than the fleet counted; empty when they agree."""
    stored = {run["run_id"]: run for run in report.runs}
    found: list[str] = []
    for result in results:
        run = stored.pop(result.run_id, None)
        if run is None:
            found.append(f"run {result.run_id} is not in DuckDB")
            continue
        commands = sum(command["run_id"] == result.run_id for command in report.commands)
        counted: dict[str, object] = {
            "status": result.status.value,
            "calls": sum(state.calls for state in result.agent_states),
            "tokens": result.total_tokens,
            "abort commands": int(result.status.value == "aborted"),
        }
        has = {**run, "abort commands": commands}
        found += [
            f"run {result.run_id}: {name} is {has[name]} in DuckDB and was {value}"
            for name, value in counted.items()
            if has[name] != value
        ]
        if not math.isclose(run["carbon_g"], result.total_carbon_g, rel_tol=1e-9):
            found.append(
                f"run {result.run_id}: carbon_g is {run['carbon_g']} in DuckDB and was "
                f"{result.total_carbon_g}"
            )
    found += [f"run {run_id} is in DuckDB and was never started" for run_id in stored]
    return found
