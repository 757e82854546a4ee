"""SQL that wants more than to read, or never ends."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from marlin.errors import QueryError
from marlin.settings import SinkSettings
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.sandbox import Query


@pytest.fixture
def sink(tmp_path: Path) -> Generator[DuckDBSink]:
    with DuckDBSink(tmp_path / "marlin.duckdb") as opened:
        opened.bind(identity())
        opened.apply(batch_of(*(carbon(n) for n in range(3))))
        yield opened


@pytest.fixture(scope="module")
def shared_sink(tmp_path_factory: pytest.TempPathFactory) -> Generator[DuckDBSink]:
    """One for all tests that must not change it."""
    with DuckDBSink(tmp_path_factory.mktemp("shared") / "marlin.duckdb") as opened:
        opened.bind(identity())
        opened.apply(batch_of(*(carbon(n) for n in range(3))))
        yield opened


def run(
    sink: DuckDBSink, sql: str, params: Any = None, *, max_rows: int = 100, timeout_s: float = 60
) -> list[tuple[Any, ...]]:
    query = Query(sink.cursor(), sql, params, max_rows=max_rows, timeout_s=timeout_s)
    try:
        query.start()
        return [row for chunk in query.chunks() for row in chunk]
    finally:
        query.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM events",
        "FROM events SELECT count(*)",
        "WITH e AS (FROM events) SELECT count(*) FROM e -- a comment;",
        "SELECT count(*) FROM events;",
        "SELECT len(list(seq)) FROM events",
        "SELECT count(*) FROM range(3)",
        "SELECT DISTINCT count(*) OVER () FROM events",
    ],
)
def test_reading_is_allowed(shared_sink: DuckDBSink, sql: str) -> None:
    assert run(shared_sink, sql) == [(3,)]


@pytest.mark.parametrize(
    "sql",
    [
        "DESCRIBE events",
        "SHOW TABLES",
        "SUMMARIZE events",
        "EXPLAIN SELECT * FROM events",
        "explain analyze select * from events",
        "EXPLAIN (FORMAT json) SELECT 1",
        "SELECT * FROM duckdb_columns()",
        "SELECT comment FROM duckdb_tables()",
        "PIVOT events ON model IN ('gpt-5', 'x') USING count(*)",
    ],
)
def test_looking_around_is_allowed(shared_sink: DuckDBSink, sql: str) -> None:
    assert run(shared_sink, sql)


def test_parameters_are_values_not_sql(shared_sink: DuckDBSink) -> None:
    hostile = "x'; DROP TABLE events; --"
    assert run(shared_sink, "SELECT ?::VARCHAR", [hostile]) == [(hostile,)]
    assert run(shared_sink, "SELECT count(*) FROM events WHERE seq > $least", {"least": 0}) == [
        (2,)
    ]


HOSTILE = [
    # Writes
    "INSERT INTO events SELECT * FROM events",
    "UPDATE runs SET carbon_g = 0",
    "DELETE FROM events",
    "DROP TABLE events",
    "ALTER TABLE events RENAME TO gone",
    "TRUNCATE events",
    "CREATE TABLE mine (a INTEGER)",
    "CREATE TEMP TABLE mine AS SELECT 1",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE OR REPLACE MACRO sum(x) AS 0",
    "COMMENT ON TABLE events IS 'mine'",
    "MERGE INTO runs USING (SELECT 1) ON true WHEN MATCHED THEN DELETE",
    "WITH gone AS (DELETE FROM events RETURNING *) SELECT * FROM gone",
    "EXPLAIN ANALYZE DELETE FROM events",
    "EXPLAIN ANALYZE INSERT INTO runs (run_id) VALUES ('x')",
    "/* hidden */ EXPLAIN ANALYZE DELETE FROM events",
    "BEGIN",
    "COMMIT",
    "ROLLBACK; DELETE FROM events",
    "SELECT 1; DROP TABLE events",
    "VACUUM",
    "ANALYZE",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM force_checkpoint()",
    # Files
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    'SELECT * FROM "/etc/passwd"',
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM read_parquet('https://example.com/x.parquet')",
    "SELECT * FROM parquet_metadata('/x')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM glob('/home/*')",
    "SELECT * FROM read_duckdb('marlin.duckdb')",
    "COPY events TO '/tmp/stolen.csv'",
    "COPY (SELECT 1) TO '/tmp/stolen.csv'",
    "EXPLAIN ANALYZE COPY events TO '/tmp/stolen.csv'",
    "EXPORT DATABASE '/tmp/stolen'",
    "IMPORT DATABASE '/tmp/stolen'",
    # Reaching outside
    "ATTACH '/tmp/other.duckdb' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH marlin",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CREATE SECRET s (TYPE s3)",
    "SELECT * FROM duckdb_secrets()",
    "SELECT getenv('HOME')",
    # Settings
    "SET memory_limit = '1GB'",
    "SET GLOBAL lock_configuration = false",
    "RESET memory_limit",
    "SET VARIABLE x = 1",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "CALL enable_logging()",
    "SELECT * FROM enable_logging()",
    'SELECT * FROM "ENABLE_logging"/**/()',
    "SELECT (SELECT count(*) FROM disable_logging())",
    "SELECT * FROM enable_profiling()",
    "DESCRIBE SELECT * FROM enable_logging()",
    "SUMMARIZE SELECT * FROM enable_logging()",
    "EXPLAIN ANALYZE SELECT * FROM enable_logging()",
    "SELECT write_log('x')",
    "SELECT a.write_log() FROM (SELECT 'x' AS a) AS a",
    "SELECT list_transform([1], lambda x: write_log('x'))",
    "SELECT nextval('s')",
    # SQL in text
    "SELECT * FROM query('SELECT * FROM enable_logging()')",
    "SELECT * FROM query_table('events')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "PREPARE p AS DELETE FROM events",
    "EXECUTE p",
    "DEALLOCATE p",
    # This process
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM python_map_function(1)",
    "SELECT * FROM batch_usages",
    "SELECT * FROM sink",
    # Nonsense
    "",
    ";",
    "-- nothing",
    "SELEC 1",
    "SELECT * FROM nothing",
    "SELECT '\x00'",
    "SELECT " + "1+" * 20000 + "1",
    "SELECT * FROM test_all_types()",
    "SELECT error('made up')",
    "SELECT 100::TINYINT * 100::TINYINT",
]


STATE = (
    "SELECT (SELECT list((name, value) ORDER BY name) FROM duckdb_settings()), "
    "(SELECT list(table_name ORDER BY table_name) FROM duckdb_tables()), "
    "(SELECT list(view_name ORDER BY view_name) FROM duckdb_views()), "
    "(SELECT list((seq, input_tokens) ORDER BY seq) FROM events)"
)


@pytest.mark.parametrize("sql", HOSTILE, ids=lambda sql: sql[:60])
def test_everything_else_is_refused_and_changes_nothing(shared_sink: DuckDBSink, sql: str) -> None:
    before = run(shared_sink, STATE)
    with pytest.raises(QueryError):
        run(shared_sink, sql)
    assert run(shared_sink, STATE) == before


@pytest.mark.parametrize(
    "sql", ["DELETE FROM events", "CREATE TABLE mine (a INTEGER)", "COMMENT ON TABLE runs IS 'x'"]
)
def test_the_transaction_alone_refuses_writes(sink: DuckDBSink, sql: str) -> None:
    """The second fence holds without the first."""
    with sink.cursor() as cursor:
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        with pytest.raises(duckdb.Error, match="read-only mode"):
            cursor.execute(sql)


@pytest.mark.parametrize(
    "sql", ["COPY (SELECT 1) TO 'x.csv'", "ATTACH 'x.db'", "LOAD httpfs", "SET threads = 1"]
)
def test_the_connection_alone_reaches_nothing(sink: DuckDBSink, sql: str) -> None:
    """The third fence holds without the others."""
    with sink.cursor() as cursor, pytest.raises(duckdb.Error, match=r"configuration|locked"):
        cursor.execute(sql)


RUNAWAY = [
    "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
    "SELECT sleep_ms(60000)",
]


@pytest.mark.parametrize("sql", RUNAWAY)
def test_a_query_that_never_ends_is_stopped(sink: DuckDBSink, sql: str) -> None:
    with pytest.raises(QueryError, match=r"stopped after 0\.3 s \(MARLIN_SINK__QUERY_TIMEOUT_S\)"):
        run(sink, sql, timeout_s=0.3)
    assert sink.apply(batch_of(carbon(3))).events == 1


def test_slow_reading_counts_against_the_time(sink: DuckDBSink) -> None:
    query = Query(sink.cursor(), "SELECT * FROM range(1000000000)", max_rows=10**9, timeout_s=0.3)
    query.start()
    chunks = query.chunks()
    next(chunks)
    time.sleep(0.5)
    with pytest.raises(QueryError, match="stopped after"):
        list(chunks)
    query.close()


def test_rows_are_limited_and_it_is_said(sink: DuckDBSink) -> None:
    for max_rows, given, truncated in ((3, 3, False), (2, 2, True), (5000, 3, False)):
        query = Query(sink.cursor(), "SELECT * FROM events", max_rows=max_rows, timeout_s=60)
        query.start()
        assert sum(len(chunk) for chunk in query.chunks()) == given
        assert (query.rows, query.truncated) == (given, truncated)
        query.close()


def test_memory_is_limited(tmp_path: Path) -> None:
    limits = SinkSettings(memory_limit_bytes=256 * 1024 * 1024)
    with DuckDBSink(tmp_path / "marlin.duckdb", limits=limits) as sink:
        sink.bind(identity())
        with pytest.raises(QueryError, match=r"[Mm]emory"):
            run(sink, "SELECT len(list(range)) FROM range(100_000_000)", timeout_s=100)
        assert sink.apply(batch_of(carbon(3))).events == 1


@pytest.mark.parametrize(
    "sql",
    [
        *("DELETE FROM events", "SELECT * FROM read_text('/etc/passwd')", "ATTACH 'x.db'"),
        *("COPY events TO 'x.csv'", "LOAD httpfs", "SET threads = 1", "SELECT 1; SELECT 2"),
        *RUNAWAY,
    ],
)
def test_arrow_is_no_way_around(sink: DuckDBSink, sql: str) -> None:
    query = Query(sink.cursor(), sql, max_rows=10, timeout_s=0.3)
    try:
        with pytest.raises(QueryError):  # noqa: PT012  either of the two refuses
            query.start()
            list(query.batches())
    finally:
        query.close()


def test_arrow_is_stopped_while_it_is_read(sink: DuckDBSink) -> None:
    query = Query(sink.cursor(), "SELECT * FROM range(1000000000)", max_rows=10**9, timeout_s=60)
    query.start()
    batches = query.batches()
    next(batches)
    query.stop("because")
    with pytest.raises(QueryError, match="because"):
        list(batches)
    query.close()


def test_many_parameters_are_values_still(shared_sink: DuckDBSink) -> None:
    many = list(range(2000))
    sql = "SELECT list_sum([" + ",".join("?" * len(many)) + "])"
    assert run(shared_sink, sql, many) == [(sum(many),)]


def test_it_can_be_stopped_from_another_thread(sink: DuckDBSink) -> None:
    query = Query(sink.cursor(), "SELECT * FROM range(1000000000)", max_rows=10**9, timeout_s=60)
    query.start()
    chunks = query.chunks()
    next(chunks)
    query.stop("because")
    with pytest.raises(QueryError, match="because"):
        list(chunks)
    query.close()
    query.close()


def test_stopped_before_it_started_it_does_not_run(sink: DuckDBSink) -> None:
    query = Query(sink.cursor(), RUNAWAY[0], max_rows=1, timeout_s=60)
    query.stop("too late")
    with pytest.raises(QueryError, match="too late"):
        query.start()
    query.close()
