"""Values of every type as JSON."""

from __future__ import annotations

from typing import Any

import duckdb
import orjson
import pytest

from marlin.sinks.rows import encoders, through


@pytest.mark.parametrize(
    ("literal", "wire"),
    [
        *(("true", True), ("-5", -5), ("18446744073709551615", "18446744073709551615")),
        ("9223372036854775807", 9223372036854775807),
        ("9223372036854775808::HUGEINT", "9223372036854775808"),
        *(("0.1::DOUBLE", 0.1), ("'-inf'::FLOAT", "-inf"), ("'nan'::DOUBLE", "nan")),
        ("123456789012345678.10::DECIMAL(38, 2)", "123456789012345678.10"),
        *(("'é \"🐟'", 'é "🐟'), ("'\\xff'::BLOB", "/w=="), ("'101'::BIT", "101"), ("NULL", None)),
        *(("DATE '2026-05-01'", "2026-05-01"), ("TIME '10:20:30.5'", "10:20:30.500000")),
        ("TIMESTAMPTZ '2026-05-01 10:20:30+02'", "2026-05-01T08:20:30Z"),
        ("TIMESTAMP '2026-05-01 10:20:30'", "2026-05-01T10:20:30"),
        ("'10:00:00+02'::TIMETZ", "10:00:00+02:00"),
        ("INTERVAL '1 day 4 seconds'", 86_404_000_000),
        ("'00000000-0000-0000-0000-00000000002a'::UUID", "00000000-0000-0000-0000-00000000002a"),
        ("[DATE '2026-05-01', NULL]", ["2026-05-01", None]),
        ("[1, 2]::INTEGER[2]", [1, 2]),
        ("{'a': 1, 'b': [1.10]}", {"a": 1, "b": ["1.10"]}),
        ("MAP {1: DATE '2026-05-01'}", [[1, "2026-05-01"]]),
        ("MAP {}", []),
    ],
)
def test_json_says_it_whole(literal: str, wire: Any) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        cursor = connection.execute(f"SELECT {literal}, 'beside'")
        converts = encoders([kind for _, kind, *_ in cursor.description])
        rows = cursor.fetchall()
    assert orjson.loads(orjson.dumps(through(converts, rows))) == [[wire, "beside"]]
