"""What a database holds, counted, and what of it the topics could give again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import duckdb

from marlin.errors import SinkError
from marlin.estimation.factorset import shipped_factor_set
from marlin.sinks.batch import TopicPartition
from marlin.sinks.identity import Identity

__all__ = ["Holdings", "Inventory", "Read", "irrecoverable", "take_inventory"]

_ROWS = ("events", "runs", "agents", "hourly", "commands", "dead_letters")
_BOOKKEEPING = frozenset({"schema_versions", "sources", "positions", "daily", "ledger_removals"})
"""`daily` adds up the same events as `hourly`; what was removed from the ledger comes again."""

_MADE_AGAIN = {"factor_sets": f"content IS NULL OR factors = '{shipped_factor_set().version}'"}
"""Rows of other tables that a new database gets too."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """Rows of each table and totals over all events."""

    events: int
    runs: int
    agents: int
    hourly: int
    commands: int
    dead_letters: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    energy_wh: float
    carbon_g: float
    water_ml: float

    def to_dict(self) -> dict[str, Any]:
        """Name to value."""
        return asdict(self)


class Read(NamedTuple):
    """How far a topic, as it existed then, was read into the database."""

    cluster_id: str
    topic: str
    topic_id: str | None
    partition: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """A database: what is in it and where that came from."""

    holdings: Holdings
    read: tuple[Read, ...]
    other_tables: tuple[str, ...]
    """Tables with rows that no topic has."""


_TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
_TOTALS = ", ".join(
    [
        *(f"coalesce(sum({name}), 0)::BIGINT" for name in (*_TOKENS, "reasoning_tokens")),
        # Kahan's: a plain sum's last digits depend on the order of the rows.
        *(f"coalesce(kahan_sum({name}), 0.0)" for name in ("energy_wh", "carbon_g", "water_ml")),
    ]
)


def take_inventory(connection: duckdb.DuckDBPyConnection) -> Inventory:
    """Count what the database holds. Raises `SinkError` when it is no database of Marlin's."""
    try:
        rows = [_one(connection, f"SELECT count(*) FROM {name}")[0] for name in _ROWS]
        totals = _one(connection, f"SELECT {_TOTALS} FROM events")
        read = connection.execute(
            "SELECT cluster_id, topic, topic_id, partition, next_offset FROM positions "
            "JOIN sources USING (source_id) WHERE kind = 'read' AND next_offset > 0 ORDER BY ALL"
        ).fetchall()
        others = [name for name in _other_tables(connection) if _has_rows(connection, name)]
    except duckdb.Error as exc:
        raise SinkError(f"it cannot be read as a database of Marlin's: {exc}") from exc
    return Inventory(Holdings(*rows, *totals), tuple(Read(*row) for row in read), tuple(others))


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    row = connection.execute(sql).fetchone()
    assert row is not None  # an aggregate always gives one
    return row


def _other_tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    found = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() "
        "AND NOT temporary ORDER BY ALL"
    ).fetchall()
    return [name for (name,) in found if name not in _BOOKKEEPING and name not in _ROWS]


def _has_rows(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    quoted = table.replace('"', '""')
    made_again = _MADE_AGAIN.get(table, "false")
    found = connection.execute(f'SELECT 1 FROM "{quoted}" WHERE NOT ({made_again}) LIMIT 1')
    return found.fetchone() is not None


def irrecoverable(
    inventory: Inventory,
    identity: Identity,
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> list[str]:
    """What the database holds and the topics do not, one sentence each; empty: nothing is lost.

    `begins` and `ends` are of the topics of `identity`, as they are now.
    """
    found = [f"table {name} has rows that no topic has" for name in inventory.other_tables]
    elsewhere: dict[tuple[str, str], int] = {}
    for read in inventory.read:
        topic = identity.topics.get(read.topic)
        here = TopicPartition(read.topic, read.partition)
        if (
            read.cluster_id != identity.cluster_id
            or topic is None
            or topic.topic_id != read.topic_id
        ):
            key = (read.topic, read.cluster_id)
            elsewhere[key] = elsewhere.get(key, 0) + read.next_offset
        elif ends.get(here, 0) < read.next_offset:
            found.append(
                f"{read.topic}-{read.partition} ends at offset {ends.get(here, 0)}, it was read "
                f"up to {read.next_offset}: it was recreated"
            )
        elif begins[here] > 0:
            gone = min(begins[here], read.next_offset)
            found.append(
                f"{read.topic}-{read.partition} begins at offset {begins[here]}: {gone} records "
                "that were read from it are gone (retention)"
            )
    for (topic_name, cluster_id), records in sorted(elsewhere.items()):
        where = (
            "was recreated since"
            if cluster_id == identity.cluster_id
            else f"was on another cluster ({cluster_id}, this one is {identity.cluster_id})"
        )
        found.append(f"{records} records were read from a {topic_name} that {where}")
    return found
