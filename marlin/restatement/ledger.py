"""Reading what a restatement covers: calls, how far they go, and what restated them before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, Self

import orjson

from marlin.errors import DataError
from marlin.sinks.arrow import ArrowTable, arrow
from marlin.sinks.measures import FOOTPRINT, TOKENS

__all__ = ["ACCOUNT", "Earlier", "Ledger", "Reader", "Scope", "Slice"]

ACCOUNT = (
    *("hour", "run_id", "agent_id", "tenant", "project"),
    *("provider", "model", "region", "usage_quality"),
)
"""Whose an adjustment is, whatever it was estimated with."""

SLICE_ROWS = 262_144
"""Calls that are aimed to be read at once [count]: about 80 MB of columns."""

_BATCH_ROWS = 65_536
_HOUR = timedelta(hours=1)

_POSITIONS = """
SELECT source_id, partition, next_offset FROM positions WHERE kind = 'applied' ORDER BY ALL
"""

_WITHIN = """
event_time >= $start::TIMESTAMPTZ AND event_time < $end::TIMESTAMPTZ
    AND ($tenant::VARCHAR IS NULL OR tenant = $tenant::VARCHAR)
"""

_CALLS_BY_HOUR = f"""
SELECT date_trunc('hour', event_time) AS hour, count(*) AS calls
FROM events WHERE {_WITHIN} GROUP BY ALL ORDER BY hour
"""

_COMPLETE = f"""
SELECT (SELECT count(*) FROM events WHERE {_WITHIN}),
    (SELECT coalesce(sum(calls), 0)::BIGINT FROM hourly
     WHERE {_WITHIN.replace("event_time", "hour")})
"""

_EVENTS = f"""
SELECT date_trunc('hour', event_time) AS hour, {", ".join(ACCOUNT[1:])},
    array_to_string(quality, ',') AS codes, method, factors,
    {", ".join(TOKENS[:4])}, {", ".join(FOOTPRINT)}, source_id, source_partition, source_offset
FROM events JOIN (
    SELECT unnest($sources::INTEGER[]) AS source_id, unnest($partitions::INTEGER[]) AS
        source_partition, unnest($offsets::BIGINT[]) AS next_offset
) USING (source_id, source_partition)
WHERE {_WITHIN} AND source_offset < next_offset AND hash(run_id) % $parts::UBIGINT = $part::UBIGINT
"""

_EARLIER = """
SELECT restatement_id, period_start, period_end, tenant, positions::VARCHAR
FROM restatements
WHERE period_start < $end::TIMESTAMPTZ AND period_end > $start::TIMESTAMPTZ
    AND ($tenant::VARCHAR IS NULL OR tenant IS NULL OR tenant = $tenant::VARCHAR)
    AND ($as_of::TIMESTAMPTZ IS NULL OR restated_at <= $as_of::TIMESTAMPTZ)
ORDER BY restated_at, restatement_id
"""

_ADJUSTED = f"""
SELECT * FROM adjustments
WHERE list_contains($ids::VARCHAR[], restatement_id)
    AND {_WITHIN.replace("event_time", "hour")}
    AND hash(run_id) % $parts::UBIGINT = $part::UBIGINT
