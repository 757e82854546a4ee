"""Rows of Python values from Arrow: those that DuckDB's own `fetchall` gives.

Arrow carries most of DuckDB's types as they are. Of the others some are told by the column's
DuckDB type and converted here, and some would come out wrong: those are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import duckdb
from duckdb.sqltypes import DuckDBPyType

from marlin.errors import QueryError
from marlin.sinks.arrow import ArrowTable, arrow
from marlin.sinks.untyped import is_dict, is_list

__all__ = ["check_carried", "parse_type", "rows_of"]

_Convert: TypeAlias = Callable[[Any], Any]

_NOT_CARRIED = frozenset({"time with time zone", "uhugeint", "bignum"})
"""Arrow drops the zone of the first, half of the range of the second, and reads no third."""

_DAYS_OF_MONTH = 30
"""What DuckDB's Python client takes a month of an interval for [d]."""


def check_carried(columns: Sequence[tuple[str, DuckDBPyType]]) -> None:
    """Raise `QueryError` for a column whose values Arrow would change."""
    for name, kind in columns:
        if _holds_uncarried(kind):
            raise QueryError(
                f'column "{name}" is {kind}, which does not pass through Arrow unchanged; '
                f'cast it: "{name}"::VARCHAR'
            )


def parse_type(text: str) -> DuckDBPyType | None:
    """The type that DuckDB writes as `text`; None for one that this DuckDB does not know."""
    try:
        return duckdb.sqltype(text)
    except duckdb.Error:
        return None


def rows_of(table: ArrowTable, kinds: Sequence[DuckDBPyType | None]) -> list[tuple[Any, ...]]:
    """The rows of a table or a batch, whose columns have these DuckDB types.

    Raises `QueryError` for a value that Python cannot hold, such as a year beyond 9999.
    """
    try:
        columns = [_values(column, kind) for column, kind in zip(table.columns, kinds, strict=True)]
    except (ValueError, OverflowError) as exc:
        raise QueryError(f"{exc}; such a value can be read as Arrow, or cast to text") from exc
    return list(zip(*columns, strict=True))


def _values(column: Any, kind: DuckDBPyType | None) -> list[Any]:
    unit = getattr(column.type, "unit", None)
    if unit == "ns" and arrow.types.is_timestamp(column.type):
        # Python's times end at the microsecond.
        column = column.cast(arrow.timestamp("us", tz=column.type.tz), safe=False)
    values: list[Any] = column.to_pylist()
    convert = None if kind is None else _converter(kind)
    if convert is None:
        return values
    return [None if value is None else convert(value) for value in values]


def _holds_uncarried(kind: DuckDBPyType) -> bool:
    if kind.id in _NOT_CARRIED:
        return True
    return kind.id in _NESTED and any(_holds_uncarried(of) for _, of in _fields(kind))


def _converter(kind: DuckDBPyType) -> _Convert | None:
    """How a value of the type is read; None: it is as Arrow gives it."""
    name = kind.id
    if name in _CONVERTERS:
        return _CONVERTERS[name]
    if name not in _NESTED:
        return None
    fields = [(field, _converter(of)) for field, of in _fields(kind)]
    if name == "map":
        (_, key), (_, item) = fields
        return lambda pairs: {
            _hashable(_read(key, one)): _read(item, other) for one, other in pairs
        }
    if name == "array":  # of fixed length: Python gets a tuple
        return lambda values: tuple(_read(fields[0][1], value) for value in values)
    if all(convert is None for _, convert in fields):
        return None
    if name == "list":
        return lambda values: [_read(fields[0][1], value) for value in values]
    return lambda value: {field: _read(convert, value[field]) for field, convert in fields}


def _read(convert: _Convert | None, value: Any) -> Any:
    return value if convert is None or value is None else convert(value)


def _fields(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    return [(name, of) for name, of in kind.children if isinstance(of, DuckDBPyType)]


def _hashable(key: Any) -> Any:
    return repr(key) if is_dict(key) or is_list(key) else key


def _in_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)


def _interval(value: Any) -> timedelta:
    days = value.months * _DAYS_OF_MONTH + value.days
    return timedelta(days=days, microseconds=value.nanoseconds // 1000)


def _bits(value: bytes) -> str:
    """A first byte with the count of padding bits, then the padded bits."""
    return "".join(f"{byte:08b}" for byte in value[1:])[value[0] :]


_NESTED = frozenset({"list", "array", "struct", "map"})

_CONVERTERS: dict[str, _Convert] = {
    "hugeint": int,
    "uuid": UUID,
    "interval": _interval,
    "bit": _bits,
    "timestamp with time zone": _in_utc,
}
