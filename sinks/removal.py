"""Removing old rows from the ledger, a piece at a time; aggregates and positions stay.

That an event counts once is decided by positions, never by rows: what was removed and comes again
is still a duplicate. Each piece is a transaction of its own that also counts, in
`ledger_removals`, what it removed, so that a process may be killed between any two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import duckdb

from marlin import __version__
from marlin.errors import SinkError

__all__ = ["PIECE_ROWS", "DayCount", "Order", "Reached", "Table", "count", "remove_piece"]

Table: TypeAlias = Literal["events", "dead_letters"]
"""What may be removed from."""

PIECE_ROWS: Final = 122_880
"""Most rows that one transaction removes: DuckDB's row group, as in the sink's batches."""

_TIMES: Final[dict[Table, str]] = {"events": "event_time", "dead_letters": "refused_at"}
_CARBON: Final[dict[Table, str]] = {"events": "carbon_g", "dead_letters": "NULL::DOUBLE"}

_COUNT_PIECE: Final = """
MERGE INTO ledger_removals AS t
USING (SELECT day, count(*) AS row_count, sum(carbon_g) AS carbon_g FROM doomed GROUP BY day) AS b
ON t.removal_id = $removal_id AND t.removed_from = $removed_from AND t.day = b.day
WHEN MATCHED THEN UPDATE SET row_count = t.row_count + b.row_count,
    carbon_g = t.carbon_g + b.carbon_g, removed_at = now()
WHEN NOT MATCHED THEN INSERT VALUES ($removal_id, $removed_from, b.day, b.row_count, b.carbon_g,
    $reason, $exported_to, $marlin_version, now())
"""


class DayCount(NamedTuple):
    """Rows of a day (UTC)."""

    day: date
    row_count: int


class Reached(NamedTuple):
    """Rows of a source's partition up to this offset, inclusive. See the table `sources`."""

    source_id: int
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Order:
    """What to remove, and why."""

    removal_id: str
    """The same for all pieces: their counts add up in one row per table and day."""
    table: Table
    begin: date | None
    """First day (UTC); None: from the oldest row on."""
    end: date
    """The day (UTC) after the last one."""
    reason: Literal["retention", "trim"]
    exported_to: str | None = None
    reached: tuple[Reached, ...] | None = None
    """Only these rows, of those days: what came later stays. None: all."""


def count(connection: duckdb.DuckDBPyConnection, order: Order) -> list[DayCount]:
    """What `order` would remove now, by day. Nothing is removed."""
    rows = connection.execute(
        f"SELECT {_day(order.table)} AS day, count(*) FROM {order.table} "
        f"WHERE {_condition(order)} GROUP BY day ORDER BY day",
        _period(order),
    ).fetchall()
    return [DayCount(*row) for row in rows]


def remove_piece(
    connection: duckdb.DuckDBPyConnection, order: Order, *, rows: int = PIECE_ROWS
) -> list[DayCount]:
    """Remove at most `rows` rows in one transaction; returns them by day, empty: none are left.

    Raises `SinkError`, with nothing of the piece removed, when DuckDB refuses it.
    """
    try:
        connection.begin()
        try:
            removed = _remove(connection, order, rows)
        except BaseException:
            connection.rollback()
            raise
        connection.commit()
    except duckdb.Error as exc:
        raise SinkError(
            f"removing from {order.table} failed: {exc}; nothing of this piece was removed, what "
            "was removed before stays removed. Try again"
        ) from exc
    return removed


def _remove(connection: duckdb.DuckDBPyConnection, order: Order, rows: int) -> list[DayCount]:
    asked: Any = connection.execute(
        f"SELECT rowid AS id, {_day(order.table)} AS day, {_CARBON[order.table]} AS carbon_g "
        f"FROM {order.table} WHERE {_condition(order)} LIMIT {rows}",
        _period(order),
    )
    doomed = asked.to_arrow_table()
    if not doomed.num_rows:
        return []
    connection.register("doomed", doomed)
    try:
        # Row ids hold within a transaction, not beyond: a checkpoint may number rows anew.
        connection.execute(f"DELETE FROM {order.table} WHERE rowid IN (SELECT id FROM doomed)")
        connection.execute(
            _COUNT_PIECE,
            {
                "removal_id": order.removal_id,
                "removed_from": order.table,
                "reason": order.reason,
                "exported_to": order.exported_to,
                "marlin_version": __version__,
            },
        )
        counted = connection.execute(
            "SELECT day, count(*) FROM doomed GROUP BY day ORDER BY day"
        ).fetchall()
    finally:
        connection.unregister("doomed")
    return [DayCount(*row) for row in counted]


def _day(table: Table) -> str:
    return f"({_TIMES[table]} AT TIME ZONE 'UTC')::DATE"


def _condition(order: Order) -> str:
    # Compared with times, not days: DuckDB then skips the row groups of other days.
    time = _TIMES[order.table]
    begin = f"{time} >= ($begin::TIMESTAMP AT TIME ZONE 'UTC') AND " if order.begin else ""
    end = f"{time} < ($end::TIMESTAMP AT TIME ZONE 'UTC')"
    return f"{begin}{end}{_up_to(order.reached)}"


def _period(order: Order) -> dict[str, date]:
    return {"end": order.end} | ({"begin": order.begin} if order.begin else {})


def _up_to(reached: Sequence[Reached] | None) -> str:
    if reached is None:
        return ""
    if not reached:
        return " AND false"
    values = ", ".join(f"({int(s)}, {int(p)}, {int(o)})" for s, p, o in reached)
    return (
        f" AND EXISTS (SELECT 1 FROM (VALUES {values}) AS r(source_id, source_partition, last) "
        "WHERE r.source_id = events.source_id AND r.source_partition = events.source_partition "
        "AND events.source_offset <= r.last)"
    )
