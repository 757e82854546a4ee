"""Values of every type, through Arrow: what DuckDB's own client gives."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from marlin.errors import QueryError
from marlin.sinks.arrow import ArrowTable
from marlin.sinks.values import check_carried, parse_type, rows_of

VALUES = [
    *("true", "1::TINYINT", "1::UTINYINT", "-5", "9223372036854775807", "18446744073709551615"),
    "170141183460469231731687303715884105727::HUGEINT",
    *("0.1::DOUBLE", "'inf'::DOUBLE", "'-inf'::FLOAT", "1e308::DOUBLE", "1.1::FLOAT"),
    *("123456789012345678.123456789::DECIMAL(38, 9)", "0.10::DECIMAL(4, 2)"),
    *("'text'", "''", "'\\x00 \"\\\\ \\n é 🐟'", "'x'::BLOB", "'\\xff\\x00'::BLOB"),
    *("DATE '2026-05-01'", "TIME '10:20:30.5'", "TIMESTAMP '2026-05-01 10:20:30.123456'"),
    *("TIMESTAMPTZ '2026-05-01 10:20:30+02'", "TIMESTAMP_S '2026-05-01 10:20:30'"),
    *("TIMESTAMP_NS '2026-05-01 10:20:30.123456789'", "TIMESTAMP_MS '2026-05-01 10:20:30.5'"),
    *("INTERVAL '2 months 3 days 4 seconds'", "'00000000-0000-0000-0000-00000000002a'::UUID"),
    *("'a'::ENUM('a', 'b')", "'{\"a\": 1}'::JSON", "NULL", "'101'::BIT", "'0'::BIT"),
    *("[1, NULL, 3]", "[]", "[DATE '2026-05-01', NULL]", "[[1.5::DECIMAL(4, 2)], []]"),
    "[170141183460469231731687303715884105727::HUGEINT, NULL]",
    *("{'a': 1, 'b': 'x'}", "{'at': TIMESTAMPTZ '2026-05-01 00:00:00Z', 'we ird': [1.10]}"),
    *("MAP {'a': 1}", "MAP {1: DATE '2026-05-01'}", "MAP {}", "[1, 2, 3]::INTEGER[3]"),
    "MAP {'a': {'b': [TIME '10:00:00']}}",
    "union_value(n := 3)",
]


def arrow_table(connection: Any) -> ArrowTable:
    return connection.to_arrow_table()


def arrow_and_native(sql: str) -> tuple[list[Any], list[Any], list[Any]]:
    """The types, Arrow's rows and DuckDB's rows."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        native = connection.execute(sql).fetchall()
        kinds = [kind for _, kind, *_ in connection.execute(sql).description]
        table = arrow_table(connection)
    return kinds, rows_of(table, [parse_type(str(kind)) for kind in kinds]), native


@pytest.mark.parametrize("literal", VALUES)
def test_arrow_gives_what_duckdb_gives(literal: str) -> None:
    _, rows, native = arrow_and_native(f"SELECT {literal}, 'beside' UNION ALL SELECT NULL, NULL")
    assert rows == native
    assert type(rows[0][0]) is type(native[0][0])


def test_times_are_in_utc() -> None:
    sql = "SELECT TIMESTAMPTZ '2026-05-01 10:20:30+02', [TIMESTAMPTZ '2026-05-01 10:20:30+02']"
    _, ((at, (inner,)),), _ = arrow_and_native(sql)
    assert at.isoformat() == inner.isoformat() == "2026-05-01T08:20:30+00:00"


def test_not_a_number_stays_one() -> None:
    _, ((value,),), _ = arrow_and_native("SELECT 'nan'::DOUBLE")
    assert value != value


@pytest.mark.parametrize(
    "literal",
    [
        *("'10:00:00+02'::TIMETZ", "['10:00:00+02'::TIMETZ]", "1::BIGNUM", "1::UHUGEINT"),
        *("MAP {'a': {'b': 1::UHUGEINT}}", "['10:00:00+02'::TIMETZ]::TIMETZ[1]"),
    ],
)
def test_what_arrow_would_change_is_refused(literal: str) -> None:
    with duckdb.connect() as connection:
        cursor = connection.execute(f"SELECT 1 AS n, {literal} AS odd")
        columns = [(name, kind) for name, kind, *_ in cursor.description]
    check_carried(columns[:1])
    with pytest.raises(QueryError, match=r'column "odd" is .* cast it: "odd"::VARCHAR'):
        check_carried(columns)


@pytest.mark.parametrize("literal", ["DATE '290000-01-01'", "TIMESTAMP '290000-01-01 00:00:00'"])
def test_a_year_that_python_does_not_know_is_an_error(literal: str) -> None:
    with duckdb.connect() as connection:
        cursor = connection.execute(f"SELECT {literal}")
        kinds = [kind for _, kind, *_ in cursor.description]
        table = arrow_table(connection)
    with pytest.raises(QueryError, match="can be read as Arrow, or cast to text"):
        rows_of(table, kinds)


def test_a_type_of_another_duckdb_is_left_as_it_comes() -> None:
    assert parse_type("NEWFANGLED(7)") is None
