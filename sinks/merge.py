"""The SQL that adds a batch to the aggregates.

Generated, because the sums of `runs`, `agents`, `hourly` and `daily` are the same columns. The
batch is visible as `batch_usages` (columns of `marlin.sinks.carbon_table.SCHEMA`, and
`source_id`), `batch_runs`, `batch_commands` and `batch_positions`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from marlin.sinks.facts import CommandFacts, RunFacts
from marlin.sinks.measures import FOOTPRINT, TOKENS

__all__ = [
    "DERIVE_STATUS",
    "FIND_OTHER_EVENT",
    "INSERT_EVENTS",
    "INSERT_REFUSALS",
    "MERGE_AGENTS",
    "MERGE_COMMANDS",
    "MERGE_DAILY",
    "MERGE_HOURLY",
    "MERGE_POSITIONS",
    "MERGE_RUNS",
    "MERGE_RUN_FACTS",
    "SUMS",
]

SUMS: Final = ("calls", *TOKENS, *FOOTPRINT)
"""Columns that are summed in the aggregates, beside the cost."""

_SUM_OF_BATCH = ", ".join(
    [
        "count(*) AS calls",
        *(f"sum({name})::BIGINT AS {name}" for name in TOKENS),
        *(f"sum({name}) AS {name}" for name in FOOTPRINT),
        "sum(cost_usd) AS cost_usd",
    ]
)
_ADD = ", ".join(
    [
        *(f"{name} = t.{name} + b.{name}" for name in SUMS),
        # NULL stays NULL until a cost is told: an unknown cost is not a cost of zero.
        "cost_usd = CASE WHEN b.cost_usd IS NULL THEN t.cost_usd"
        " ELSE coalesce(t.cost_usd, 0) + b.cost_usd END",
    ]
)
_SPAN_OF_BATCH = "min(time) AS first_event_time, max(time) AS last_event_time"
_SPAN = (  # least and greatest skip NULL: a run may be known before its first call
    "first_event_time = least(t.first_event_time, b.first_event_time), "
    "last_event_time = greatest(t.last_event_time, b.last_event_time)"
)


def _merge(table: str, batch: str, on: str, update: str, insert: tuple[str, ...]) -> str:
    columns = ", ".join(insert)
    values = ", ".join(f"b.{name}" for name in insert)
    return (
        f"MERGE INTO {table} AS t USING ({batch}) AS b ON {on} "
        f"WHEN MATCHED THEN UPDATE SET {update} "
        f"WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})"
    )


INSERT_EVENTS: Final = """
INSERT INTO events BY NAME
SELECT * EXCLUDE (time, labels, source_topic), time AS event_time, labels::JSON AS labels,
    now() AS ingested_at
FROM batch_usages
"""

INSERT_REFUSALS: Final = (
    "INSERT INTO dead_letters BY NAME SELECT *, now() AS ingested_at FROM batch_refusals"
)

_SPAN_NAMES = ("first_event_time", "last_event_time")

FIND_OTHER_EVENT: Final = """
SELECT b.event_id, b.source_topic, b.source_partition, b.source_offset, e.event_id
FROM batch_usages AS b JOIN events AS e
    ON e.source_id = b.source_id AND e.source_partition = b.source_partition
    AND e.source_offset = b.source_offset
