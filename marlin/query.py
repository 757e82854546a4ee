"""SQL on Marlin's database, whether the pipeline is running or not."""

from __future__ import annotations

import http.client
import json
import math
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import duckdb
import orjson

from marlin.errors import QueryError
from marlin.settings import Settings
from marlin.sinks.arrow_stream import ARROW_STREAM, Answer, collect, read_stream
from marlin.sinks.database import DatabaseLockedError, open_database
from marlin.sinks.discovery import ServerAddress, find_server
from marlin.sinks.lake.opening import lake_cursor, open_lake
from marlin.sinks.parameters import decode_params, encode_params
from marlin.sinks.sandbox import Params, Query
from marlin.sinks.untyped import is_dict, is_list

__all__ = ["Result", "ask", "numbered", "query"]

_HANDOVER_S = 5.0
"""How long the database may be between two owners: locked, but nobody answers yet [s]."""

_RETRY_S = 0.1
_ANSWER_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a query gave."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    """DuckDB's name of each column's type."""
    rows: list[tuple[Any, ...]]
    """Python values: int, float, str, bool, Decimal, datetime (UTC), date, bytes, list, dict, …"""
    truncated: bool
    """Whether there were more rows than `MARLIN_SINK__QUERY_MAX_ROWS`."""
    elapsed_s: float

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict per row; columns of the same name are numbered, `n`, `n_1`, …"""
        names = numbered(self.columns)
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def to_json(self) -> str:
        """An array with one object per row; times in ISO 8601, decimals and binary as text."""
        return json.dumps([_plain(row) for row in self.to_dicts()], ensure_ascii=False)


def numbered(columns: Iterable[str]) -> list[str]:
    """The names, those that came before numbered: `n`, `n_1`, …"""
    names: list[str] = []
    for column in columns:
        further = (f"{column}_{number}" for number in count(1))
        names.append(
            column if column not in names else next(name for name in further if name not in names)
        )
    return names


def query(
    sql: str,
    params: Params = None,
    *,
    settings: Settings | None = None,
    max_rows: int | None = None,
) -> Result:
    """Run one query that only reads; `?` or `$name` in it stand for `params`.

    Asks the process that owns the database, if one runs, else opens the database read-only. Raises
    `QueryError` when there is no database, or the query is refused, fails or takes too long;
    `SinkError` when another program has the file, or the lake cannot be reached.
    """
    answer = ask(sql, params, settings=settings, max_rows=max_rows)
    names = tuple(name for name, _ in answer.columns)
    types = tuple(kind for _, kind in answer.columns)
    return Result(names, types, answer.rows(), answer.truncated, answer.elapsed_s)


def ask(
    sql: str,
    params: Params = None,
    *,
    settings: Settings | None = None,
    max_rows: int | None = None,
) -> Answer:
    """What `query` does, with the rows left in Arrow."""
    used = settings or Settings()
    limit = min(max_rows or used.sink.query_max_rows, used.sink.query_max_rows)
    encoded = encode_params(params)
    deadline = time.monotonic() + _HANDOVER_S
    while True:
        # A lake has no owner: every process reads it itself.
        owner = None if used.sink.lake_catalog else find_server(used.database_path)
        if owner:
            # Refused: it has just stopped, or left its address behind in a crash.
            with suppress(ConnectionRefusedError):
                question = {"sql": sql, "params": encoded, "max_rows": limit}
                return _ask_owner(owner, question, used.sink.query_timeout_s)
        try:
            # Decoded again, so that both ways give the query the very same values.
            return _read(used, sql, decode_params(encoded), limit)
        except DatabaseLockedError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_S)


def _open(settings: Settings) -> duckdb.DuckDBPyConnection:
    """The database, sandboxed and only to be read. Raises `DatabaseLockedError`, `QueryError`."""
    if settings.sink.lake_catalog:
        return open_lake(settings.sink, read_only=True)
    database = settings.database_path
    if not database.exists():
        raise QueryError(
            f"there is no database at {database}; start the pipeline with `marlin up`, try "
            "`marlin demo`, or set MARLIN_SINK__DATABASE"
        )
    return open_database(database, read_only=True, limits=settings.sink)


def _read(settings: Settings, sql: str, params: Params, max_rows: int) -> Answer:
    """Open the database for as long as the query runs."""
    connection = _open(settings)
    try:
        asked = Query(
            lake_cursor(connection) if settings.sink.lake_catalog else connection.cursor(),
            sql,
            params,
            max_rows=max_rows,
            timeout_s=settings.sink.query_timeout_s,
        )
        try:
            asked.start()
            return collect(asked)
        finally:
            asked.close()
    finally:
        connection.close()


def _ask_owner(owner: ServerAddress, question: dict[str, Any], timeout_s: float) -> Answer:
    address = urlsplit(owner.url)
    http_connection = http.client.HTTPConnection(
        address.hostname or "", address.port, timeout=timeout_s + _ANSWER_GRACE_S
    )
    headers = {
        "Authorization": f"Bearer {owner.token}",
        "Content-Type": "application/json",
        "Accept": ARROW_STREAM,
    }
    try:
        http_connection.request("POST", "/sql", orjson.dumps(question), headers)
        with http_connection.getresponse() as response:
            if response.status != http.client.OK:
                raise QueryError(_refusal(response.read()))
            return read_stream(response)
    except ConnectionRefusedError:
        raise
    except (EOFError, http.client.IncompleteRead) as exc:
        raise QueryError(
            f"the sink at {owner.url} (process {owner.pid}) stopped while it answered"
        ) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise QueryError(
            f"the sink at {owner.url} (process {owner.pid}) did not answer: {exc!r}"
        ) from exc
    finally:
        http_connection.close()


def _refusal(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")


def _plain(value: Any) -> Any:
    """The value in types that every JSON reader knows."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime, date, time_of_day)):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if is_dict(value):
        return {str(key): _plain(item) for key, item in value.items()}
    if is_list(value):
        return [_plain(item) for item in value]
    return str(value)
