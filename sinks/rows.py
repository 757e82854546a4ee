"""Query results as JSON, with nothing lost: what a type needs, and nothing for the rest.

Numbers that JSON readers round (above 64 bits, decimals), times, binary and non-finite numbers
travel as text; maps as lists of pairs. The column's DuckDB type says how to read them.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeAlias

from duckdb.sqltypes import DuckDBPyType

__all__ = ["encoders", "through"]

_Convert: TypeAlias = Callable[[Any], Any]

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


def encoders(kinds: Sequence[DuckDBPyType]) -> list[_Convert | None]:
    """How the values of each column become JSON; None: they are JSON already."""
    return [_encoder(kind) for kind in kinds]


def through(converts: Sequence[_Convert | None], rows: Iterable[Sequence[Any]]) -> list[Any]:
    """Convert the columns of rows, NULL staying None. Rows come back as given if nothing is."""
    needed = [(index, convert) for index, convert in enumerate(converts) if convert]
    if not needed:
        return list(rows)
    converted: list[list[Any]] = []
    for row in rows:
        values = list(row)
        for index, convert in needed:
            if values[index] is not None:
                values[index] = convert(values[index])
        converted.append(values)
    return converted


def _encoder(kind: DuckDBPyType) -> _Convert | None:
    name = kind.id
    if name in _ENCODERS:
        return _ENCODERS[name]
    if name in {"list", "array"}:
        inner = _encoder(_child(kind))
        return _each(inner) if inner else None
    if name == "struct":
        fields = [(field, _encoder(of)) for field, of in _fields(kind)]
        return _fields_of(fields) if any(convert for _, convert in fields) else None
    if name == "map":
        pair = [_encoder(of) for _, of in _fields(kind)]
        return lambda value: through(pair, _pairs(value))
    return None if name in _PLAIN else str


def _fields(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    return [(name, of) for name, of in kind.children if isinstance(of, DuckDBPyType)]


def _child(kind: DuckDBPyType) -> DuckDBPyType:
    return _fields(kind)[0][1]


def _each(convert: _Convert) -> _Convert:
    return lambda values: [None if value is None else convert(value) for value in values]


def _fields_of(fields: list[tuple[str, _Convert | None]]) -> _Convert:
    converts = dict(fields)

    def convert_fields(value: dict[str, Any]) -> dict[str, Any]:
        converted: dict[str, Any] = {}
        for name, item in value.items():
            convert = converts.get(name)
            converted[name] = convert(item) if convert and item is not None else item
        return converted

    return convert_fields


def _pairs(value: dict[Any, Any]) -> list[tuple[Any, Any]]:
    return list(value.items())


def _from_float(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _from_big(value: int) -> int | str:
    return value if _INT64_MIN <= value <= _INT64_MAX else str(value)


def _from_time(value: datetime | date | time) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat()


def _from_interval(value: timedelta) -> int:
    return value // timedelta(microseconds=1)


def _from_bytes(value: bytes) -> str:
    return b64encode(value).decode()


_TIMESTAMPS = (
    "timestamp",
    "timestamp_s",
    "timestamp_ms",
    "timestamp_ns",
    "timestamp with time zone",
)

_ENCODERS: dict[str, _Convert] = {
    **dict.fromkeys((*_TIMESTAMPS, "date", "time", "time with time zone"), _from_time),
    **dict.fromkeys(("double", "float"), _from_float),
    **dict.fromkeys(("hugeint", "uhugeint", "ubigint", "bignum"), _from_big),
    **dict.fromkeys(("decimal", "uuid", "bit"), str),
    "blob": _from_bytes,
    "interval": _from_interval,
}
_PLAIN = frozenset(
    {
        *("boolean", "tinyint", "smallint", "integer", "bigint"),
        *("utinyint", "usmallint", "uinteger", "varchar", "enum", '"null"', "null"),
    }
)
