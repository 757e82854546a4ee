"""An answer as an Arrow stream: whole, or plainly not."""

from __future__ import annotations

import io
from collections.abc import Generator

import duckdb
import pytest

from marlin.errors import QueryError
from marlin.sinks.arrow import arrow
from marlin.sinks.arrow_stream import collect, read_stream, write_stream
from marlin.sinks.sandbox import Query

# Long enough that DuckDB does not run all of it before it gives the first rows.
LATE = "SELECT CASE WHEN range < 500000 THEN range ELSE error('late') END FROM range(500100)"


OPEN: list[Query] = []
"""Queries of the test that runs: each has a thread that watches it until it is closed."""


@pytest.fixture
def connection() -> Generator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'; SET threads = 1")
        yield opened
        while OPEN:
            OPEN.pop().close()


def asked(connection: duckdb.DuckDBPyConnection, sql: str, max_rows: int = 10**6) -> Query:
    query = Query(connection.cursor(), sql, max_rows=max_rows, timeout_s=60)
    OPEN.append(query)
    query.start()
    return query


@pytest.mark.parametrize(
    "sql",
    [
        'SELECT 1 AS n, \'x\' AS n, 1.50 AS "weird ""name"',
        "SELECT range AS n, [range] AS l FROM range(10000)",
        "SELECT 1 AS n WHERE false",
        "SELECT 'a'::ENUM('a', 'b') AS e, MAP {'k': 1} AS m, union_value(n := 3) AS u",
        "SELECT CASE WHEN range % 2 = 0 THEN 'a' ELSE 'b' END::ENUM('a', 'b') AS e "
        "FROM range(10000)",
        "DESCRIBE SELECT 1 AS n",
        "EXPLAIN SELECT 1",
    ],
)
def test_the_stream_is_what_was_asked(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    directly = collect(asked(connection, sql))
    streamed = read_stream(io.BytesIO(b"".join(write_stream(asked(connection, sql)))))
    assert streamed.table.equals(directly.table)
    assert streamed.table.schema.equals(directly.table.schema, check_metadata=True)
    assert streamed.columns == directly.columns
    assert streamed.rows() == directly.rows() == connection.execute(sql).fetchall()
    assert not streamed.truncated


@pytest.mark.parametrize("rows", [1, 2047, 2048, 2049, 9999, 10_000])
def test_rows_are_limited_and_it_is_told(connection: duckdb.DuckDBPyConnection, rows: int) -> None:
    sql = "SELECT range AS n FROM range(10000)"
    answer = read_stream(io.BytesIO(b"".join(write_stream(asked(connection, sql, rows)))))
    assert answer.rows() == [(n,) for n in range(rows)]
    assert answer.truncated == (rows < 10_000)
    assert answer.rows(rows - 1, 5) == [(rows - 1,)]


def test_any_arrow_reader_reads_it(connection: duckdb.DuckDBPyConnection) -> None:
    stream = b"".join(write_stream(asked(connection, "SELECT range AS n FROM range(5000)")))
    table = arrow.ipc.open_stream(stream).read_all()
    assert table["n"].to_pylist() == list(range(5000))


def test_interrupted_anywhere_it_is_not_complete(connection: duckdb.DuckDBPyConnection) -> None:
    stream = b"".join(write_stream(asked(connection, "SELECT range AS n FROM range(3000)")))
    complete = [
        cut
        for cut in [*range(0, len(stream), 101), *range(len(stream) - 300, len(stream))]
        if _is_complete(stream[:cut])
    ]
    # The end is told before the stream's own last mark of eight bytes.
    assert complete == list(range(len(stream) - 8, len(stream)))


def _is_complete(stream: bytes) -> bool:
    try:
        read_stream(io.BytesIO(stream))
    except EOFError:
        return False
    return True


def test_a_late_error_is_told_to_every_reader(connection: duckdb.DuckDBPyConnection) -> None:
    stream = b"".join(write_stream(asked(connection, LATE)))
    assert len(stream) > 1_000_000
    with pytest.raises(QueryError, match="late"):
        read_stream(io.BytesIO(stream))
    with pytest.raises((arrow.ArrowInvalid, OSError)):
        arrow.ipc.open_stream(stream).read_all()
    with pytest.raises(QueryError, match="late"):
        collect(asked(connection, LATE))


def test_an_early_error_is_no_stream(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryError, match="TIME WITH TIME ZONE"):
        next(write_stream(asked(connection, "SELECT '10:00:00+02'::TIMETZ")))
