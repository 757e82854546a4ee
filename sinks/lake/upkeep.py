"""Keeping a lake quick: parts of batches are merged, small files too, old snapshots leave."""

from __future__ import annotations

from typing import Any, Final

import duckdb

from marlin.sinks.lake import parts
from marlin.sinks.lake.opening import LAKE

__all__ = ["merge_parts", "tidy_files"]

_ENOUGH_PARTS = 1000
"""Fewer parts than these are not worth a merge: each makes the sinks beside it try again."""

_FILES_AT_ONCE = 64
"""Files that are merged in one go: the sink stores nothing meanwhile."""

_MERGES: Final = {
    "agents": (parts.MERGE_AGENTS, "NOT is_merged"),
    "hourly": (parts.MERGE_HOURLY, "NOT is_merged"),
    "positions": (parts.MERGE_POSITIONS, "true"),
}


def merge_parts(connection: duckdb.DuckDBPyConnection, *, enough: int = _ENOUGH_PARTS) -> int:
    """Merge the parts that batches have added; returns how many. Inside of a transaction.

    No view gives another value afterwards, to the last digit: parts are exact decimals. What was
    merged once is not merged again, so the work is that of the new parts, except for positions,
    which stay few.
    """
    merged = 0
    for name, (select, condition) in _MERGES.items():
        row = connection.execute(
            f"SELECT count(*) FROM parts.{name} WHERE NOT is_merged"
        ).fetchone()
        count = int(row[0]) if row else 0
        if count < enough:
            continue
        found: Any = connection.execute(select)
        connection.register("merged_parts", found.to_arrow_table())
        try:
            connection.execute(f"DELETE FROM parts.{name} WHERE {condition}")
            connection.execute(f"INSERT INTO parts.{name} BY NAME FROM merged_parts")
        finally:
            connection.unregister("merged_parts")
        merged += count
    return merged


def tidy_files(connection: duckdb.DuckDBPyConnection) -> None:
    """Turn rows inside of the catalogue into files, merge small files, forget the past.

    Snapshots older than a day leave, and a day later the files that only they had. Outside of a
    transaction. Raises `duckdb.Error`, with nothing broken, when another process is at it, too.
    """
    for call in (
        f"ducklake_flush_inlined_data('{LAKE}')",
        f"ducklake_merge_adjacent_files('{LAKE}', max_compacted_files => {_FILES_AT_ONCE})",
        f"ducklake_expire_snapshots('{LAKE}', older_than => now() - INTERVAL 1 DAY)",
        f"ducklake_cleanup_old_files('{LAKE}', older_than => now() - INTERVAL 1 DAY)",
    ):
        connection.execute(f"CALL {call}").fetchall()
