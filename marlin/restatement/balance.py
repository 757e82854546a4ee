"""Old and new figures by account and estimate, summed exactly.

Kept like books: an adjustment takes `old` away from the estimate that held before and gives `new`
to the one that holds then. What an account holds by one estimate is what was recorded by it plus
what earlier adjustments gave to it, less what they took.

Sums are of decimals, so they do not depend on order, and going back to the recorded factors gives
the recorded sums again. Calls are summed with 18 places, which keeps a double's digits; books are
kept with 12, as reports add them up.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import duckdb

from marlin.errors import DataError
from marlin.restatement.ledger import ACCOUNT
from marlin.sinks.arrow import ArrowTable, arrow, arrow_compute
from marlin.sinks.measures import FOOTPRINT

__all__ = ["ESTIMATE", "SCHEMA", "Balance"]

ESTIMATE = ("codes", "method", "factors")
"""What an adjustment's figures were made with, before and after."""

_TEXT = arrow.string()
SCHEMA = arrow.schema(
    [
        ("restatement_id", _TEXT),
        ("hour", arrow.timestamp("us", tz="UTC")),
        *((name, _TEXT) for name in ACCOUNT[1:]),
        *((f"{when}_{name}", _TEXT) for when in ("old", "new") for name in ESTIMATE),
        ("calls", arrow.int64()),
        *((f"{w}_{name}", arrow.float64()) for w in ("old", "new") for name in FOOTPRINT),
    ]
)
"""Columns of the table `adjustments`."""

MEMORY_LIMIT = "1GiB"

_CALL, _BOOK = "DECIMAL(38, 18)", "DECIMAL(38, 12)"

_LEAST_CHANGE, _LEAST_SHARE = "1e-11", "1e-15"
"""A change of less than both together [Wh, g, mL; 1] is the rounding of the books."""

_NEW = tuple(f"new_{name}" for name in ESTIMATE)
_ACCOUNT = ", ".join(ACCOUNT)
_GROUP = ", ".join((*ACCOUNT, *ESTIMATE, "first", *_NEW))

_ADD = (
    f"INSERT INTO parts SELECT {_GROUP}, count(*) AS calls, "
    + ", ".join(
        [f"sum({name}::{_CALL}) AS {name}" for name in FOOTPRINT]
        + [f"sum(new_{name}::{_CALL}) AS new_{name}" for name in FOOTPRINT]
    )
    + " FROM batch GROUP BY ALL"
)
_MAKE_PARTS = _ADD.replace("INSERT INTO parts", "CREATE TABLE parts AS")

_GROUPS = (
    "CREATE TABLE groups AS SELECT "
    f"{_GROUP}, {', '.join(f'{name} AS held_{name}' for name in ESTIMATE)}, "
    "sum(calls)::BIGINT AS calls, "
    + ", ".join(f"sum({name}) AS {name}" for name in (*FOOTPRINT, *(f"new_{n}" for n in FOOTPRINT)))
    + " FROM parts GROUP BY ALL"
)


def _same(left: str, right: str) -> str:
    """That both are of one account."""
    return " AND ".join(f"{left}.{name} IS NOT DISTINCT FROM {right}.{name}" for name in ACCOUNT)


_FOLLOW = (
    f"UPDATE groups SET {', '.join(f'held_{name} = e.new_{name}' for name in ESTIMATE)} "
    f"FROM earlier AS e WHERE e.step = $step AND groups.first <= $step AND {_same('groups', 'e')} "
    + "".join(f" AND groups.held_{name} = e.old_{name}" for name in ESTIMATE)
)

_RECORDED = (
    f"SELECT {_ACCOUNT}, {', '.join(ESTIMATE)}, sum(calls)::BIGINT AS calls, "
    + ", ".join(f"sum({name})::DOUBLE AS {name}" for name in FOOTPRINT)
    + " FROM groups GROUP BY ALL"
)
_MOVED = "".join(
    f" UNION ALL SELECT {_ACCOUNT}, {', '.join(f'{when}_{name}' for name in ESTIMATE)}, "
    f"{sign}calls, {', '.join(f'{sign}{when}_{name}' for name in FOOTPRINT)} "
    "FROM earlier"
    for when, sign in (("new", ""), ("old", "-"))
)