WHERE e.event_id <> b.event_id
LIMIT 1
"""

MERGE_AGENTS: Final = _merge(
    "agents",
    f"SELECT run_id, agent_id, {_SPAN_OF_BATCH}, {_SUM_OF_BATCH} FROM batch_usages GROUP BY ALL",
    "t.run_id = b.run_id AND t.agent_id = b.agent_id",
    f"{_SPAN}, {_ADD}",
    ("run_id", "agent_id", *_SPAN_NAMES, *SUMS, "cost_usd"),
)

_ACCOUNT = ("tenant", "project", "provider", "model", "region")
_ESTIMATE = ("usage_quality", "codes", "method", "factors")


def _merge_period(table: str, period: str, begin: str) -> str:
    key = (period, *_ACCOUNT, *_ESTIMATE)
    return _merge(
        table,
        f"SELECT {begin} AS {period}, {', '.join(_ACCOUNT)}, usage_quality, "
        f"array_to_string(quality, ',') AS codes, method, factors, {_SUM_OF_BATCH} "
        "FROM batch_usages GROUP BY ALL",
        " AND ".join(f"t.{name} IS NOT DISTINCT FROM b.{name}" for name in key),
        _ADD,
        (*key, *SUMS, "cost_usd"),
    )


MERGE_HOURLY: Final = _merge_period("hourly", "hour", "date_trunc('hour', time)")
MERGE_DAILY: Final = _merge_period("daily", "day", "(time AT TIME ZONE 'UTC')::DATE")

_FIRST_TOLD = ", ".join(
    f"arg_min({name}, source_offset) FILTER ({name} IS NOT NULL) AS {name}"
    for name in ("tenant", "project")
)

MERGE_RUNS: Final = _merge(
    "runs",
    f"SELECT run_id, 'running' AS status, {_FIRST_TOLD}, {_SPAN_OF_BATCH}, {_SUM_OF_BATCH} "
    "FROM batch_usages GROUP BY ALL",
    "t.run_id = b.run_id",
    "tenant = coalesce(t.tenant, b.tenant), project = coalesce(t.project, b.project), "
    f"{_SPAN}, {_ADD}",
    ("run_id", "status", "tenant", "project", *_SPAN_NAMES, *SUMS, "cost_usd"),
)

_STARTED = ("task", "enable_environmental", "carbon_budget_g", "warn_at", "bound", "action")
_FINISHED = ("finished_at", "finished_status", "finished_reason")
_COMMANDED = ("command_id", "aborted_at", "command_reason")
_ACKNOWLEDGED = ("ack_outcome", "stopped_at", "overshoot_g", "overshoot_ms")

_IS_FIRST_START = "t.started_at IS NULL AND b.started_at IS NOT NULL"
_IS_EARLIER_ABORT = (
    "b.aborted_at IS NOT NULL AND (t.aborted_at IS NULL OR b.aborted_at < t.aborted_at "
    "OR (b.aborted_at = t.aborted_at AND b.command_id < t.command_id))"
)


def _when(condition: str, names: tuple[str, ...]) -> list[str]:
    return [f"{name} = CASE WHEN {condition} THEN b.{name} ELSE t.{name} END" for name in names]


_RUN_FACT_NAMES = tuple(field.name for field in fields(RunFacts))

MERGE_RUN_FACTS: Final = _merge(
    "runs",
    "SELECT *, 'running' AS status, "
    + ", ".join(f"0 AS {name}" for name in SUMS)
    + " FROM batch_runs",
    "t.run_id = b.run_id",
    ", ".join(
        [
            *_when(_IS_FIRST_START, _STARTED),
            *(
                f"{name} = CASE WHEN {_IS_FIRST_START} THEN coalesce(b.{name}, t.{name}) "
                f"ELSE t.{name} END"
                for name in ("tenant", "project")
            ),
            "started_at = coalesce(t.started_at, b.started_at)",
            *_when("b.finished_at IS NOT NULL", _FINISHED),
            *_when(_IS_EARLIER_ABORT, _COMMANDED),
            *_when("t.ack_outcome IS NULL", _ACKNOWLEDGED),
            "escalated_at = least(t.escalated_at, b.escalated_at)",  # skips NULL
        ]
    ),
    (*_RUN_FACT_NAMES, "status", *SUMS),
)

DERIVE_STATUS: Final = """
UPDATE runs SET
    status = coalesce(
        finished_status, CASE WHEN ack_outcome = 'stopped' THEN 'aborted' ELSE 'running' END),
    reason = coalesce(
        finished_reason,
        CASE WHEN coalesce(finished_status, ack_outcome) IN ('aborted', 'stopped')
            THEN command_reason END)
WHERE run_id IN (SELECT run_id FROM batch_runs)
"""
"""Status and reason follow from the facts alone, so the order in which they came is no matter."""

_COMMAND_NAMES = tuple(field.name for field in fields(CommandFacts))
_IS_FIRST_COPY = "t.action IS NULL AND b.action IS NOT NULL"
_ANSWER = ("outcome", "stopped_at", "overshoot_g", "overshoot_ms")

MERGE_COMMANDS: Final = _merge(
    "commands",
    "SELECT * FROM batch_commands",
    "t.command_id = b.command_id",
    ", ".join(
        [
            *_when(_IS_FIRST_COPY, ("run_id", "action", "reason", "budget_g")),
            *_when(_IS_FIRST_COPY, ("spent_g", "caused_by", "issued_at")),
            *_when("t.outcome IS NULL", _ANSWER),
        ]
    ),
    _COMMAND_NAMES,
)

MERGE_POSITIONS: Final = _merge(
    "positions",
    "SELECT *, now() AS updated_at FROM batch_positions",
    "t.source_id = b.source_id AND t.partition = b.partition AND t.kind = b.kind",
    "next_offset = b.next_offset, updated_at = b.updated_at",
    ("source_id", "partition", "kind", "next_offset", "updated_at"),
)
