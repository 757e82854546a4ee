"""Bringing a database to the schema of this Marlin: numbered SQL files, each applied once."""

from __future__ import annotations

import importlib.resources
import re
from typing import NamedTuple

import duckdb

from marlin import __version__
from marlin.errors import SchemaTooNewError

__all__ = ["Migration", "known_migrations", "migrate", "schema_version"]

_NAME = re.compile(r"(\d{4})_\w+\.sql")


class Migration(NamedTuple):
    """One SQL file of `sinks/sql`."""

    version: int
    name: str
    sql: str


def known_migrations() -> list[Migration]:
    """All migrations of this Marlin, oldest first; their versions count up from 1."""
    found = [
        Migration(int(match[1]), file.name, file.read_text())
        for file in importlib.resources.files("marlin.sinks").joinpath("sql").iterdir()
        if (match := _NAME.fullmatch(file.name))
    ]
    return sorted(found)


def schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    """Version of the database's schema; 0 for one that Marlin has not written to."""
    tables = connection.execute(
        "SELECT count(*) FROM duckdb_tables() "
        "WHERE table_name = 'schema_versions' AND database_name = current_database()"
    ).fetchone()
    if tables is None or not tables[0]:
        return 0
    newest = connection.execute("SELECT max(version) FROM schema_versions").fetchone()
    return int(newest[0] or 0) if newest else 0


def migrate(
    connection: duckdb.DuckDBPyConnection, migrations: list[Migration] | None = None
) -> list[int]:
    """Apply what is missing, each migration in a transaction; returns the versions applied.

    Raises `SchemaTooNewError`, with nothing changed, when the database has a version that this
    Marlin does not know.
    """
    known = known_migrations() if migrations is None else migrations
    current, newest = schema_version(connection), known[-1].version
    if current > newest:
        raise SchemaTooNewError(
            f"the database has schema version {current}, this Marlin ({__version__}) knows "
            f"{newest}; nothing was changed, upgrade Marlin or use another database"
        )
    missing = [migration for migration in known if migration.version > current]
    for migration in missing:
        _apply(connection, migration)
    return [migration.version for migration in missing]


def _apply(connection: duckdb.DuckDBPyConnection, migration: Migration) -> None:
    connection.begin()
    try:
        connection.execute(migration.sql)
        connection.execute(
            "INSERT INTO schema_versions VALUES (?, ?, ?, now())",
            [migration.version, migration.name, __version__],
        )
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
