"""What a batch adds to a lake: rows that are only ever appended, and the views that add them up.

Two sinks that append never conflict; two that update one row do. So a batch's sums are part rows
(schema `parts`), and the tables that a DuckDB file updates in place (`runs`, `agents`, `hourly`,
`daily`, `commands`, `positions`) are views with the same names and columns. Parts are
DECIMAL(38, 18): their sum is the same to the last digit however the records were split into
batches, and however parts have been merged since. Values above 1e20 do not fit and are refused.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from marlin.sinks.facts import CommandFacts, RunFacts
from marlin.sinks.measures import FOOTPRINT, TOKENS

__all__ = [
    "AGENT_KEY",
    "FACT_ORDER",
    "HOURLY_KEY",
    "INSERT_AGENTS",
    "INSERT_HOURLY",
    "MERGE_AGENTS",
    "MERGE_HOURLY",
    "MERGE_POSITIONS",
    "SLOTS",
    "VIEWS",
    "tables",
    "turn_table",
]

SLOTS: Final = 16
"""Tables `parts.turns_…`. A batch moves the turn of each partition number it has, modulo this, so
that two sinks that take in the same partition conflict, and two of other partitions do not."""

_EXACT = "DECIMAL(38, 18)"
_COUNTS: Final = ("calls", *TOKENS)
_AMOUNTS: Final = (*FOOTPRINT, "cost_usd")

AGENT_KEY: Final = ("run_id", "agent_id")
HOURLY_KEY: Final = (
    *("hour", "tenant", "project", "provider", "model", "region"),
    *("usage_quality", "codes", "method", "factors"),
)

FACT_ORDER: Final = "{source_id: source_id, source_offset: source_offset}"
"""Which of two records of one run came first on the events topic."""

_TYPES: Final = {
    **dict.fromkeys(("source_id",), "INTEGER"),
    **dict.fromkeys(("source_offset", "tenant_offset", "project_offset"), "BIGINT"),
    **dict.fromkeys(("hour", "first_event_time", "last_event_time"), "TIMESTAMPTZ"),
    **dict.fromkeys(
        ("started_at", "finished_at", "aborted_at", "stopped_at", "issued_at", "escalated_at"),
        "TIMESTAMPTZ",
    ),
    **dict.fromkeys(
        ("carbon_budget_g", "overshoot_g", "overshoot_ms", "budget_g", "spent_g"), "DOUBLE"
    ),
    "enable_environmental": "BOOLEAN",
    "warn_at": "JSON",
    "is_merged": "BOOLEAN",
    **dict.fromkeys(_COUNTS, "BIGINT"),
    **dict.fromkeys(_AMOUNTS, _EXACT),
}
_SPAN: Final = ("first_event_time", "last_event_time")
_TOLD: Final = ("tenant", "tenant_offset", "project", "project_offset", "source_id")


def turn_table(slot: int) -> str:
    """Name of a slot's table."""
    return f"parts.turns_{slot:02}"


def tables() -> dict[str, str]:
    """The part tables: name and the SQL that makes each."""
    columns: dict[str, tuple[str, ...]] = {
        "agents": (*AGENT_KEY, *_SPAN, *_TOLD, *_COUNTS, *_AMOUNTS, "is_merged"),
        "hourly": (*HOURLY_KEY, *_COUNTS, *_AMOUNTS, "is_merged"),
        "runs": (*(field.name for field in fields(RunFacts)), "source_id", "source_offset"),
        "commands": (*(field.name for field in fields(CommandFacts)), "source_id", "source_offset"),
    }
    made = {
        name: ", ".join(f"{column} {_TYPES.get(column, 'VARCHAR')}" for column in names)
        for name, names in columns.items()
    }
    made["positions"] = (
        "source_id INTEGER, partition INTEGER, kind VARCHAR, next_offset BIGINT, "
        "updated_at TIMESTAMPTZ, is_merged BOOLEAN"
    )
    made |= {f"turns_{slot:02}": "turn BIGINT" for slot in range(SLOTS)}
    made |= dict.fromkeys(("turns_sources", "turns_factor_sets"), "turn BIGINT")
    return {name: f"CREATE TABLE IF NOT EXISTS parts.{name} ({made[name]})" for name in made}


def _sums(names: tuple[str, ...], how: str) -> str:
    return ", ".join(f"{how.format(name)} AS {name}" for name in names)


_OF_BATCH = ", ".join(
    [
        "count(*) AS calls",
        _sums(TOKENS, "sum({})::BIGINT"),
        _sums(_AMOUNTS, f"sum({{}}::{_EXACT})"),
        "false AS is_merged",
    ]
)
_OF_PARTS = ", ".join([_sums(_COUNTS, "sum({})::BIGINT"), _sums(_AMOUNTS, "sum({})")])
_SPAN_OF_PARTS = (
    "min(first_event_time) AS first_event_time, max(last_event_time) AS last_event_time"
)

INSERT_AGENTS: Final = f"""
INSERT INTO parts.agents BY NAME
SELECT run_id, agent_id, min(time) AS first_event_time, max(time) AS last_event_time,
    arg_min(tenant, source_offset) AS tenant,
    min(source_offset) FILTER (tenant IS NOT NULL) AS tenant_offset,
    arg_min(project, source_offset) AS project,
    min(source_offset) FILTER (project IS NOT NULL) AS project_offset,
    min(source_id) AS source_id, {_OF_BATCH}
FROM batch_usages GROUP BY run_id, agent_id
"""

