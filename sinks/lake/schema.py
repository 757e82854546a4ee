"""Bringing a lake to the schema of this Marlin.

The migrations of `sinks/sql` say what a DuckDB file looks like; a lake looks the same to whoever
queries it. So its schema is read off an empty DuckDB that went through them: tables that are only
appended to are tables here, too, those that a file updates in place are views on part tables
(`marlin.sinks.lake.parts`), and views and macros are copied.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    with duckdb.connect(":memory:") as model:
        migrate(model)
        for statement in _statements(connection, model):
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


def _statements(
    connection: duckdb.DuckDBPyConnection, model: duckdb.DuckDBPyConnection
) -> Iterator[str]:
    existing = {name for (name,) in _rows(connection, "SELECT table_name FROM duckdb_tables()")}
    yield "CREATE SCHEMA IF NOT EXISTS parts"
    yield from parts.tables().values()
    for table, comment, sql in _rows(
        model, "SELECT table_name, comment, sql FROM duckdb_tables() ORDER BY table_oid"
    ):
        if table in parts.VIEWS:
            yield _view(model, table)
            yield f"COMMENT ON VIEW {table} IS {_text(comment)}"
            continue
        yield from _missing_columns(connection, model, table) if table in existing else [sql]
        yield f"COMMENT ON TABLE {table} IS {_text(comment)}"
        yield from _column_comments(model, table)
    if "events" not in existing:
        yield f"ALTER TABLE events SET PARTITIONED BY ({_DAY})"
    yield from _macros(model)
    for view, comment, sql in _rows(
        model,
        "SELECT view_name, comment, sql FROM duckdb_views() WHERE NOT internal ORDER BY view_oid",
    ):
        yield sql.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1)
        yield f"COMMENT ON VIEW {view} IS {_text(comment)}"


def _view(model: duckdb.DuckDBPyConnection, table: str) -> str:
    columns = ", ".join(f'"{name}"::{kind} AS "{name}"' for name, kind, _ in _columns(model, table))
    return f"CREATE OR REPLACE VIEW {table} AS SELECT {columns} FROM ({parts.VIEWS[table]})"


def _missing_columns(
    connection: duckdb.DuckDBPyConnection, model: duckdb.DuckDBPyConnection, table: str
) -> Iterator[str]:
    existing = {name for name, *_ in _columns(connection, table)}
    for name, kind, _ in _columns(model, table):
        if name not in existing:
            yield f'ALTER TABLE {table} ADD COLUMN "{name}" {kind}'


def _column_comments(model: duckdb.DuckDBPyConnection, table: str) -> Iterator[str]:
    for name, _, comment in _columns(model, table):
        if comment:
            yield f'COMMENT ON COLUMN {table}."{name}" IS {_text(comment)}'


def _macros(model: duckdb.DuckDBPyConnection) -> Iterator[str]:
    for name, kind, parameters, body in _rows(
        model,
        "SELECT function_name, function_type, parameters, macro_definition "
        "FROM duckdb_functions() WHERE NOT internal ORDER BY function_oid",
    ):
        what = "TABLE " if kind == "table_macro" else ""
        yield f"CREATE OR REPLACE MACRO {name}({', '.join(parameters)}) AS {what}{body}"


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str, str]]:
    return connection.execute(
        "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE table_name = ? "
        "AND schema_name = 'main' AND database_name = current_database() ORDER BY column_index",
        [table],
    ).fetchall()


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[str, ...]]:
    return connection.execute(sql).fetchall()


def _text(value: str | None) -> str:
    return "'" + (value or "").replace("'", "''") + "'"
