"""The sink's shared suite on a real lake: catalogue in PostgreSQL, Parquet on S3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lake_servers import Postgres, S3Store
from pydantic import SecretStr

from marlin.errors import QueryError, SinkConflictError, SinkError
from marlin.query import query
from marlin.settings import Settings, SinkSettings
from marlin.sinks.batch import Applied
from marlin.sinks.conformance import SinkConformance, batch_of, carbon, identity
from marlin.sinks.lake.opening import open_lake
from marlin.sinks.lake.sink import DuckLakeSink
from marlin.sinks.sink import Sink


def new_lake(postgres: Postgres, s3_store: S3Store) -> SinkSettings:
    return SinkSettings(
        lake_catalog=f"postgres:{postgres.new_database()}",
        lake_data_path=s3_store.new_path(),
        s3_endpoint=s3_store.endpoint,
        s3_access_key_id=s3_store.access_key_id,
        s3_secret_access_key=SecretStr(s3_store.secret_access_key),
        s3_region=s3_store.region,
        s3_use_ssl=False,
    )


class TestLakeOnPostgresAndS3(SinkConformance):
    random_splits = 1  # tests/unit/sinks/test_ducklake_sink.py tries more

    @pytest.fixture(autouse=True)
    def servers(self, postgres: Postgres, s3_store: S3Store) -> None:
        self._servers = postgres, s3_store
        self._lakes: dict[Path, SinkSettings] = {}

    def _lake(self, where: Path) -> SinkSettings:
        if where not in self._lakes:
            self._lakes[where] = new_lake(*self._servers)
        return self._lakes[where]

    def open_sink(self, where: Path) -> Sink:
        return DuckLakeSink(self._lake(where))

    def read(self, where: Path, sql: str) -> list[tuple[Any, ...]]:
        with open_lake(self._lake(where), read_only=True) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def lake(postgres: Postgres, s3_store: S3Store) -> SinkSettings:
    return new_lake(postgres, s3_store)


def test_sinks_write_at_once_and_share_a_partition_safely(lake: SinkSettings) -> None:
    """Three sinks: two are sure that partition 0 is theirs, one has partition 1 for itself."""
    batches = {
        partition: [
            batch_of(*(carbon(n, partition=partition) for n in range(start, start + 600)))
            for start in range(0, 3000, 600)
        ]
        for partition in (0, 1)
    }

    def write(partition: int) -> tuple[Applied, int]:
        total, conflicts = Applied(), 0
        with DuckLakeSink(lake) as sink:
            sink.bind(identity())
            for batch in batches[partition]:
                while True:
                    try:
                        total += sink.apply(batch)
                        break
                    except SinkConflictError:
                        conflicts += 1
                        sink.bind(identity())
        return total, conflicts

    with ThreadPoolExecutor(3) as threads:
        (first, _), (second, _), (alone, conflicts) = threads.map(write, (0, 0, 1))
    assert first.events + second.events == 3000
    assert (alone.events, alone.duplicates, conflicts) == (3000, 0, 0)
    found = query(
        "SELECT source_partition, count(*), count(DISTINCT source_offset), sum(carbon_g), "
        "(SELECT calls FROM runs WHERE run_id = 'run-' || source_partition) "
        "FROM events GROUP BY 1 ORDER BY 1",
        settings=Settings(sink=lake),
    )
    assert found.rows == [(0, 3000, 3000, 1500.0, 3000), (1, 3000, 3000, 1500.0, 3000)]


def test_queries_reach_neither_other_files_nor_the_server(
    lake: SinkSettings, s3_store: S3Store, tmp_path: Path
) -> None:
    with DuckLakeSink(lake) as sink:
        sink.bind(identity())
        sink.apply(batch_of(*(carbon(n) for n in range(600))))
    elsewhere = lake.model_copy(
        update={
            "lake_catalog": f"sqlite:{tmp_path}/c.sqlite",
            "lake_data_path": s3_store.new_path(),
        }
    )
    with DuckLakeSink(elsewhere) as other, other.cursor() as cursor:
        place = f"{elsewhere.lake_data_path}secret.parquet"
        cursor.execute(f"COPY (SELECT 1 AS secret) TO '{place}'")
    settings = Settings(sink=lake)
    for hostile in (
        f"FROM '{place}'",
        f"FROM '{lake.lake_data_path}../{place.removeprefix(f's3://{s3_store.bucket}/')}'",
        "FROM __ducklake_metadata_lake.pg_catalog.pg_authid",
        "FROM '/etc/passwd.csv'",
        f"FROM 'http://{s3_store.endpoint}/{s3_store.bucket}/x.parquet'",
    ):
        with pytest.raises(QueryError):
            query(hostile, settings=settings)
    told = query("SELECT path FROM duckdb_databases() WHERE path IS NOT NULL", settings=settings)
    assert s3_store.secret_access_key not in str(told.rows)
    assert query("SELECT calls FROM runs", settings=settings).rows == [(600,)]


def test_a_store_that_refuses_stops_the_batch_whole(lake: SinkSettings) -> None:
    with DuckLakeSink(lake) as sink:
        sink.bind(identity())
    wrong = lake.model_copy(update={"s3_secret_access_key": SecretStr("wrong" * 4)})
    batch = batch_of(*(carbon(n) for n in range(600)))
    with DuckLakeSink(wrong) as sink:
        sink.bind(identity())
        with pytest.raises(SinkError, match="nothing of it was stored"):
            sink.apply(batch)
    with DuckLakeSink(lake) as sink:
        assert sink.bind(identity()) == {}
        assert sink.apply(batch).events == 600
