"""A batch's facts, refusals and usages as the Arrow tables that SQL inserts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from marlin.sinks.arrow import ArrowTable, arrow
from marlin.sinks.batch import Refusal
from marlin.sinks.facts import CommandFacts, RunFacts

__all__ = ["facts_table", "refusals_table", "with_source_id"]

_TEXT, _NUMBER, _TIME = arrow.string(), arrow.float64(), arrow.timestamp("us", tz="UTC")
_TIMES = {"started_at", "finished_at", "aborted_at", "stopped_at", "issued_at", "escalated_at"}
_NUMBERS = {"carbon_budget_g", "overshoot_g", "overshoot_ms", "budget_g", "spent_g"}


def facts_table(rows: Sequence[RunFacts] | Sequence[CommandFacts]) -> ArrowTable:
    """One row per fact, columns as the fields; of one row or more."""
    dicts = [asdict(row) for row in rows]
    return arrow.table(
        {name: arrow.array([row[name] for row in dicts], _kind(name)) for name in dicts[0]}
    )


def refusals_table(refusals: Sequence[Refusal], source_id: Callable[[str], int]) -> ArrowTable:
    """Columns as `dead_letters`, without `ingested_at`. `source_id` tells a topic's source."""
    sources = [one.source for one in refusals]
    columns: dict[str, Any] = {
        "step": arrow.array([one.step for one in refusals], _TEXT),
        "reason": arrow.array([one.reason for one in refusals], _TEXT),
        "topic": arrow.array([source.topic for source in sources], _TEXT),
        "source_id": arrow.array([source_id(source.topic) for source in sources], arrow.int32()),
        "source_partition": arrow.array([source.partition for source in sources], arrow.int32()),
        "source_offset": arrow.array([source.offset for source in sources], arrow.int64()),
        "key": arrow.array([one.key for one in refusals], arrow.binary()),
        "value": arrow.array([one.value for one in refusals], arrow.large_binary()),
        "refused_at": arrow.array([one.refused_at for one in refusals], _TIME),
    }
    return arrow.table(columns)


def with_source_id(usages: ArrowTable, source_id: Callable[[str], int]) -> ArrowTable:
    """The rows in one piece, with the source of their topic."""
    # In one piece DuckDB writes whole row groups at once; in several it writes a few rows of
    # each, and again, twice as large, at the next checkpoint.
    usages = usages.combine_chunks()
    topics = usages["source_topic"].combine_chunks().dictionary_encode()
    ids = [source_id(topic) for topic in topics.dictionary.to_pylist()]
    source_ids = arrow.array(ids, arrow.int32()).take(topics.indices)
    return usages.append_column("source_id", source_ids)


def _kind(name: str) -> Any:
    if name in _TIMES:
        return _TIME
    if name == "enable_environmental":
        return arrow.bool_()
    return _NUMBER if name in _NUMBERS else _TEXT
