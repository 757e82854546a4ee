"""One example of every record, from one run whose budget was too small.

They are valid by construction, so documentation and tests that use them cannot go stale.
"""

from __future__ import annotations

from datetime import UTC, datetime

from marlin.schemas.carbon import Carbon, Lifecycle
from marlin.schemas.command import Command, command_id
from marlin.schemas.deadletter import DeadLetter
from marlin.schemas.grid import GridRecord
from marlin.schemas.runs import AbortAcknowledged, Policy, RunFinished, RunStarted
from marlin.schemas.usage import Usage

__all__ = [
    "ABORT_ACKNOWLEDGED",
    "CARBON",
    "COMMAND",
    "DEAD_LETTER",
    "GRID",
    "LIFECYCLE",
    "RUN_FINISHED",
    "RUN_STARTED",
    "USAGE",
]

_RUN_ID = "run-7f3a"
_CAUSE = "carbon_budget_exceeded"
_COMMAND_ID = command_id(_RUN_ID, _CAUSE)


def _at(second: int) -> datetime:
    return datetime(2026, 3, 1, 12, 0, second, tzinfo=UTC)


RUN_STARTED = RunStarted(
    run_id=_RUN_ID,
    time=_at(0),
    task="Summarise the quarterly report",
    tenant="acme",
    policy=Policy(carbon_budget_g=0.5, warn_at=(0.8,)),
)

USAGE = Usage(
    event_id="run-7f3a:researcher-1:0",
    run_id=_RUN_ID,
    agent_id="researcher",
    producer_id="researcher-1",
    seq=0,
    time=_at(4),
    provider="openai",
    model="gpt-4o",
    region="DE",
    input_tokens=1200,
    cache_read_tokens=800,
    output_tokens=350,
    reasoning_tokens=100,
    latency_s=3.2,
    tenant="acme",
)

CARBON = Carbon(
    source="marlin.events.v1-3-1041",
    usage=USAGE,
    energy_wh=1.5,
    energy_wh_low=0.75,
    energy_wh_high=3.0,
    carbon_g=0.6,
    carbon_g_low=0.3,
    carbon_g_high=1.2,
    embodied_g=0.09,
    embodied_g_low=0.03,
    embodied_g_high=0.27,
    water_ml=2.7,
    water_ml_low=0.9,
    water_ml_high=5.4,
    intensity_g_per_kwh=400.0,
    method="example",
    factors="example",
    quality=("parameters_undisclosed", "region_zone"),
    run_calls=1,
    run_energy_wh=1.5,
    run_carbon_g=0.6,
    run_water_ml=2.7,
)

COMMAND = Command(
    command_id=_COMMAND_ID,
    run_id=_RUN_ID,
    action="abort",
    reason=_CAUSE,
    budget_g=0.5,
    spent_g=CARBON.carbon_g,
    caused_by=USAGE.event_id,
    issued_at=_at(5),
)

ABORT_ACKNOWLEDGED = AbortAcknowledged(
    run_id=_RUN_ID,
    command_id=_COMMAND_ID,
    outcome="stopped",
    stopped_at=_at(6),
    overshoot_g=0.1,
    overshoot_ms=180.0,
)

RUN_FINISHED = RunFinished(run_id=_RUN_ID, time=_at(6), status="aborted", reason=_CAUSE)

LIFECYCLE = Lifecycle(source="marlin.events.v1-3-1040", run_id=_RUN_ID, event=RUN_STARTED)

GRID = GridRecord(
    zone="DE",
    hour=datetime(2026, 3, 1, 11, tzinfo=UTC),
    revision=0,
    intensity_g_per_kwh=312.0,
    basis="lifecycle",
    estimate="measured",
    source="electricitymaps-v3",
    fetched_at=_at(0),
)

DEAD_LETTER = DeadLetter(
    step="validate",
    reason="input_tokens: Input should be greater than or equal to 0, got -1",
    topic="marlin.events.v1",
    partition=3,
    offset=1042,
    refused_at=_at(7),
)
