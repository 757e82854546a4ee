"""The table `factor_sets`: every set that estimates name, and what this Marlin's own is made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import duckdb
import orjson

from marlin import __version__
from marlin.estimation.factorset import shipped_factor_set, shipped_texts
from marlin.sinks.arrow import ArrowTable, arrow_compute

__all__ = ["FactorSets", "SetUse"]


class SetUse(NamedTuple):
    """A factor set with the method it was used with."""

    factors: str
    method: str


class FactorSets:
    """What the table lists. Not thread-safe; `open` and `record` belong into a transaction."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._known: set[SetUse] = set()

    def open(self) -> None:
        """Read the table; complete it with what estimates of an earlier Marlin name.

        Sets that were listed without content get it, when they are what this Marlin ships.
        """
        self._connection.execute(
            "UPDATE factor_sets SET content = ?, marlin_version = ? "
            "WHERE factors = ? AND content IS NULL",
            [_shipped_content(), __version__, shipped_factor_set().version],
        )
        self.learn(self._read("factor_sets"))
        missing = self._read("daily") - self._known
        self.record(missing)
        self.learn(missing)

    def unlisted(self, usages: ArrowTable) -> set[SetUse]:
        """Sets that these rows name and the table does not have yet."""
        return _used(usages) - self._known

    def record(self, uses: Iterable[SetUse]) -> None:
        """Add them; `learn` them once the transaction is committed."""
        shipped = shipped_factor_set().version
        for use in sorted(uses):
            self._connection.execute(
                "INSERT INTO factor_sets VALUES (?, ?, ?, ?, now())",
                [
                    *(use.factors, use.method),
                    _shipped_content() if use.factors == shipped else None,
                    __version__,
                ],
            )

    def learn(self, uses: Iterable[SetUse]) -> None:
        """Hold what is in the table."""
        self._known.update(uses)

    def _read(self, table: str) -> set[SetUse]:
        found = self._connection.execute(f"SELECT DISTINCT factors, method FROM {table}")
        return {SetUse(*row) for row in found.fetchall()}


def _used(usages: ArrowTable) -> set[SetUse]:
    if not usages.num_rows:
        return set()
    columns = [usages["factors"], usages["method"]]
    first = [column[0] for column in columns]
    # As a rule a batch names one set: to compare costs a fifth of looking for distinct values.
    if all(
        arrow_compute.all(arrow_compute.equal(column, value)).as_py()
        for column, value in zip(columns, first, strict=True)
    ):
        return {SetUse(*(value.as_py() for value in first))}
    pairs = usages.group_by(["factors", "method"], use_threads=False).aggregate([])
    return {SetUse(row["factors"], row["method"]) for row in pairs.to_pylist()}


def _shipped_content() -> str:
    return orjson.dumps(shipped_texts()).decode()
