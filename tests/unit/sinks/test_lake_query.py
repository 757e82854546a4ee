"""Queries on a lake: they read it without the sink, and reach nothing else."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from marlin.errors import QueryError, SinkError
from marlin.query import query
from marlin.settings import Settings, SinkSettings
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.lake.sink import DuckLakeSink


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lake")


@pytest.fixture(scope="module")
def settings(folder: Path) -> Settings:
    """A lake of 600 events beside files that are nobody's business."""
    lake = SinkSettings(
        lake_catalog=f"sqlite:{folder / 'catalog.sqlite'}", lake_data_path=str(folder / "data")
    )
    with DuckLakeSink(lake) as sink:
        sink.bind(identity())
        sink.apply(batch_of(*(carbon(n) for n in range(600))))
    (folder / "secret.sqlite").write_bytes((folder / "catalog.sqlite").read_bytes())
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS secret) TO '{folder}/secret.parquet'")
    return Settings(home=folder, sink=lake)


def test_a_lake_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    lake = SinkSettings(lake_catalog=f"sqlite:{tmp_path}/no.sqlite", lake_data_path=str(tmp_path))
    with pytest.raises(SinkError, match=r"(?s)no\.sqlite.*`marlin sink` makes one"):
        query("SELECT 1", settings=Settings(home=tmp_path, sink=lake))
    assert list(tmp_path.iterdir()) == []


HOSTILE = [
    "FROM __ducklake_metadata_lake.ducklake_data_file",
    "FROM __DuckLake_Metadata_lake.main.ducklake_table",
    'SELECT * FROM (SELECT 1) JOIN "__ducklake_metadata_lake".ducklake_table ON true',
    "DESCRIBE __ducklake_metadata_lake.ducklake_table",
    "FROM ducklake_snapshots('lake')",
    "FROM lake.snapshots()",
    "CALL ducklake_expire_snapshots('lake', older_than => now())",
    "CALL lake.set_option('expire_older_than', '1 day')",
    "FROM sqlite_scan('{secret}', 'secrets')",
    "ATTACH '{secret}' AS other (TYPE sqlite)",
    "FROM '{secret}'",
    "FROM '{parquet}'",
    "FROM '{data}/../secret.parquet'",
    "FROM read_parquet('{parquet}')",
    "FROM postgres_query('lake', 'SELECT 1')",
    "FROM duckdb_secrets()",
    "INSERT INTO events SELECT * FROM events",
    "DELETE FROM parts.positions",
    "CREATE TEMP TABLE t AS SELECT 1",
    "USE memory",
    "LOAD httpfs",
    "SET enable_external_access = true",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_but_the_lake_can_be_reached(
    settings: Settings, folder: Path, hostile: str
) -> None:
    sql = hostile.format(
        secret=folder / "secret.sqlite", parquet=folder / "secret.parquet", data=folder / "data"
    )
    with pytest.raises(QueryError):
        query(sql, settings=settings)


def test_what_tells_of_databases_tells_no_secret(settings: Settings) -> None:
    result = query(
        "SELECT database_name FROM duckdb_databases() WHERE type = 'ducklake'", settings=settings
    )
    assert result.rows == [("lake",)]


def test_hostile_queries_changed_nothing_and_the_lake_is_read_beside_an_open_sink(
    settings: Settings,
) -> None:
    with DuckLakeSink(settings.sink) as sink:
        sink.bind(identity())
        result = query("SELECT run_id, calls, carbon_g FROM run_summary", settings=settings)
        assert result.rows == [("run-0", 600, 300.0)]
        sink.apply(batch_of(carbon(600)))
        result = query("SELECT count(*) FROM events WHERE seq >= ?", [599], settings=settings)
        assert result.rows == [(2,)]