def _settle(moved: str) -> str:
    # A single entry is given as it stands, to its last bit.
    held = ", ".join(
        f"CASE count(*) WHEN 1 THEN any_value({name}) ELSE sum({name}::{_BOOK})::DOUBLE END AS "
        f"{name}"
        for name in FOOTPRINT
    )
    renewed = ", ".join(f"sum(new_{name}) AS new_{name}" for name in FOOTPRINT)
    old_key = ", ".join(f"held_{name}" for name in ESTIMATE)
    figures = ", ".join(
        [f"h.{name} AS old_{name}" for name in FOOTPRINT]
        + [f"a.new_{name}::DOUBLE AS new_{name}" for name in FOOTPRINT]
    )
    changed = " OR ".join(
        f"abs(old_{name} - new_{name}) > {_LEAST_CHANGE} + {_LEAST_SHARE} * abs(new_{name})"
        for name in FOOTPRINT
    )
    return (
        f"WITH held AS (SELECT {_ACCOUNT}, {', '.join(ESTIMATE)}, sum(calls) AS calls, {held} "
        f"FROM ({_RECORDED}{moved}) GROUP BY ALL), "
        f"after AS (SELECT {_ACCOUNT}, {old_key}, {', '.join(_NEW)}, sum(calls) AS calls, "
        f"{renewed} FROM groups GROUP BY ALL) "
        "SELECT * FROM (SELECT $id AS restatement_id, "
        f"{', '.join(f'a.{name}' for name in ACCOUNT)}, "
        f"{', '.join(f'a.held_{name} AS old_{name}' for name in ESTIMATE)}, "
        f"{', '.join(f'a.{name}' for name in _NEW)}, a.calls::BIGINT AS calls, {figures}, "
        "h.calls = a.calls AS agrees "
        f"FROM after AS a JOIN held AS h ON {_same('a', 'h')} "
        + "".join(f" AND a.held_{name} = h.{name}" for name in ESTIMATE)
        + f") WHERE {changed} ORDER BY ALL"
    )


class Balance:
    """Takes in estimated calls, slice by slice; a workbench in memory, closed at the end."""

    def __init__(self, *, partial: bool) -> None:
        self._partial = partial
        self._bench = duckdb.connect(
            ":memory:",
            config={"python_enable_replacements": False, "memory_limit": MEMORY_LIMIT},
        )
        self._bench.execute("SET TimeZone = 'UTC'")
        self._empty = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bench.close()

    def add(self, batch: ArrowTable) -> None:
        """Calls with their recorded and `new_*` columns, and `first`."""
        self._run(_MAKE_PARTS if self._empty else _ADD, batch=batch)
        self._empty = False

    def settle(self, restatement_id: str, earlier: ArrowTable | None) -> ArrowTable:
        """The adjustments of what was added since the last time, given the earlier ones of it.

        Raises `DataError` where these speak of other calls than were added; with `partial` such
        accounts are left out.
        """
        if self._empty:
            return SCHEMA.empty_table()
        self._bench.execute(_GROUPS)
        try:
            if earlier is None or not earlier.num_rows:
                found = self._run(_settle(""), {"id": restatement_id})
            else:
                for step in sorted(set(earlier["step"].to_pylist())):
                    self._run(_FOLLOW, {"step": step}, earlier=earlier)
                found = self._run(_settle(_MOVED), {"id": restatement_id}, earlier=earlier)
        finally:
            self._bench.execute("DROP TABLE groups; DROP TABLE parts")
            self._empty = True
        return self._agreeing(found).drop_columns("agrees").cast(SCHEMA)

    def _agreeing(self, found: ArrowTable) -> ArrowTable:
        agreeing = found.filter(found["agrees"])
        if agreeing.num_rows < found.num_rows and not self._partial:
            row = found.filter(arrow_compute.invert(found["agrees"])).slice(0, 1).to_pylist()[0]
            raise DataError(
                f"earlier restatements changed other calls of run {row['run_id']} at "
                f"{row['hour']:%Y-%m-%dT%H:%MZ} than the ledger holds: some were removed from it. "
                "Nothing was computed; say that it may cover only what is there"
            )
        return agreeing

    def _run(
        self, statement: str, params: dict[str, Any] | None = None, **tables: ArrowTable
    ) -> ArrowTable:
        bench: Any = self._bench
        for name, table in tables.items():
            bench.register(name, table)
        try:
            return bench.execute(statement, params or {}).to_arrow_table()
        finally:
            for name in tables:
                bench.unregister(name)
