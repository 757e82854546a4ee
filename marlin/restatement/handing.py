"""Reading the ledger and writing to it, whether a sink runs or not."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import orjson

from marlin.errors import ConfigurationError, DataError, SinkError
from marlin.query import ask
from marlin.restatement.core import Restatement
from marlin.restatement.wire import pack
from marlin.settings import Settings
from marlin.sinks.arrow_stream import Answer
from marlin.sinks.database import DatabaseLockedError
from marlin.sinks.discovery import ServerAddress, find_server
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.restate_route import PATH

__all__ = ["AskingReader", "hand_over", "refuse_lake"]

_HANDOVER_S = 5.0
"""How long the database may be between two owners [s]."""

_RETRY_S = 0.1
_ANSWER_S = 600.0
"""How long the owner may take: it first stores the batch that it is at [s]."""


def refuse_lake(settings: Settings) -> None:
    """Raises `ConfigurationError` where a lake is configured: it cannot be restated yet."""
    if settings.sink.lake_catalog is not None:
        raise ConfigurationError(
            "a lake cannot be restated yet, only a DuckDB file; nothing was done. Unset "
            "MARLIN_SINK__LAKE_CATALOG to restate a file"
        )


class AskingReader:
    """Asks the owner of the database, or opens it for each query: see `marlin.query.ask`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def execute(self, query: str, parameters: Mapping[str, Any] | None = None, /) -> _Answered:
        """Raises `QueryError` as `ask` does, `DataError` when an answer was cut off."""
        answer = ask(query, parameters, settings=self._settings)
        if answer.truncated:
            raise DataError(
                f"one run has more than {answer.table.num_rows:,} calls in an hour, which is all "
                "that a query may give (MARLIN_SINK__QUERY_MAX_ROWS); nothing was computed"
            )
        return _Answered(answer)


class _Answered:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._answer.rows(0, None)

    def to_arrow_reader(self, rows: int) -> Any:
        return self._answer.table.to_reader(rows)


def hand_over(restatement: Restatement, settings: Settings) -> int:
    """Write it through the process that owns the database, or directly; the rows written [count].

    The same restatement may be handed over again: it is written once. Raises `SinkError`, with
    nothing written, when it is refused; when the owner does not answer, that is said, and handing
    it over again is safe.
    """
    refuse_lake(settings)
    database, deadline = settings.database_path, time.monotonic() + _HANDOVER_S
    body = pack(restatement)
    while True:
        owner = find_server(database)
        if owner:
            # Refused: it has just stopped, or left its address behind in a crash.
            with suppress(ConnectionRefusedError):
                return _post(owner, body)
        try:
            with DuckDBSink(database, limits=settings.sink) as sink:
                return sink.adjust(restatement)
        except DatabaseLockedError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_S)


def _post(owner: ServerAddress, body: bytes) -> int:
    address = urlsplit(owner.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_ANSWER_S)
    try:
        connection.request("POST", PATH, body, {"Authorization": f"Bearer {owner.token}"})
        response = connection.getresponse()
        answer = orjson.loads(response.read())
    except ConnectionRefusedError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise SinkError(
            f"the sink at {owner.url} (process {owner.pid}) did not answer: {exc!r}; look whether "
            "the restatement is there before you make it again (`FROM restatements`)"
        ) from exc
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise SinkError(str(answer.get("error", f"the sink answered {response.status}")))
    return int(answer["adjustments"])
