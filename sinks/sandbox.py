"""Running somebody's SQL on the database without letting it do anything but read.

Four fences, each enough for most: one statement that only reads; only known table functions;
a read-only transaction; and a connection without access to files, extensions or settings
(`marlin.sinks.database`). Time and rows are limited here, memory for the whole process there.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import duckdb
import orjson
from duckdb.sqltypes import DuckDBPyType

from marlin.errors import QueryError
from marlin.sinks.arrow import ArrowBatch, ArrowReader, ArrowSchema
from marlin.sinks.untyped import is_dict, is_list
from marlin.sinks.values import check_carried

__all__ = ["CHUNK_ROWS", "Params", "Query", "check_statement"]

Params: TypeAlias = Sequence[Any] | Mapping[str, Any] | None

CHUNK_ROWS = 1000
"""Rows that are taken from DuckDB at once."""

_EXPLAIN = re.compile(r"\s*EXPLAIN(\s+ANALYZE)?(\s*\([\w\s,]*\))?\s", re.IGNORECASE)

_TABLE_FUNCTIONS: Final = frozenset(
    [
        "duckdb_columns",
        "duckdb_constraints",
        "duckdb_databases",
        "duckdb_extensions",
        "duckdb_functions",
        "duckdb_indexes",
        "duckdb_keywords",
        "duckdb_memory",
        "duckdb_schemas",
        "duckdb_settings",
        "duckdb_tables",
        "duckdb_temporary_files",
        "duckdb_types",
        "duckdb_views",
        "generate_series",
        "histogram",
        "histogram_values",
        "json_each",
        "json_tree",
        "pg_timezone_names",
        "pragma_database_size",
        "pragma_storage_info",
        "pragma_table_info",
        "pragma_version",
        "range",
        "repeat",
        "repeat_row",
        "unnest",
    ]
)
"""Those that only read this database. Others open files, change settings, or run text as SQL."""

_REFUSED_FUNCTIONS: Final = frozenset({"nextval", "write_log"})
"""Scalar functions that write."""

_HIDDEN: Final = "__ducklake_metadata"
"""How databases begin that are a lake's catalogue: all of its server's tables could be read."""

_INTERRUPT_AGAIN_S = 0.1


def check_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise `QueryError` unless `sql` is one statement that only reads."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as exc:
        raise QueryError(str(exc)) from exc
    if len(statements) != 1:
        raise QueryError(f"expected one statement, found {len(statements)}; nothing was run")
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        explained = _EXPLAIN.match(sql)
        if explained is None:
            raise QueryError("expected EXPLAIN at the very beginning; nothing was run")
        sql = sql[explained.end() :]
    elif kind != duckdb.StatementType.SELECT:
        raise QueryError(
            f"expected SELECT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN, found {kind.name}; queries "
            "only read, nothing was run"
        )
    _check_functions(connection, sql)


def _check_functions(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    parsed = orjson.loads(row[0]) if row else {"error": True}
    if parsed["error"]:
        raise QueryError(f"expected a query that only reads: {parsed.get('error_message')}")
    # A stack, not recursion: how deep SQL nests is up to who wrote it.
    stack: list[tuple[Any, bool]] = [(parsed, False)]
    while stack:
        node, makes_table = stack.pop()
        if is_list(node):
            stack += [(child, False) for child in node]
        elif is_dict(node):
            name = str(node.get("function_name", "")).lower()
            refused = name not in _TABLE_FUNCTIONS if makes_table else name in _REFUSED_FUNCTIONS
            if name and refused:
                raise QueryError(f"function {name} is not available in queries; nothing was run")
            # `a.b` may mean a schema or a database named a.
            for place in (node.get("catalog_name"), node.get("schema_name")):
                if str(place).lower().startswith(_HIDDEN):
                    raise QueryError(f"{place} is not available in queries; nothing was run")
            from_clause = node.get("type") == "TABLE_FUNCTION"
            stack += [(child, from_clause) for child in node.values()]


class Query:
    """One query on a connection of its own. `start`, then `chunks` or `batches`; `close` always.

    The first three raise `QueryError` when it is refused, fails, is stopped, or takes longer than
    `timeout_s` since its start. Not thread-safe, but `stop` may be called from any thread.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        sql: str,
        params: Params = None,
        *,
        max_rows: int,
        timeout_s: float,
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._params = params
        self._max_rows = max_rows
        self._timeout_s = timeout_s
        self._started_s = time.monotonic()
        self._why_stopped: str | None = None
        self._closed = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, daemon=True)
        self.columns: list[tuple[str, DuckDBPyType]] = []
        """Name and type of each column, once it has started."""
        self.rows = 0
        """Rows given so far."""
        self.truncated = False
        """Whether there were more rows than `max_rows`; known when all rows were given."""
        self.schema: ArrowSchema = None
        """Arrow's, once `batches` has begun."""

    def start(self) -> None:
        """Check and execute it. What sorts or sums does most of its work here."""
        self._started_s = time.monotonic()
        self._watchdog.start()
        with self._mapped():
            check_statement(self._connection, self._sql)
            self._connection.execute("BEGIN TRANSACTION READ ONLY")
            self._connection.execute(self._sql, self._params)
            self.columns = [(name, kind) for name, kind, *_ in self._connection.description]

    @property
    def elapsed_s(self) -> float:
        """Time since the query started [s]."""
        return time.monotonic() - self._started_s

    def batches(self) -> Iterator[ArrowBatch]:
        """The rows in Arrow, `max_rows` at most.

        Raises `QueryError` for a column that Arrow would change.
        """
        check_carried(self.columns)
        with self._mapped():
            connection: Any = self._connection  # whose Arrow has no types
            reader: ArrowReader = connection.to_arrow_reader(CHUNK_ROWS)
        self.schema = reader.schema
        while batch := self._next_batch(reader):
            left = self._max_rows - self.rows
            self.truncated = batch.num_rows > left
            if left:
                # In at most `left` rows: the batches of Arrow end where DuckDB's do.
                given = batch.slice(0, left)
                self.rows += given.num_rows
                yield given
            if self.truncated:
                return

    def chunks(self) -> Iterator[list[tuple[Any, ...]]]:
        """The rows as Python values, at most `CHUNK_ROWS` at a time and `max_rows` in all."""
        while self.rows < self._max_rows:
            wanted = min(CHUNK_ROWS, self._max_rows - self.rows)
            chunk = self._fetch(wanted)
            if not chunk:
                return
            self.rows += len(chunk)
            yield chunk
        self.truncated = bool(self._fetch(1))

    def stop(self, why: str) -> None:
        """Interrupt it; it then fails with a `QueryError` that says why."""
        self._why_stopped = self._why_stopped or why
        self._connection.interrupt()

    def close(self) -> None:
        """Give its connection free. May be called more than once."""
        if not self._closed.is_set():
            self._closed.set()
            self._connection.interrupt()
            if self._watchdog.ident is not None:
                self._watchdog.join()
            self._connection.close()

    def _next_batch(self, reader: ArrowReader) -> ArrowBatch | None:
        with self._mapped():
            try:
                return reader.read_next_batch()
            except StopIteration:
                return None

    def _fetch(self, rows: int) -> list[tuple[Any, ...]]:
        with self._mapped():
            return self._connection.fetchmany(rows)

    @contextmanager
    def _mapped(self) -> Generator[None]:
        if self._why_stopped is not None:
            raise QueryError(self._why_stopped)
        try:
            yield
        except duckdb.InterruptException as exc:
            raise QueryError(self._why_stopped or "the query was interrupted") from exc
        # Values that Python cannot hold, such as a year beyond 9999, raise the latter ones; Arrow's
        # reader raises OSError for whatever DuckDB says, its interrupt too.
        except (duckdb.Error, ValueError, OverflowError, RuntimeError, OSError) as exc:
            raise QueryError(self._why_stopped or str(exc)) from exc

    def _watch(self) -> None:
        if self._closed.wait(self._timeout_s):
            return
        why = f"the query was stopped after {self._timeout_s:g} s (MARLIN_SINK__QUERY_TIMEOUT_S)"
        self.stop(why)
        # Again and again: an interrupt between two statements is forgotten by the next one.
        while not self._closed.wait(_INTERRUPT_AGAIN_S):
            self._connection.interrupt()
