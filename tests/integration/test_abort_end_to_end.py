"""Aborts between processes: commanded, raised in the runtime, acknowledged, shown; or not."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from command_line import environment, marlin, marlin_json
from pipeline import PipelineProcess, commands, eventually, unique_carbon

from marlin.broker.cluster import create_topics
from marlin.errors import QueryError
from marlin.query import query
from marlin.schemas import Command, command_id
from marlin.settings import Settings

BUDGET_G = 0.001
BREACH = "carbon_budget_exceeded"

_RUNTIME = """
import asyncio, json, sys, time
from marlin.errors import CarbonBudgetExceededError
from marlin.runtime import MeshFlow
from marlin.settings import Settings

settings, run_id, obeys = Settings.model_validate_json(sys.argv[1]), sys.argv[2], sys.argv[3]

async def spends(ctx):
    calls = 0
    try:
        while True:
            await ctx.call_model("x")
            calls += 1
            if obeys == "no":
                time.sleep(3600)  # not even its event loop runs any more
            await asyncio.sleep(0.01)
    except CarbonBudgetExceededError as error:
        print(json.dumps({"calls": calls, "command_id": error.command_id, "step": error.step,
                          "agent_id": error.agent_id, "spent_g": error.spent.central}), flush=True)
        raise

mesh = MeshFlow(mock=True, default_model="large-70b", region="us-east-1", settings=settings,
                carbon_budget_g=float(sys.argv[4]), local_enforcement=False,
                agents={"spends": spends, "late": spends})
result = asyncio.run(mesh.run(run_id=run_id))
print(json.dumps({"status": result.status.value, "carbon_g": result.total_carbon_g,
                  "blocked": [s.agent_id for s in result.agent_states if s.status == "blocked"]}),
      flush=True)
"""


@pytest.fixture
def env(settings: Settings) -> dict[str, str]:
    return environment(settings)


@contextmanager
def pipeline(settings: Settings, folder: Path) -> Generator[None]:
    """A worker and a sink."""
    parts = [PipelineProcess(kind, settings, folder / kind) for kind in ("worker", "sink")]
    try:
        yield
        for part in parts:
            assert part.stop() == 0
    finally:
        for part in parts:
            if part.running:
                part.kill()


@contextmanager
def runtime(
    settings: Settings, run_id: str, *, obeys: bool = True, budget_g: float = BUDGET_G
) -> Generator[subprocess.Popen[str]]:
    """A process with one run that calls a model again and again; or once, and then hangs."""
    arguments = [settings.model_dump_json(), run_id, "yes" if obeys else "no", str(budget_g)]
    process = subprocess.Popen(
        [sys.executable, "-c", _RUNTIME, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def commanded(settings: Settings, action: str) -> Command:
    async def found() -> list[Command]:
        return [one for one in await commands(settings) if one.action == action]

    (first, *_) = await eventually(found, within_s=60)
    return first


async def shown(
    settings: Settings, env: dict[str, str], run_id: str, when: str
) -> tuple[dict[str, Any], str]:
    """How `marlin runs` shows a run, once `when` is true of it: for programs, for people."""
    sql = f"SELECT count(*) FROM runs WHERE run_id = $1 AND {when}"

    async def stored() -> bool:
        try:
            result = await asyncio.to_thread(query, sql, [run_id], settings=settings)
        except QueryError:
            return False  # the sink has not made it yet
        return bool(result.rows[0][0])

    await eventually(stored, within_s=60)
    rows = await asyncio.to_thread(marlin_json, "runs", env=env)
    table = await asyncio.to_thread(marlin, "runs", env=env)
    line = next(line for line in table.stdout.splitlines() if line.startswith(run_id))
    return next(row for row in rows if row["run_id"] == run_id), line


def at(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


async def test_runtimes_obey_budgets_and_operators_and_their_answers_are_shown(
    settings: Settings, env: dict[str, str], tmp_path: Path
) -> None:
    await create_topics(settings)
    with pipeline(settings, tmp_path):
        await a_breach_is_obeyed(settings, env)
        await an_operator_is_obeyed(settings, env)


async def a_breach_is_obeyed(settings: Settings, env: dict[str, str]) -> None:
    with runtime(settings, "breach") as process:
        said, _ = await asyncio.to_thread(process.communicate)
    raised, result = map(json.loads, said.splitlines())
    run, line = await shown(settings, env, "breach", "ack_outcome IS NOT NULL")

    abort_id = command_id("breach", BREACH)
    assert (raised["command_id"], raised["agent_id"]) == (abort_id, "spends")
    assert raised["step"] == raised["calls"] >= 1
    assert (result["status"], result["blocked"]) == ("aborted", ["late"])
    assert (run["status"], run["command_id"]) == ("aborted", abort_id)
    assert (run["acknowledgement"], run["ack_outcome"]) == ("acknowledged", "stopped")
    assert run["overshoot_g"] == pytest.approx(result["carbon_g"] - BUDGET_G)
    took_ms = (at(run["stopped_at"]) - at(run["commanded_at"])).total_seconds() * 1000
    assert run["overshoot_ms"] == pytest.approx(took_ms, abs=0.01)
    assert "stopped in " in line


async def an_operator_is_obeyed(settings: Settings, env: dict[str, str]) -> None:
    with runtime(settings, "free", budget_g=1e9) as process:

        async def listens() -> bool:
            return any(call.usage.run_id == "free" for call in await unique_carbon(settings))

        await eventually(listens, within_s=60)
        asked = ("abort", "free", "--reason", "wrong prompt", "--wait-s", "60")
        told = await asyncio.to_thread(marlin_json, *asked, env=env)
        said, _ = await asyncio.to_thread(process.communicate)
    raised, result = map(json.loads, said.splitlines())
    run, _ = await shown(settings, env, "free", "ack_outcome IS NOT NULL")
    again = await asyncio.to_thread(marlin_json, "abort", "free", "--wait-s", "0.1", env=env)

    assert result["status"] == "aborted"
    assert told["command_id"] == raised["command_id"] == command_id("free", "operator")
    assert (told["outcome"], told["overshoot_g"]) == ("stopped", 0.0)
    assert (run["command_reason"], run["overshoot_ms"]) == ("wrong prompt", told["overshoot_ms"])
    # It is answered once; who asks again is told of that answer.
    assert (again["outcome"], again["overshoot_ms"]) == ("stopped", told["overshoot_ms"])


async def test_a_killed_runtime_is_unacknowledged_and_escalated_after_the_deadline(
    settings: Settings, env: dict[str, str], tmp_path: Path
) -> None:
    worker = settings.worker.model_copy(update={"abort_deadline_s": 1.5})
    settings = settings.model_copy(update={"worker": worker})
    await create_topics(settings)
    with pipeline(settings, tmp_path), runtime(settings, "killed", obeys=False) as process:
        abort = await commanded(settings, "abort")
        process.kill()
        escalation = await commanded(settings, "escalate")
        run, line = await shown(settings, env, "killed", "escalated_at IS NOT NULL")

    assert (escalation.issued_at - abort.issued_at).total_seconds() >= 1.5
    assert escalation.command_id == command_id("killed", "abort_unacknowledged")
    assert (escalation.reason, escalation.caused_by) == ("abort_unacknowledged", abort.command_id)
    assert (run["status"], run["acknowledgement"]) == ("running", "escalated")
    assert (run["command_id"], run["ack_outcome"], run["overshoot_ms"]) == (
        *(abort.command_id, None),
        None,
    )
    assert at(run["escalated_at"]) == escalation.issued_at
    assert "escalated " in line
