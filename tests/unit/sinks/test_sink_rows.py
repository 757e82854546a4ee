"""Values of every type, through JSON and back."""

from __future__ import annotations

from typing import Any

import duckdb
import orjson
import pytest

from marlin.sinks.rows import decoders, encoders, parse_type, through

VALUES = [
    *("true", "1::TINYINT", "1::UTINYINT", "-5", "9223372036854775807", "18446744073709551615"),
    "170141183460469231731687303715884105727::HUGEINT",
    "340282366920938463463374607431768211455::UHUGEINT",
    *("0.1::DOUBLE", "'inf'::DOUBLE", "'-inf'::FLOAT", "1e308::DOUBLE", "1.5::FLOAT"),
    *("123456789012345678.123456789::DECIMAL(38, 9)", "0.10::DECIMAL(4, 2)"),
    *("'text'", "''", "'\\x00 \"\\\\ \\n é 🐟'", "'x'::BLOB", "'\\xff\\x00'::BLOB"),
    *("DATE '2026-05-01'", "TIME '10:20:30.5'", "TIMESTAMP '2026-05-01 10:20:30.123456'"),
    *("TIMESTAMPTZ '2026-05-01 10:20:30+02'", "TIMESTAMP_S '2026-05-01 10:20:30'"),
    *("INTERVAL '3 days 4 seconds'", "'00000000-0000-0000-0000-00000000002a'::UUID"),
    *("'a'::ENUM('a', 'b')", "'{\"a\": 1}'::JSON", "NULL", "'101'::BIT"),
    *("[1, NULL, 3]", "[]", "[DATE '2026-05-01', NULL]", "[[1.5::DECIMAL(4, 2)], []]"),
    *("{'a': 1, 'b': 'x'}", "{'at': TIMESTAMPTZ '2026-05-01 00:00:00Z', 'we ird': [1.10]}"),
    *("MAP {'a': 1}", "MAP {1: DATE '2026-05-01'}", "MAP {}", "[1, 2, 3]::INTEGER[3]"),
    "MAP {'a': {'b': [TIME '10:00:00']}}",
]


@pytest.mark.parametrize("literal", VALUES)
def test_what_comes_out_is_what_went_in(literal: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        cursor = connection.execute(f"SELECT {literal}, 'beside'")
        kinds = [kind for _, kind, *_ in cursor.description]
        rows = cursor.fetchall()
    wire = orjson.loads(orjson.dumps(through(encoders(kinds), rows)))
    read = through(decoders([parse_type(str(kind)) for kind in kinds]), wire)
    assert [tuple(row) for row in read] == rows
    assert type(read[0][0]) is type(rows[0][0])


def test_not_a_number_survives() -> None:
    kind = duckdb.sqltype("DOUBLE")
    ((value,),) = through(encoders([kind]), [(float("nan"),)])
    assert value == "nan"
    ((read,),) = through(decoders([kind]), [[value]])
    assert read != read


def test_a_type_of_another_duckdb_is_left_as_it_comes() -> None:
    assert parse_type("NEWFANGLED(7)") is None
    rows: list[Any] = through(decoders([None]), [["as it is"]])
    assert rows == [["as it is"]]
