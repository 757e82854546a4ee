"""What a batch is compared with in the storage before it is taken in."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from marlin.errors import SinkError
from marlin.schemas import Command
from marlin.sinks import merge
from marlin.sinks.arrow import ArrowTable

__all__ = ["check_same_events", "unstored_commands"]


def unstored_commands(
    connection: duckdb.DuckDBPyConnection, commands: Sequence[Command], *, table: str
) -> list[Command]:
    """The first copy of each command that `table` does not have yet."""
    first = {command.command_id: command for command in reversed(commands)}
    if not first:
        return []
    known = connection.execute(
        f"SELECT DISTINCT command_id FROM {table} "
        "WHERE action IS NOT NULL AND list_contains($ids, command_id)",
        {"ids": list(first)},
    ).fetchall()
    for (command_id,) in known:
        del first[command_id]
    return list(first.values())


def check_same_events(connection: duckdb.DuckDBPyConnection, repeated: ArrowTable) -> None:
    """Stop when what looks like a replay is another event: the topic was recreated.

    `repeated` has the `source_id` of each row. Raises `SinkError`. The ids of cluster and topic
    tell of a recreated topic first; this catches derived records of the new one that come before
    the sink has asked for the ids.
    """
    connection.register("batch_usages", repeated)
    try:
        other = connection.execute(merge.FIND_OTHER_EVENT).fetchone()
    finally:
        connection.unregister("batch_usages")
    if other:
        raise SinkError(
            f"event {other[0]} comes from {other[1]}-{other[2]}-{other[3]}, where event "
            f"{other[4]} was taken in before: the topic was recreated while its derived "
            "records remained; nothing of the batch was stored. Recreate the carbon topic too"
        )
