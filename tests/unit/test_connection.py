"""`marlin.connect()`, beside a running owner and on a file that nobody has open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas
import pytest

import marlin
from marlin.connection import Connection, connect
from marlin.errors import ConfigurationError, QueryError
from marlin.settings import Settings, SinkSettings
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.sqlserver import SqlServer


class Owner:
    """A sink that serves queries, on a loop of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._serving = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()
        assert self._serving.wait(30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        with DuckDBSink(self._settings.database_path) as sink:
            async with SqlServer(sink.path, sink.cursor, self._settings.sink):
                self._serving.set()
                await self._stop.wait()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path, sink=SinkSettings(query_max_rows=5000))
    with DuckDBSink(made.database_path) as sink:
        sink.bind(identity())
        sink.apply(batch_of(*(carbon(n) for n in range(10))))
    return made


@pytest.fixture(params=["file", "owner"])
def connection(request: pytest.FixtureRequest, settings: Settings) -> Generator[Connection]:
    """Every test of it runs both ways."""
    owner = Owner(settings)
    if request.param == "owner":
        owner.start()
    with connect(settings=settings) as opened:
        yield opened
    if request.param == "owner":
        owner.stop()


ALL_KINDS = (
    "SELECT 1 AS n, 2::HUGEINT AS n, 1.50 AS d, 0.1 + 0.2 AS x, 'é' AS t, true AS b, NULL AS nil, "
    "DATE '2026-05-01' AS day, TIMESTAMPTZ '2026-05-01 12:00:00+02' AS at, "
    "[1, NULL] AS l, {'a': [1.10]} AS s, MAP {'k': 1} AS m, INTERVAL '1 day' AS i, '\\xff'::BLOB"
)


def test_values_and_types_are_the_same_either_way(connection: Connection) -> None:
    cursor = connection.execute(ALL_KINDS)
    assert cursor.fetchall() == [
        (
            *(1, 2, Decimal("1.5"), Decimal("0.3"), "é", True, None, date(2026, 5, 1)),
            *(datetime(2026, 5, 1, 10, tzinfo=UTC), [1, None], {"a": [Decimal("1.1")]}, {"k": 1}),
            *(timedelta(days=1), b"\xff"),
        )
    ]
    assert cursor.description
    assert [(name, kind) for name, kind, *_ in cursor.description][:4] == [
        *(("n", "INTEGER"), ("n", "HUGEINT"), ("d", "DECIMAL(3,2)"), ("x", "DECIMAL(3,1)"))
    ]
    assert [str(one.type) for one in cursor.arrow().schema][:4] == [
        *("int32", "decimal128(38, 0)", "decimal128(3, 2)", "decimal128(3, 1)")
    ]
    assert cursor.arrow().schema.metadata is None


def test_parameters_keep_their_types(connection: Connection) -> None:
    values: list[Any] = [
        *(datetime(2026, 5, 1, tzinfo=UTC), date(2026, 5, 1), Decimal("1.50"), b"\xff", 2**100),
        *(timedelta(hours=1), [1, 2], "x", 0.1, None, True),
    ]
    marks = ", ".join("?" for _ in values)
    assert connection.execute(f"SELECT {marks}", values).fetchall() == [tuple(values)]
    count = connection.sql(
        "SELECT count(*) FROM events WHERE event_time >= $since",
        params={"since": datetime(2026, 5, 1, 12, 0, 4, tzinfo=UTC)},
    )
    assert count.fetchone() == (6,)


def test_rows_are_fetched_like_of_any_cursor(connection: Connection) -> None:
    cursor = connection.cursor()
    assert (cursor.description, cursor.rowcount) == (None, -1)
    cursor.execute("SELECT range FROM range(3000)")
    assert cursor.rowcount == 3000
    assert cursor.fetchone() == (0,)
    assert cursor.fetchmany() == [(1,)]
    cursor.arraysize = 3
    assert cursor.fetchmany() == [(2,), (3,), (4,)]
    assert cursor.fetchmany(2) == [(5,), (6,)]
    assert cursor.fetchmany(0) == []
    assert list(cursor) == [(n,) for n in range(7, 3000)]
    assert (cursor.fetchone(), cursor.fetchall()) == (None, [])
    assert cursor.arrow().num_rows == cursor.fetch_arrow_table().num_rows == 3000
    assert cursor.execute("SELECT 'again'").fetchall() == [("again",)]