"""


class Reader(Protocol):
    """What is needed of a DuckDB connection, of this process's or a far one."""

    def execute(self, query: Any, parameters: Any = ..., /) -> Any:
        """Run a query; what it returns has `fetchall` and `to_arrow_reader`."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """Which calls: begin inclusive, end exclusive, by the time of the call."""

    start: datetime
    end: datetime
    tenant: str | None

    @property
    def params(self) -> dict[str, Any]:
        """As the queries name them."""
        return {
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "tenant": self.tenant,
        }


@dataclass(frozen=True, slots=True)
class Slice:
    """Full hours, and of them the runs that fall into one of `parts`."""

    scope: Scope
    part: int = 0
    parts: int = 1

    @property
    def params(self) -> dict[str, Any]:
        """As the queries name them."""
        return {**self.scope.params, "part": self.part, "parts": self.parts}


@dataclass(frozen=True, slots=True)
class Earlier:
    """A restatement that was written before."""

    restatement_id: str
    scope: Scope
    positions: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> Self:
        """From a row of `_EARLIER`."""
        restatement_id, start, end, tenant, positions = row
        return cls(restatement_id, Scope(start, end, tenant), orjson.loads(positions or "{}"))


class Ledger:
    """The calls of a scope, as far as they were stored when this was made.

    The ledger only grows, each partition in order, so a position per partition is a snapshot that
    any number of queries see alike, in this process or through another one's server.
    """

    def __init__(self, connection: Reader, scope: Scope, *, as_of: datetime | None) -> None:
        self._connection = connection
        self._scope = scope
        self._rows = connection.execute(_POSITIONS).fetchall()
        self.positions: dict[str, dict[str, int]] = {}
        """Source, partition, next offset."""
        for source, partition, offset in self._rows:
            self.positions.setdefault(str(source), {})[str(partition)] = int(offset)
        until = {"as_of": as_of.isoformat() if as_of else None}
        found = connection.execute(_EARLIER, scope.params | until).fetchall()
        self.earlier = [Earlier.of(row) for row in found]
        """Restatements of any of these hours, oldest first."""
        by_hour = connection.execute(_CALLS_BY_HOUR, scope.params).fetchall()
        self.calls = sum(calls for _, calls in by_hour)
        """Calls of the scope [count]; a few of them may have come after the positions."""
        self.slices = _slices(scope, [(_utc(hour), calls) for hour, calls in by_hour])

    def check_complete(self) -> None:
        """Raises `DataError` when calls that the aggregates count are no longer in the ledger."""
        held, counted = self._connection.execute(_COMPLETE, self._scope.params).fetchall()[0]
        if held < counted:
            raise DataError(
                f"the ledger holds {held:,} of the period's {counted:,} calls, the others were "
                "removed from it: a restatement would mix old and new factors. Nothing was "
                "computed; choose a later period, or say that it may cover only what is there"
            )

    def read(self, part: Slice) -> Iterator[ArrowTable]:
        """Its calls, in pieces; `first` is the number in `earlier` of what first restated each."""
        names = ("sources", "partitions", "offsets")
        asked = {name: [row[place] for row in self._rows] for place, name in enumerate(names)}
        reader = self._connection.execute(_EVENTS, part.params | asked).to_arrow_reader(_BATCH_ROWS)
        for batch in reader:
            table = arrow.Table.from_batches([batch])
            if table.num_rows:
                yield table.append_column("first", self._first(table))

    def adjusted(self, part: Slice) -> ArrowTable | None:
        """Its adjustments so far, numbered by `step` as in `earlier`; None: it has none."""
        if not self.earlier:
            return None
        steps = {one.restatement_id: step for step, one in enumerate(self.earlier)}
        asked = part.params | {"ids": list(steps)}
        table = self._connection.execute(_ADJUSTED, asked).to_arrow_reader(_BATCH_ROWS).read_all()
        numbers = [steps[one] for one in table["restatement_id"].to_pylist()]
        return table.append_column("step", arrow.array(numbers, arrow.int64()))

    def _first(self, table: ArrowTable) -> Any:
        """Restatements go further and further, so the first tells all that covered the call."""
        import numpy as np

        first = np.full(table.num_rows, len(self.earlier), np.int64)
        if not self.earlier:
            return arrow.array(first)
        hours = table["hour"].cast(arrow.timestamp("us", "UTC")).cast(arrow.int64()).to_numpy()
        offsets = table["source_offset"].to_numpy()
        logs = table["source_id"].to_numpy().astype(np.int64) << 32
        logs |= table["source_partition"].to_numpy()
        known, which = np.unique(logs, return_inverse=True)
        tenants = np.array(table["tenant"].to_pylist(), dtype=object)
        for step, one in reversed(list(enumerate(self.earlier))):
            ends = [
                one.positions.get(str(log >> 32), {}).get(str(log & 0xFFFFFFFF), 0)
                for log in known.tolist()
            ]
            covered = offsets < np.array(ends, np.int64)[which]
            covered &= (hours >= _us(one.scope.start)) & (hours < _us(one.scope.end))
            if one.scope.tenant is not None:
                covered &= tenants == one.scope.tenant
            first[covered] = step
        return arrow.array(first)


def _slices(scope: Scope, by_hour: list[tuple[datetime, int]]) -> list[Slice]:
    """The scope in pieces of about `SLICE_ROWS`; an hour with more is cut by its runs."""
    slices: list[Slice] = []
    begin: datetime | None = None
    end, rows = scope.start, 0
    for hour, calls in by_hour:
        if begin is not None and rows + calls > SLICE_ROWS:
            slices += _cut(Scope(begin, end, scope.tenant), rows)
            begin, rows = None, 0
        begin = hour if begin is None else begin
        end, rows = hour + _HOUR, rows + calls
    if begin is not None:
        slices += _cut(Scope(begin, end, scope.tenant), rows)
    return slices


def _cut(scope: Scope, rows: int) -> list[Slice]:
    parts = -(-rows // SLICE_ROWS)
    return [Slice(scope, part, parts) for part in range(parts)]


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


def _us(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000
