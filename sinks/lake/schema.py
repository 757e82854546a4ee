"""Bringing a lake to the schema of this Marlin.

The migrations of `sinks/sql` say what a DuckDB file looks like; a lake looks the same to whoever
queries it. So its schema is read off an empty DuckDB that went through them: tables that are only
appended to are tables here, too, those that a file updates in place are views on part tables
(`marlin.sinks.lake.parts`), and views and macros are copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import duckdb

from marlin import __version__
from marlin.errors import SchemaTooNewError
from marlin.sinks.lake import parts
from marlin.sinks.migrations import known_migrations, migrate, schema_version

__all__ = ["is_current", "make_schema", "seed_turns"]

_DAY = "year(event_time), month(event_time), day(event_time)"


def is_current(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the lake has this Marlin's schema.

    Raises `SchemaTooNewError`, with nothing changed, when a newer Marlin wrote it.
    """
    current, newest = schema_version(connection), known_migrations()[-1].version
    if current > newest:
        raise SchemaTooNewError(
            f"the lake has schema version {current}, this Marlin ({__version__}) knows {newest}; "
            "nothing was changed, upgrade Marlin or use another lake"
        )
    return current == newest


def make_schema(connection: duckdb.DuckDBPyConnection) -> None:
    """Add what is missing. Inside of a transaction."""
    for statement in _statements(connection, _shape()):
        connection.execute(statement)
    current = schema_version(connection)
    for version, name, _ in known_migrations():
        if version > current:
            connection.execute(
                "INSERT INTO schema_versions VALUES (?, ?, ?, now())", [version, name, __version__]
            )


def seed_turns(connection: duckdb.DuckDBPyConnection) -> None:
    """Give every slot its row, for conflicts are between changes of rows.

    In a transaction of its own after `make_schema`: rows of a table that is not committed yet
    would become files. Two sinks that do this at once give two rows, which change together.
    """
    if connection.execute("FROM parts.turns_sources").fetchone() is None:
        for name in parts.tables():
            if name.startswith("turns_"):
                connection.execute(f"INSERT INTO parts.{name} VALUES (0)")


class _Table(NamedTuple):
    name: str
    comment: str
    sql: str
    columns: tuple[tuple[str, str, str], ...]
    """Name, type and comment of each."""


class _Shape(NamedTuple):
    """What a DuckDB file of this Marlin looks like."""

    tables: tuple[_Table, ...]
    views: tuple[tuple[str, str, str], ...]
    """Name, comment and SQL of each, in the order in which they can be made."""
    macros: tuple[tuple[str, str, list[str], str], ...]
    """Name, kind, parameters and body of each."""


@cache
def _shape() -> _Shape:
    with duckdb.connect(":memory:") as model:
        migrate(model)
        tables = _rows(
            model, "SELECT table_name, comment, sql FROM duckdb_tables() ORDER BY table_oid"
        )
        views = _rows(
            model,
            "SELECT view_name, comment, sql FROM duckdb_views() WHERE NOT internal "
            "ORDER BY view_oid",
        )
        macros = _rows(
            model,
            "SELECT function_name, function_type, parameters, macro_definition "
            "FROM duckdb_functions() WHERE NOT internal ORDER BY function_oid",
        )
        return _Shape(
            tuple(
                _Table(name, comment, sql, tuple(_columns(model, name)))
                for name, comment, sql in tables
            ),
            tuple(views),
            tuple(macros),
        )


def _statements(connection: duckdb.DuckDBPyConnection, shape: _Shape) -> Iterator[str]:
    existing = {name for (name,) in _rows(connection, "SELECT table_name FROM duckdb_tables()")}
    yield "CREATE SCHEMA IF NOT EXISTS parts"
    yield from parts.tables().values()
    for table in shape.tables:
        if table.name in parts.VIEWS:
            yield _view(table)
            yield f"COMMENT ON VIEW {table.name} IS {_text(table.comment)}"
            continue
        yield from _missing_columns(connection, table) if table.name in existing else [table.sql]
        yield f"COMMENT ON TABLE {table.name} IS {_text(table.comment)}"
        for name, _, comment in table.columns:
            yield f'COMMENT ON COLUMN {table.name}."{name}" IS {_text(comment)}'
    if "events" not in existing:
        yield f"ALTER TABLE events SET PARTITIONED BY ({_DAY})"
    for name, kind, parameters, body in shape.macros:
        what = "TABLE " if kind == "table_macro" else ""
        yield f"CREATE OR REPLACE MACRO {name}({', '.join(parameters)}) AS {what}{body}"
    for view, comment, sql in shape.views:
        yield sql.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1)
        yield f"COMMENT ON VIEW {view} IS {_text(comment)}"


def _view(table: _Table) -> str:
    columns = ", ".join(f'"{name}"::{kind} AS "{name}"' for name, kind, _ in table.columns)
    return (
        f"CREATE OR REPLACE VIEW {table.name} AS SELECT {columns} FROM ({parts.VIEWS[table.name]})"
    )


def _missing_columns(connection: duckdb.DuckDBPyConnection, table: _Table) -> Iterator[str]:
    existing = {name for name, *_ in _columns(connection, table.name)}
    for name, kind, _ in table.columns:
        if name not in existing:
            yield f'ALTER TABLE {table.name} ADD COLUMN "{name}" {kind}'


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str, str]]:
    return connection.execute(
        "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE table_name = ? "
        "AND schema_name = 'main' AND database_name = current_database() ORDER BY column_index",
        [table],
    ).fetchall()


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


def _text(value: str | None) -> str:
    return "'" + (value or "").replace("'", "''") + "'"