def test_pandas_gets_numbers_and_times(connection: Connection) -> None:
    frame = connection.sql(ALL_KINDS).df()
    assert list(frame.columns)[:4] == ["n", "n_1", "d", "x"]
    assert [str(kind) for kind in frame.dtypes][:4] == ["int32", "float64", "float64", "float64"]
    assert frame["d"].tolist() == [1.5]
    assert pandas.api.types.is_datetime64_any_dtype(frame["day"])
    assert frame["at"][0] == pandas.Timestamp("2026-05-01 10:00:00Z")
    assert connection.sql("SELECT 1 AS a WHERE false").df().empty


def test_what_is_left_out_is_a_warning(connection: Connection) -> None:
    with pytest.warns(UserWarning, match="only the first 5000 rows .*QUERY_MAX_ROWS"):
        cursor = connection.execute("SELECT * FROM range(5001)")
    assert (cursor.truncated, cursor.rowcount) == (True, 5000)
    assert not connection.execute("SELECT * FROM range(5000)").truncated


def test_it_only_reads(connection: Connection) -> None:
    with pytest.raises(QueryError, match="queries only read"):
        connection.execute("DELETE FROM events")
    with pytest.raises(QueryError, match='"nothing" not found'):
        connection.sql("SELECT nothing FROM events")
    with pytest.raises(QueryError, match="late"):
        connection.sql(
            "SELECT CASE WHEN range < 4999 THEN 1 ELSE error('late') END FROM range(5000)"
        )
    assert connection.sql("SELECT count(*) FROM events").fetchall() == [(10,)]


def test_closed_is_closed(connection: Connection) -> None:
    with connection.execute("SELECT 1") as cursor:
        pass
    with pytest.raises(QueryError, match="closed"):
        cursor.fetchall()
    with pytest.raises(QueryError, match="closed"):
        cursor.execute("SELECT 1")
    kept = connection.execute("SELECT 1")
    connection.close()
    with pytest.raises(QueryError, match="closed"):
        connection.execute("SELECT 1")
    assert kept.fetchall() == [(1,)]


def test_there_is_no_result_before_a_query_nor_after_a_failed_one(connection: Connection) -> None:
    cursor = connection.cursor()
    with pytest.raises(QueryError, match="has to be executed first"):
        cursor.fetchall()
    cursor.execute("SELECT 1")
    with pytest.raises(QueryError):
        cursor.execute("SELECT nothing")
    with pytest.raises(QueryError, match="has to be executed first"):
        cursor.fetchall()


def test_one_connection_outlives_its_owners(settings: Settings) -> None:
    with connect(settings=settings) as connection:
        for offset in range(3):
            owner = Owner(settings)
            owner.start()
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (10 + offset,)
            owner.stop()
            with DuckDBSink(settings.database_path) as sink:
                sink.bind(identity())
                sink.apply(batch_of(carbon(10 + offset)))
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (11 + offset,)


def test_another_database_may_be_named(settings: Settings, tmp_path: Path) -> None:
    other = tmp_path / "other.duckdb"
    with marlin.connect(other, settings=settings) as connection:
        with pytest.raises(QueryError, match=f"no database at {other}"):
            connection.execute("SELECT 1")
        DuckDBSink(other).close()
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (0,)


def test_missing_packages_are_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    cursor = connect(settings=settings).execute("SELECT 1")

    def without(absent: str) -> Callable[[str], object]:
        return lambda name: None if name == absent else find_spec(name)

    monkeypatch.setattr("marlin.connection.find_spec", without("pandas"))
    with pytest.raises(ConfigurationError, match="pip install pandas"):
        cursor.df()
    monkeypatch.setattr("marlin.connection.find_spec", without("duckdb"))
    with pytest.raises(ConfigurationError, match=r"marlin-carbon\[pipeline\]"):
        connect()
