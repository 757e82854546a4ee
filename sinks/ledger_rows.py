"""The ledger's rows of one day as Arrow batches, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import duckdb

from marlin.errors import SinkError
from marlin.sinks.removal import Reached

__all__ = ["RowsOf", "Source", "read_rows", "read_sources"]

_BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class RowsOf:
    """Which rows: of a day (UTC), beyond what was had before."""

    day: date
    after: tuple[Reached, ...] = ()


class Source(NamedTuple):
    """A row of `sources`: a topic as it existed."""

    source_id: int
    cluster_id: str
    topic: str
    topic_id: str | None


def read_sources(connection: duckdb.DuckDBPyConnection) -> list[Source]:
    """All of them."""
    found = connection.execute("SELECT source_id, cluster_id, topic, topic_id FROM sources")
    return [Source(*row) for row in found.fetchall()]


def read_rows(connection: duckdb.DuckDBPyConnection, wanted: RowsOf) -> tuple[Any, Iterator[Any]]:
    """Arrow schema and batches of `events`, as they are at this moment, in no promised order.

    The connection is closed with the last batch. Raises `SinkError` when DuckDB fails, also on
    the way.
    """
    try:
        asked: Any = connection.execute(
            "SELECT * FROM events WHERE event_time >= ($day::TIMESTAMP AT TIME ZONE 'UTC') AND "
            "event_time < ($day::TIMESTAMP + INTERVAL 1 DAY) AT TIME ZONE 'UTC'" + _beyond(wanted),
            {"day": wanted.day},
        )
        reader = asked.to_arrow_reader(_BATCH_ROWS)
    except duckdb.Error as exc:
        connection.close()
        raise SinkError(f"events of {wanted.day} could not be read: {exc}") from exc
    return reader.schema, _batches(connection, reader, wanted.day)


def _batches(connection: duckdb.DuckDBPyConnection, reader: Any, day: date) -> Iterator[Any]:
    try:
        yield from reader
    # Arrow hands DuckDB's errors on as its own.
    except (duckdb.Error, OSError, ValueError) as exc:
        raise SinkError(f"events of {day} could not be read to the end: {exc}") from exc
    finally:
        connection.close()


def _beyond(wanted: RowsOf) -> str:
    if not wanted.after:
        return ""
    values = ", ".join(f"({int(s)}, {int(p)}, {int(o)})" for s, p, o in wanted.after)
    return (
        f" AND NOT EXISTS (SELECT 1 FROM (VALUES {values}) AS r(source_id, source_partition, last)"
        " WHERE r.source_id = events.source_id AND r.source_partition = events.source_partition"
        " AND events.source_offset <= r.last)"
    )
