"""Files of every earlier schema: their rows keep their values, and they go on as new ones do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.migrations import known_migrations, migrate

VALUES = {
    "VARCHAR": "'{column} ' || n",
    "INTEGER": "n::INTEGER",
    "BIGINT": "n * 1000",
    "DOUBLE": "n / 10 + 1e-9",  # inexact on purpose
    "BOOLEAN": "n % 2 = 0",
    "JSON": "'{{\"{column}\": ' || n || '}}'",
    "BLOB": "'\\xFF\\x00'::BLOB",
    "DATE": "DATE '2026-05-01' + n::INTEGER",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ '2026-05-01 12:59:59.999999+00' + n * INTERVAL 1 HOUR",
    "VARCHAR[]": "['{column}', n::VARCHAR]",
}
"""A value of each type, by the row's number."""

REBUILT = {1: {"hourly"}}
"""What the upgrade from a version makes again, from the ledger."""

EARLIER = [one.version for one in known_migrations()][:-1]
Rows = dict[str, tuple[list[str], list[tuple[Any, ...]]]]


def filled(path: Path, version: int) -> Rows:
    """A file of that version with three rows in each table: by table, its columns and its rows."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        migrate(connection, known_migrations()[:version])
        for table, columns in columns_of(connection).items():
            if table == "schema_versions":
                continue
            values = ", ".join(VALUES[kind].format(column=name) for name, kind in columns)
            connection.execute(f"INSERT INTO {table} SELECT {values} FROM range(1, 4) AS r(n)")
        return {
            table: ([name for name, _ in columns], rows(connection, table, columns))
            for table, columns in columns_of(connection).items()
        }


def columns_of(connection: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[str, str]]]:
    found = connection.execute(
        "SELECT t.table_name, c.column_name, c.data_type FROM duckdb_columns() AS c "
        "JOIN duckdb_tables() AS t USING (table_oid) WHERE NOT t.internal "
        "ORDER BY t.table_oid, c.column_index"
    ).fetchall()
    tables: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in found:
        tables.setdefault(table, []).append((column, kind))
    return tables


def rows(connection: duckdb.DuckDBPyConnection, table: str, columns: Any) -> list[tuple[Any, ...]]:
    names = ", ".join(name for name, *_ in columns)
    return connection.execute(f"SELECT {names} FROM {table} ORDER BY ALL").fetchall()


@pytest.mark.parametrize("version", EARLIER)
def test_every_value_of_an_earlier_file_is_kept(tmp_path: Path, version: int) -> None:
    path = tmp_path / "old.duckdb"
    before = filled(path, version)
    assert all(len(rows) == 3 for table, (_, rows) in before.items() if table != "schema_versions")
    DuckDBSink(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for table, (names, old) in before.items():
            now = rows(connection, table, [(name,) for name in names])
            if table in REBUILT.get(version, ()):
                assert [row for row in now if row in old] == []
            elif table in {"schema_versions", "factor_sets"}:  # these get further rows
                assert [row for row in old if row not in now] == []
            else:
                assert now == old, table
        versions = connection.execute("SELECT version FROM schema_versions ORDER BY 1").fetchall()
    assert versions == [(one.version,) for one in known_migrations()]


@pytest.mark.parametrize("version", EARLIER)
def test_an_upgraded_file_is_as_a_new_one(tmp_path: Path, version: int) -> None:
    """The same columns, types and comments in the same order, and it takes in batches."""
    schemas: list[Any] = []
    for name in ("old", "new"):
        path = tmp_path / f"{name}.duckdb"
        if name == "old":
            filled(path, version)
        with DuckDBSink(path) as sink:
            sink.bind(identity())
            assert sink.apply(batch_of(carbon(0), carbon(1))).events == 2
            assert sink.apply(batch_of(carbon(1), carbon(2))).events == 1
            schemas.append(
                sink.cursor()
                .execute(
                    "SELECT table_name, column_name, data_type, is_nullable, comment "
                    "FROM duckdb_columns() WHERE NOT internal ORDER BY table_name, column_index"
                )
                .fetchall()
            )
            counted = (
                sink.cursor().execute("SELECT calls FROM runs WHERE run_id = 'run-0'").fetchall()
            )
            assert counted == [(3,)]
    assert schemas[0] == schemas[1]


def test_the_first_upgrade_makes_the_hours_again_from_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    filled(path, 1)
    DuckDBSink(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for table, period in (("hourly", "hour::VARCHAR"), ("daily", "day::VARCHAR")):
            found = connection.execute(
                f"SELECT {period}, model, codes, calls, input_tokens, carbon_g FROM {table} "
                "ORDER BY model"
            ).fetchall()
            assert found == [
                (
                    f"2026-05-01 {12 + n}:00:00+00" if table == "hourly" else "2026-05-01",
                    *(f"model {n}", f"quality,{n}", 1, n * 1000, n / 10 + 1e-9),
                )
                for n in (1, 2, 3)
            ]
