"""An answer as an Arrow IPC stream, in which an interrupted one never looks complete.

The schema's metadata has `marlin.columns`, a JSON list of `[name, DuckDB type]`. The stream ends
with a batch of no rows whose own metadata has `marlin.end`: `{"rows", "truncated", "elapsed_s"}`.
A query that fails on the way ends with a batch that has `marlin.error`, its message, and then in
the middle of a message, so that readers that know nothing of Marlin fail as well.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from marlin.errors import QueryError
from marlin.sinks.arrow import ArrowTable, arrow
from marlin.sinks.sandbox import Query
from marlin.sinks.values import parse_type, rows_of

__all__ = ["ARROW_STREAM", "Answer", "collect", "read_stream", "write_stream"]

ARROW_STREAM = "application/vnd.apache.arrow.stream"
"""The media type."""

_COLUMNS, _END, _ERROR = b"marlin.columns", b"marlin.end", b"marlin.error"

_CUT_OFF = b"\xff\xff\xff\xff\x08\x00\x00\x00"
"""Begins a message of eight bytes, of which none follow."""


@dataclass(frozen=True)
class Answer:
    """What a query gave, all of it."""

    table: ArrowTable
    columns: tuple[tuple[str, str], ...]
    """Name of each column, and DuckDB's name of its type."""
    truncated: bool
    """Whether there were more rows than may be given."""
    elapsed_s: float

    def rows(self, begin: int = 0, count: int | None = None) -> list[tuple[Any, ...]]:
        """Rows of Python values, `count` from `begin` on or all."""
        return rows_of(self.table.slice(begin, count), self._kinds)

    @cached_property
    def _kinds(self) -> list[Any]:
        return [parse_type(kind) for _, kind in self.columns]


def collect(query: Query) -> Answer:
    """The whole answer of a query that has started. Raises `QueryError`."""
    batches = list(query.batches())
    schema = query.schema
    columns = tuple((name, str(kind)) for name, kind in query.columns)
    table = arrow.Table.from_batches(batches, schema)
    return Answer(table, columns, query.truncated, query.elapsed_s)


def write_stream(query: Query) -> Iterator[bytes]:
    """The stream in pieces, the first with the first rows. An error up to there is raised."""
    batches = query.batches()
    batch = next(batches, None)
    columns = [[name, str(kind)] for name, kind in query.columns]
    schema = query.schema.with_metadata({_COLUMNS: orjson.dumps(columns)})
    sink = io.BytesIO()
    writer = arrow.ipc.new_stream(sink, schema)
    nothing = arrow.record_batch([arrow.nulls(0, one.type) for one in schema], schema=schema)
    try:
        while batch is not None:
            writer.write_batch(batch)
            yield _take(sink)
            batch = next(batches, None)
    except QueryError as exc:
        writer.write_batch(nothing, custom_metadata={_ERROR: str(exc)})
        yield _take(sink) + _CUT_OFF
        return
    told = {"rows": query.rows, "truncated": query.truncated, "elapsed_s": query.elapsed_s}
    writer.write_batch(nothing, custom_metadata={_END: orjson.dumps(told)})
    writer.close()
    yield _take(sink)


def read_stream(source: Any) -> Answer:
    """The answer that a binary file holds.

    Raises `QueryError` with the message of a query that failed, `EOFError` when the stream was
    interrupted, and what `source` raises.
    """
    batches: list[Any] = []
    try:
        reader = arrow.ipc.open_stream(source)
        while True:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
            told = dict(metadata or {})
            if _ERROR in told:
                raise QueryError(told[_ERROR].decode())
            if _END in told:
                break
            batches.append(batch)
    except (StopIteration, arrow.ArrowInvalid, OSError) as exc:
        if isinstance(exc, OSError) and type(exc) is not OSError:
            raise  # of the source: Arrow's own is a plain one
        raise EOFError("the answer was interrupted") from exc
    schema = reader.schema
    columns = tuple((name, kind) for name, kind in orjson.loads(schema.metadata[_COLUMNS]))
    end = orjson.loads(told[_END])
    table = arrow.Table.from_batches(batches, schema).replace_schema_metadata(None)
    return Answer(table, columns, end["truncated"], end["elapsed_s"])


def _take(sink: io.BytesIO) -> bytes:
    """What was written since the last time."""
    written = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return written
