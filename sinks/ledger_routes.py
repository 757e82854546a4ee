"""What the owner of the database does for `marlin ledger`, over HTTP, behind its token.

`POST /ledger/sources`, `/ledger/count` and `/ledger/remove` answer JSON; `/ledger/rows` answers an
Arrow stream, which is cut off when it fails on the way. A request that fails is a 400 with
`{"error": …}`.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import duckdb
import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from marlin.errors import MarlinError
from marlin.sinks.arrow import arrow
from marlin.sinks.ledger_rows import RowsOf, read_rows, read_sources
from marlin.sinks.removal import Order, count, remove_piece

__all__ = ["ledger_routes"]

Cursor = Callable[[], duckdb.DuckDBPyConnection]


def ledger_routes(cursor: Cursor) -> list[Route]:
    """Routes for `SqlServer`; `cursor` gives connections beside the sink's own."""

    async def sources(_: Request) -> Response:
        return await run_in_threadpool(_answer, cursor, read_sources)

    async def counted(request: Request) -> Response:
        order = msgspec.json.decode(await request.body(), type=Order)
        return await run_in_threadpool(_answer, cursor, lambda one: count(one, order))

    async def removed(request: Request) -> Response:
        order = msgspec.json.decode(await request.body(), type=Order)
        return await run_in_threadpool(_answer, cursor, lambda one: remove_piece(one, order))

    async def rows(request: Request) -> Response:
        wanted = msgspec.json.decode(await request.body(), type=RowsOf)
        schema, batches = await run_in_threadpool(read_rows, cursor(), wanted)
        return StreamingResponse(_stream(schema, batches))

    return [
        Route(f"/ledger/{name}", _told(endpoint), methods=["POST"])
        for name, endpoint in (
            ("sources", sources),
            ("count", counted),
            ("remove", removed),
            ("rows", rows),
        )
    ]


def _answer(cursor: Cursor, ask: Callable[[duckdb.DuckDBPyConnection], Any]) -> Response:
    with closing(cursor()) as connection:
        return Response(msgspec.json.encode(ask(connection)), media_type="application/json")


def _told(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def telling(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (MarlinError, duckdb.Error, msgspec.MsgspecError) as exc:
            return JSONResponse({"error": str(exc)}, 400)

    return telling


def _stream(schema: Any, batches: Iterator[Any]) -> Iterator[bytes]:
    written = io.BytesIO()
    writer = arrow.ipc.new_stream(written, schema)
    for batch in batches:
        writer.write_batch(batch)
        yield written.getvalue()
        written.seek(0)
        written.truncate()
    writer.close()
    yield written.getvalue()
