"""`marlin.connect()`: Marlin's database from Python, in the manner of DuckDB and of DB-API 2.

    with marlin.connect() as connection:
        frame = connection.sql("SELECT * FROM daily_footprint").df()

It holds nothing open: each query is asked of the process that owns the database, if one runs, and
else opens the database read-only for as long as it takes. The results are the same either way.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from marlin.errors import ConfigurationError, QueryError
from marlin.settings import Settings

if TYPE_CHECKING:
    # Only then: the SDK, which has this in its public list, installs without DuckDB and Arrow.
    import pandas

    from marlin.sinks.arrow import ArrowTable
    from marlin.sinks.arrow_stream import Answer
    from marlin.sinks.sandbox import Params

__all__ = ["Connection", "Cursor", "connect"]

_Described: TypeAlias = tuple[str, str, None, None, None, None, None]

_ROWS_AT_ONCE = 1000
"""Rows made Python values at a time while a cursor is iterated over."""


def connect(database: str | Path | None = None, *, settings: Settings | None = None) -> Connection:
    """A connection to query Marlin's database with; nothing is opened or asked yet.

    `database` is another file than the configured one, `settings` are others than the
    environment's. Raises `ConfigurationError` where DuckDB or Arrow is not installed.
    """
    for needed in ("duckdb", "pyarrow"):
        if find_spec(needed) is None:
            raise ConfigurationError(
                f"queries need {needed}, which is not installed; nothing was opened: `pip install "
                "'marlin-carbon[pipeline]'`"
            )
    used = settings or Settings()
    if database is not None:
        sink = used.sink.model_copy(update={"database": Path(database)})
        used = used.model_copy(update={"sink": sink})
    return Connection(used)


class Cursor:
    """One query and its result, which is here as a whole once `execute` returns.

    Not more than `MARLIN_SINK__QUERY_MAX_ROWS` rows come; that some were left out is a warning,
    and `truncated`. Every method raises `QueryError` after `close`, and those that read the
    result before `execute`.
    """

    def __init__(self, settings: Settings) -> None:
        self.arraysize = 1
        """How many rows `fetchmany` gives when it is not told."""
        self._settings = settings
        self._answer: Answer | None = None
        self._closed = False
        self._next_row = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The rows that were not fetched yet."""
        while rows := self.fetchmany(_ROWS_AT_ONCE):
            yield from rows

    def execute(self, sql: str, params: Params = None) -> Self:
        """Run one query that only reads; `?` or `$name` in it stand for `params`.

        Raises `QueryError` when there is no database, or the query is refused, fails or takes too
        long; `SinkError` when another program has the file.
        """
        from marlin.query import ask

        self._check_open()
        self._answer, self._next_row = None, 0
        answer = self._answer = ask(sql, params, settings=self._settings)
        if answer.truncated:
            warnings.warn(
                f"only the first {answer.table.num_rows} rows were read "
                "(MARLIN_SINK__QUERY_MAX_ROWS)",
                stacklevel=2,
            )
        return self

    @property
    def description(self) -> list[_Described] | None:
        """Name and DuckDB type of each column; None before `execute`."""
        if self._answer is None:
            return None
        return [(name, kind, None, None, None, None, None) for name, kind in self._answer.columns]

    @property
    def rowcount(self) -> int:
        """Rows of the result; -1 before `execute`."""
        return -1 if self._answer is None else self._answer.table.num_rows

    @property
    def truncated(self) -> bool:
        """Whether there were more rows than may be read."""
        return self._result.truncated

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; None after the last."""
        return next(iter(self.fetchmany(1)), None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """The next rows, `size` or `arraysize` of them as far as there are."""
        return self._fetch(self.arraysize if size is None else size)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that were not fetched yet."""
        return self._fetch(None)

    def arrow(self) -> ArrowTable:
        """The whole result as a `pyarrow.Table`, whatever was fetched."""
        return self._result.table

    fetch_arrow_table = arrow

    def df(self) -> pandas.DataFrame:
        """The whole result as a pandas frame, whatever was fetched; as in DuckDB, decimals and
        sums of integers are floats, and columns of the same name are numbered.

        Raises `ConfigurationError` where pandas is not installed.
        """
        if find_spec("pandas") is None:
            raise ConfigurationError(
                "a result as a data frame needs pandas, which is not installed: `pip install "
                "pandas`; or take it as Arrow, with `arrow()`"
            )
        from marlin.query import numbered
        from marlin.sinks.arrow import arrow

        table = self._result.table
        columns = [
            column.cast(arrow.float64()) if arrow.types.is_decimal(column.type) else column
            for column in table.columns
        ]
        names = numbered(name for name, _ in self._result.columns)
        frame: pandas.DataFrame = arrow.table(columns, names=names).to_pandas(date_as_object=False)
        return frame

    def close(self) -> None:
        """Forget the result. May be called more than once."""
        self._closed, self._answer = True, None

    def _fetch(self, size: int | None) -> list[tuple[Any, ...]]:
        rows = self._result.rows(self._next_row, size)
        self._next_row += len(rows)
        return rows

    @property
    def _result(self) -> Answer:
        self._check_open()
        if self._answer is None:
            raise QueryError("there is no result: a query has to be executed first")
        return self._answer

    def _check_open(self) -> None:
        if self._closed:
            raise QueryError("it was closed; connect again")


class Connection:
    """Where queries are run. Each has a cursor of its own; threads may share the connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def cursor(self) -> Cursor:
        """A cursor to execute queries with, one after another."""
        if self._closed:
            raise QueryError("the connection was closed; connect again")
        return Cursor(self._settings)

    def execute(self, sql: str, params: Params = None) -> Cursor:
        """Run one query; see `Cursor.execute`."""
        return self.cursor().execute(sql, params)

    def sql(self, sql: str, *, params: Params = None) -> Cursor:
        """The same, spelled as DuckDB does."""
        return self.cursor().execute(sql, params)

    def close(self) -> None:
        """Refuse further queries. Results that are here stay."""
        self._closed = True
