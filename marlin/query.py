"""SQL on Marlin's database, whether the pipeline is running or not."""

from __future__ import annotations

import http.client
import json
import math
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from marlin.errors import QueryError
from marlin.settings import Settings, SinkSettings
from marlin.sinks.database import DatabaseLockedError, open_database
from marlin.sinks.discovery import ServerAddress, find_server
from marlin.sinks.rows import decoders, encoders, parse_type, through
from marlin.sinks.sandbox import Params, Query
from marlin.sinks.untyped import is_dict, is_list

__all__ = ["Result", "query"]

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
        names: list[str] = []
        for column in self.columns:
            numbered = (f"{column}_{number}" for number in count(1))
            names.append(
                column
                if column not in names
                else next(name for name in numbered if name not in names)
            )
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def to_json(self) -> str:
        """An array with one object per row; times in ISO 8601, decimals and binary as text."""
        return json.dumps([_plain(row) for row in self.to_dicts()], ensure_ascii=False)


def query(
    sql: str,
    params: Params = None,
    *,
    settings: Settings | None = None,
    max_rows: int | None = None,
) -> Result:
    """Run one query that only reads; `?` or `$name` in it stand for `params`.

    Asks the process that owns the database, if one runs, else opens the file read-only. Raises
    `QueryError` when there is no database, or the query is refused, fails or takes too long;
    `SinkError` when another program has the file.
    """
    used = settings or Settings()
    limit = min(max_rows or used.sink.query_max_rows, used.sink.query_max_rows)
    database, timeout_s = used.database_path, used.sink.query_timeout_s
    deadline = time.monotonic() + _HANDOVER_S
    while True:
        owner = find_server(database)
        if owner:
            # Refused: it has just stopped, or left its address behind in a crash.
            with suppress(ConnectionRefusedError):
                return _ask(owner, sql, params, limit, timeout_s)
        try:
            return _open(database, sql, params, limit, used.sink)
        except DatabaseLockedError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_S)


def _open(database: Path, sql: str, params: Params, max_rows: int, limits: SinkSettings) -> Result:
    if not database.exists():
        raise QueryError(
            f"there is no database at {database}; start the pipeline with `marlin up`, try "
            "`marlin demo`, or set MARLIN_SINK__DATABASE"
        )
    connection = open_database(database, read_only=True, limits=limits)
    try:
        asked = Query(
            connection.cursor(),
            sql,
            params,
            max_rows=max_rows,
            timeout_s=limits.query_timeout_s,
        )
        try:
            asked.start()
            kinds = [kind for _, kind in asked.columns]
            # Through JSON's types and back, so that both ways give the very same values.
            encode, decode = encoders(kinds), decoders(kinds)
            rows = [
                tuple(row)
                for chunk in asked.chunks()
                for row in through(decode, through(encode, chunk))
            ]
            names = tuple(name for name, _ in asked.columns)
            types = tuple(str(kind) for kind in kinds)
            return Result(names, types, rows, asked.truncated, asked.elapsed_s)
        finally:
            asked.close()
    finally:
        connection.close()


def _ask(owner: ServerAddress, sql: str, params: Params, max_rows: int, timeout_s: float) -> Result:
    lines = _lines(owner, {"sql": sql, "params": params, "max_rows": max_rows}, timeout_s)
    columns = next(lines)["columns"]
    decode = decoders([parse_type(kind) for _, kind in columns])
    rows: list[tuple[Any, ...]] = []
    for line in lines:
        if is_list(line):
            rows += [tuple(row) for row in through(decode, line)]
        elif "error" in line:
            raise QueryError(line["error"])
        else:
            names, types = zip(*columns, strict=True)
            return Result(names, types, rows, line["truncated"], line["elapsed_s"])
    raise QueryError(f"the sink at {owner.url} (process {owner.pid}) stopped while it answered")


def _lines(owner: ServerAddress, question: dict[str, Any], timeout_s: float) -> Iterator[Any]:
    address = urlsplit(owner.url)
    http_connection = http.client.HTTPConnection(
        address.hostname or "", address.port, timeout=timeout_s + _ANSWER_GRACE_S
    )
    try:
        yield from _exchange(http_connection, owner, question)
    except ConnectionRefusedError:
        raise
    except (OSError, http.client.HTTPException) as exc:
        raise QueryError(
            f"the sink at {owner.url} (process {owner.pid}) did not answer: {exc!r}"
        ) from exc
    finally:
        http_connection.close()


def _exchange(
    http_connection: http.client.HTTPConnection, owner: ServerAddress, question: dict[str, Any]
) -> Generator[Any]:
    http_connection.request(
        "POST",
        "/sql",
        body=orjson.dumps(question, default=str),
        headers={"Authorization": f"Bearer {owner.token}", "Content-Type": "application/json"},
    )
    response = http_connection.getresponse()
    if response.status != http.client.OK:
        raise QueryError(_refusal(response.read()))
    for line in response:
        yield orjson.loads(line)


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
