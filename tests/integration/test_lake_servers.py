"""The servers of the lake's tests are what they say: a catalogue in one, files in the other."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import duckdb
import pytest
from lake_servers import Postgres, S3Store


def test_a_lake_lives_in_postgresql_and_s3(postgres: Postgres, s3_store: S3Store) -> None:
    catalog, path = postgres.new_database(), s3_store.new_path()
    for written in range(2):
        with duckdb.connect() as connection:
            for name in ("ducklake", "httpfs", "postgres_scanner"):
                spec = find_spec(f"duckdb_extension_{name}")
                assert spec is not None
                assert spec.origin is not None
                (file,) = Path(spec.origin).parent.glob("extensions/*/*.duckdb_extension")
                connection.load_extension(str(file))
            connection.execute(
                f"CREATE SECRET (TYPE s3, KEY_ID '{s3_store.access_key_id}', "
                f"SECRET '{s3_store.secret_access_key}', ENDPOINT '{s3_store.endpoint}', "
                f"REGION '{s3_store.region}', URL_STYLE 'path', USE_SSL false)"
            )
            connection.execute(f"ATTACH 'ducklake:postgres:{catalog}' AS lake (DATA_PATH '{path}')")
            connection.execute("CREATE TABLE IF NOT EXISTS lake.numbers (n INTEGER)")
            connection.execute("INSERT INTO lake.numbers SELECT * FROM range(1000)")
            assert connection.execute("SELECT count(*), sum(n) FROM lake.numbers").fetchall() == [
                (1000 * (written + 1), 499_500 * (written + 1))
            ]
            files = connection.execute(f"SELECT count(*) FROM glob('{path}**')").fetchall()
            assert files == [(written + 1,)]


def test_databases_and_paths_are_not_shared(postgres: Postgres, s3_store: S3Store) -> None:
    assert postgres.new_database() != postgres.new_database()
    assert s3_store.new_path() != s3_store.new_path()


def test_the_store_knows_its_own_from_strangers(s3_store: S3Store) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(f"http://{s3_store.endpoint}/{s3_store.bucket}", timeout=10)
    with refused.value as answer:
        assert answer.code == 403
