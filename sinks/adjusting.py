"""Writing a restatement: its header, its adjustments and its factor set, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import orjson

from marlin import __version__
from marlin.errors import SinkError
from marlin.restatement.core import Restatement
from marlin.sinks.arrow import arrow_compute
from marlin.sinks.measures import FOOTPRINT

__all__ = ["write_restatement"]

_BUILT_UPON = """
SELECT restatement_id FROM restatements
WHERE period_start < $end AND period_end > $start AND ($tenant IS NULL OR tenant IS NULL
    OR tenant = $tenant) AND NOT list_contains($after::VARCHAR[], restatement_id)
"""

_FILL_CONTENT = """
UPDATE factor_sets SET content = $content, marlin_version = $version
WHERE factors = $factors AND content IS NULL
"""

_ADD_FACTORS = """
INSERT INTO factor_sets SELECT $factors, $method, $content, $version, now()
WHERE NOT EXISTS (FROM factor_sets WHERE factors = $factors AND method = $method)
"""


def write_restatement(connection: duckdb.DuckDBPyConnection, restatement: Restatement) -> int:
    """Write it within the caller's transaction; gives the adjustments written [count].

    0 and nothing done when the id is there already. Raises `SinkError`, with nothing written, when
    others of the same hours were written since it was computed, or a figure is not finite.
    """
    known = "SELECT count(*) FROM restatements WHERE restatement_id = ?"
    if _one(connection, known, [restatement.restatement_id]):
        return 0
    _check(connection, restatement)
    connection.register("new_adjustments", restatement.adjustments)
    try:
        connection.execute("INSERT INTO adjustments BY NAME SELECT * FROM new_adjustments")
    finally:
        connection.unregister("new_adjustments")
    _record_factors(connection, restatement)
    # Last, and later than all before: a report as of a time never changes by one written later.
    newest = _one(connection, "SELECT max(restated_at) FROM restatements", [])
    restated_at = datetime.now(UTC)
    if newest is not None:
        restated_at = max(restated_at, newest + timedelta(microseconds=1))
    connection.execute(
        "INSERT INTO restatements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            *(restatement.restatement_id, restatement.kind, restatement.reason),
            *(restatement.method, restatement.factors),
            *(restatement.period_start, restatement.period_end, restatement.tenant),
            *(restatement.calls, orjson.dumps(restatement.positions).decode()),
            *(__version__, restated_at),
        ],
    )
    return int(restatement.adjustments.num_rows)


def _check(connection: duckdb.DuckDBPyConnection, restatement: Restatement) -> None:
    others = connection.execute(
        _BUILT_UPON,
        {
            "start": restatement.period_start,
            "end": restatement.period_end,
            "tenant": restatement.tenant,
            "after": list(restatement.after),
        },
    ).fetchall()
    if others:
        raise SinkError(
            f"restatement {others[0][0]} of the same hours was written after this one was "
            "computed; nothing was written, compute it again"
        )
    for name in (f"{when}_{figure}" for when in ("old", "new") for figure in FOOTPRINT):
        finite = arrow_compute.is_finite(restatement.adjustments[name])
        if not arrow_compute.all(finite, min_count=0).as_py():
            raise SinkError(
                f"column {name} of the adjustments is not finite everywhere; nothing was written"
            )


def _record_factors(connection: duckdb.DuckDBPyConnection, restatement: Restatement) -> None:
    content = restatement.content
    given = {
        "factors": restatement.factors,
        "content": None if content is None else orjson.dumps(dict(content)).decode(),
        "version": __version__,
    }
    if content is not None:
        connection.execute(_FILL_CONTENT, given)
    connection.execute(_ADD_FACTORS, given | {"method": restatement.method})


def _one(connection: duckdb.DuckDBPyConnection, sql: str, params: list[Any]) -> Any:
    row = connection.execute(sql, params).fetchone()
    return row[0] if row else None
