"""Reaching the ledger whether the sink runs or not: through its process, or by opening the file."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import duckdb
import msgspec

from marlin.errors import ConfigurationError, QueryError, SinkError
from marlin.settings import Settings
from marlin.sinks.arrow import arrow
from marlin.sinks.database import DatabaseLockedError, open_database
from marlin.sinks.discovery import ServerAddress, find_server
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.ledger_rows import RowsOf, Source, read_rows, read_sources
from marlin.sinks.removal import DayCount, Order, count, remove_piece

__all__ = ["LedgerAccess", "open_ledger"]

_HANDOVER_S = 5.0
"""How long the database may be between two owners: locked, but nobody answers yet [s]."""

_RETRY_S = 0.1
_ANSWER_S = 600.0
"""Longest that the owner may take for one answer [s]."""

T = TypeVar("T")


class LedgerAccess(Protocol):
    """What can be done. All raise `SinkError` when it fails."""

    def sources(self) -> list[Source]:
        """See `read_sources`."""
        ...

    def count(self, order: Order) -> list[DayCount]:
        """See `marlin.sinks.removal.count`."""
        ...

    def remove_piece(self, order: Order) -> list[DayCount]:
        """See `marlin.sinks.removal.remove_piece`."""
        ...

    def rows(self, wanted: RowsOf) -> tuple[Any, Iterator[Any]]:
        """See `read_rows`."""
        ...


@contextmanager
def open_ledger(settings: Settings, *, writes: bool) -> Generator[LedgerAccess]:
    """Access inside the block; `writes`: rows may be removed.

    While nothing else runs the file is open, so that a sink cannot start. Raises `QueryError` when
    there is no database, `SinkError` when another program has it, `ConfigurationError` for a lake.
    """
    if settings.sink.lake_catalog is not None:
        raise ConfigurationError(
            "a DuckLake (MARLIN_SINK__LAKE_CATALOG) keeps its ledger as Parquet already; this is "
            "for the DuckDB file, nothing was done"
        )
    database = settings.database_path
    deadline = time.monotonic() + _HANDOVER_S
    while True:
        owner = find_server(database)
        if owner is not None:
            asked = _Owner(owner)
            # Refused: it has just stopped, or left its address behind in a crash.
            with suppress(ConnectionRefusedError):
                asked.sources()
                yield asked
                return
        try:
            opened = _open(database, settings, writes)
        except DatabaseLockedError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_S)
            continue
        with closing(opened):
            yield _File(opened.cursor)
        return


def _open(
    database: Path, settings: Settings, writes: bool
) -> DuckDBSink | duckdb.DuckDBPyConnection:
    if not database.exists():
        raise QueryError(
            f"there is no database at {database}; start the pipeline with `marlin up`, try "
            "`marlin demo`, or set MARLIN_SINK__DATABASE"
        )
    if writes:  # as the sink does, so that the schema is this Marlin's
        return DuckDBSink(database, limits=settings.sink)
    return open_database(database, read_only=True, limits=settings.sink)


class _File:
    """The file, opened by this process."""

    def __init__(self, cursor: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        self._cursor = cursor

    def sources(self) -> list[Source]:
        return self._ask(read_sources)

    def count(self, order: Order) -> list[DayCount]:
        return self._ask(lambda connection: count(connection, order))

    def remove_piece(self, order: Order) -> list[DayCount]:
        return self._ask(lambda connection: remove_piece(connection, order))

    def rows(self, wanted: RowsOf) -> tuple[Any, Iterator[Any]]:
        return read_rows(self._cursor(), wanted)

    def _ask(self, ask: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        with closing(self._cursor()) as connection:
            try:
                return ask(connection)
            except duckdb.Error as exc:
                raise SinkError(f"the ledger could not be read: {exc}; nothing was done") from exc


class _Owner:
    """The process that owns the database, over HTTP."""

    def __init__(self, owner: ServerAddress) -> None:
        self._owner = owner

    def sources(self) -> list[Source]:
        return self._ask("sources", None, list[Source])

    def count(self, order: Order) -> list[DayCount]:
        return self._ask("count", order, list[DayCount])

    def remove_piece(self, order: Order) -> list[DayCount]:
        return self._ask("remove", order, list[DayCount])

    def rows(self, wanted: RowsOf) -> tuple[Any, Iterator[Any]]:
        held = self._posted("rows", wanted)
        with self._mapped():
            reader = arrow.ipc.open_stream(held.__enter__())
        return reader.schema, self._batches(held, reader)

    def _batches(self, held: Any, reader: Any) -> Iterator[Any]:
        try:
            with self._mapped():
                yield from reader
        finally:
            held.__exit__(None, None, None)

    def _ask(self, path: str, question: object, kind: type[T]) -> T:
        with self._posted(path, question) as response, self._mapped():
            return msgspec.json.decode(response.read(), type=kind)

    @contextmanager
    def _posted(self, path: str, question: object) -> Generator[http.client.HTTPResponse]:
        address = urlsplit(self._owner.url)
        connection = http.client.HTTPConnection(
            address.hostname or "", address.port, timeout=_ANSWER_S
        )
        with closing(connection):
            with self._mapped():
                connection.request(
                    "POST",
                    f"/ledger/{path}",
                    body=msgspec.json.encode(question),
                    headers={"Authorization": f"Bearer {self._owner.token}"},
                )
                response = connection.getresponse()
                if response.status != http.client.OK:
                    raise SinkError(_refusal(response.read()))
            yield response

    @contextmanager
    def _mapped(self) -> Generator[None]:
        try:
            yield
        except ConnectionRefusedError:
            raise
        except (OSError, http.client.HTTPException, arrow.ArrowInvalid, ValueError) as exc:
            raise SinkError(
                f"the sink at {self._owner.url} (process {self._owner.pid}) did not answer to the "
                f"end: {exc!r}; try again"
            ) from exc


def _refusal(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")