INSERT_HOURLY: Final = f"""
INSERT INTO parts.hourly BY NAME
SELECT date_trunc('hour', time) AS hour, tenant, project, provider, model, region, usage_quality,
    array_to_string(quality, ',') AS codes, method, factors, {_OF_BATCH}
FROM batch_usages GROUP BY ALL
"""

_FIRST_TOLD = ", ".join(
    f"arg_min({name}, {{source_id: source_id, source_offset: {name}_offset}}) AS {name}"
    for name in ("tenant", "project")
)

MERGE_AGENTS: Final = f"""
SELECT run_id, agent_id, {_SPAN_OF_PARTS}, {_FIRST_TOLD},
    min(tenant_offset) AS tenant_offset, min(project_offset) AS project_offset,
    source_id, {_OF_PARTS}, true AS is_merged
FROM parts.agents WHERE NOT is_merged GROUP BY run_id, agent_id, source_id
"""
MERGE_HOURLY: Final = f"""
SELECT {", ".join(HOURLY_KEY)}, {_OF_PARTS}, true AS is_merged
FROM parts.hourly WHERE NOT is_merged GROUP BY ALL
"""
MERGE_POSITIONS: Final = """
SELECT source_id, partition, kind, max(next_offset) AS next_offset,
    max(updated_at) AS updated_at, true AS is_merged
FROM parts.positions GROUP BY ALL
"""


def _struct(names: tuple[str, ...]) -> str:
    return "{" + ", ".join(f"{name}: {name}" for name in names) + "}"


_STARTED = (
    *("task", "tenant", "project", "enable_environmental", "carbon_budget_g"),
    *("warn_at", "bound", "action", "started_at"),
)
_FINISHED = ("finished_at", "finished_status", "finished_reason")
_COMMANDED = ("command_id", "aborted_at", "command_reason")
_ACKNOWLEDGED = ("ack_outcome", "stopped_at", "overshoot_g", "overshoot_ms")
_COMMAND = ("action", "reason", "budget_g", "spent_g", "caused_by", "issued_at")
_ANSWER = ("outcome", "stopped_at", "overshoot_g", "overshoot_ms")

_TOTALS = ", ".join(
    [
        _sums(_COUNTS, "coalesce(sum({}), 0)::BIGINT"),
        _sums(FOOTPRINT, "coalesce(sum({}), 0)::DOUBLE"),
        "sum(cost_usd)::DOUBLE AS cost_usd",
    ]
)

_RUNS = f"""
SELECT run_id, started.* EXCLUDE (tenant, project), finished.*, commanded.*, acknowledged.*,
    coalesce(started.tenant, told_tenant) AS tenant,
    coalesce(started.project, told_project) AS project,
    coalesce(finished.finished_status,
        CASE WHEN acknowledged.ack_outcome = 'stopped' THEN 'aborted' ELSE 'running' END) AS status,
    coalesce(finished.finished_reason,
        CASE WHEN coalesce(finished.finished_status, acknowledged.ack_outcome)
            IN ('aborted', 'stopped') THEN commanded.command_reason END) AS reason,
    totals.* EXCLUDE run_id
FROM (
    SELECT run_id, {_SPAN_OF_PARTS},
        arg_min(told_tenant, {{source_id: source_id, source_offset: tenant_offset}}) AS told_tenant,
        arg_min(told_project, {{source_id: source_id, source_offset: project_offset}})
            AS told_project,
        arg_min({_struct(_STARTED)}, {FACT_ORDER}) FILTER (started_at IS NOT NULL) AS started,
        arg_max({_struct(_FINISHED)}, {FACT_ORDER}) FILTER (finished_at IS NOT NULL) AS finished,
        arg_min({_struct(_COMMANDED)}, {{aborted_at: aborted_at, command_id: command_id}})
            FILTER (aborted_at IS NOT NULL) AS commanded,
        arg_min({_struct(_ACKNOWLEDGED)}, {FACT_ORDER})
            FILTER (ack_outcome IS NOT NULL) AS acknowledged,
        min(escalated_at) AS escalated_at, {_TOTALS}
    FROM (
        SELECT * EXCLUDE (tenant, project), tenant AS told_tenant, project AS told_project
        FROM parts.agents
        UNION ALL BY NAME
        SELECT * FROM parts.runs
    ) GROUP BY run_id
) AS totals
"""
_COMMANDS = f"""
SELECT command_id, coalesce(told.run_id, any_run_id) AS run_id, told.* EXCLUDE run_id, answer.*
FROM (
    SELECT command_id, min(run_id) AS any_run_id,
        arg_min({_struct(("run_id", *_COMMAND))}, issued_at) FILTER (action IS NOT NULL) AS told,
        arg_min({_struct(_ANSWER)}, {FACT_ORDER}) FILTER (outcome IS NOT NULL) AS answer
    FROM parts.commands GROUP BY command_id
)
"""

VIEWS: Final = {
    "runs": _RUNS,
    "agents": f"SELECT run_id, agent_id, {_SPAN_OF_PARTS}, {_TOTALS} FROM parts.agents "
    "GROUP BY run_id, agent_id",
    "hourly": f"SELECT {', '.join(HOURLY_KEY)}, {_TOTALS} FROM parts.hourly GROUP BY ALL",
    "daily": "SELECT (hour AT TIME ZONE 'UTC')::DATE AS day, "
    f"{', '.join(HOURLY_KEY[1:])}, {_TOTALS} FROM parts.hourly GROUP BY ALL",
    "commands": _COMMANDS,
    "positions": "SELECT source_id, partition, kind, max(next_offset) AS next_offset, "
    "max(updated_at) AS updated_at FROM parts.positions GROUP BY ALL",
}
"""What a DuckDB file has as tables. The columns' order and types are those of its tables."""
