"""Read-only SQL over HTTP on loopback, from the process that owns the database.

`POST /sql` with `Authorization: Bearer <token>` and `{"sql": …, "params": …, "max_rows": …}`.
The answer is JSON lines: `{"columns": [[name, type], …]}`, then arrays of rows, then
`{"rows": n, "truncated": …, "elapsed_s": …}`, or `{"error": …}` if it failed on the way. A query
that is refused is a 400 with `{"error": …}`. With `Accept: application/vnd.apache.arrow.stream`
it is an Arrow stream instead (`marlin.sinks.arrow_stream`); a refusal is the same.

The owner may add routes of its own, behind the same token.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
import sys
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from marlin.errors import QueryError
from marlin.settings import SinkSettings
from marlin.sinks.arrow_stream import ARROW_STREAM, write_stream
from marlin.sinks.discovery import ServerAddress, publish_server, withdraw_server
from marlin.sinks.parameters import decode_params
from marlin.sinks.rows import encoders, through
from marlin.sinks.sandbox import Params, Query

__all__ = ["SqlServer"]

_QUERY_NICENESS = 10

MAX_REQUEST_BYTES = 1024 * 1024
_STOP_GRACE_S = 2


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # Signals belong to the process that serves this beside its main work.
        yield


class _Guard:
    """Lets requests through that give the token, whatever they ask for."""

    def __init__(self, app: ASGIApp, token: Callable[[], str]) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        expected = f"Bearer {self._token()}"
        given = request.headers.get("authorization", "")
        if hmac.compare_digest(given.encode(), expected.encode()):
            await self._app(scope, receive, send)
            return
        refusal = JSONResponse({"error": "a valid bearer token is required"}, 401)
        await refusal(scope, receive, send)


class SqlServer:
    """Serves queries inside its `async with` block; the discovery file exists as long.

    Queries run in threads on cursors of their own and never wait for the sink, nor it for them.
    `routes` are served beside `/sql`; a request without the token does not reach them.
    """

    def __init__(
        self,
        database: Path,
        cursor: Callable[[], duckdb.DuckDBPyConnection],
        settings: SinkSettings,
        routes: Sequence[Route] = (),
    ) -> None:
        self._database = database
        self._cursor = cursor
        self._settings = settings
        self._running: set[Query] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(
            settings.max_queries,
            thread_name_prefix="marlin-query",
            initializer=_yield_to_the_sink,
        )
        self._address: ServerAddress | None = None
        app = Starlette(
            routes=[Route("/sql", self._sql, methods=["POST"]), *routes],
            middleware=[Middleware(_Guard, token=lambda: self.address.token)],
        )
        self._server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=_STOP_GRACE_S,
            )
        )

    async def __aenter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        self._address = publish_server(self._database, f"http://127.0.0.1:{port}")
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._address:
            withdraw_server(self._database, self._address)
        self.stop_queries("the sink is stopping; ask again, the file can be read then")
        self._server.should_exit = True
        await self._serving
        await asyncio.gather(*self._endings)
        self._threads.shutdown(wait=True)

    @property
    def address(self) -> ServerAddress:
        """Where it answers, and with which token."""
        if self._address is None:
            raise QueryError("the SQL server is not running")
        return self._address

    def stop_queries(self, why: str) -> None:
        """Interrupt every running query, which gives its memory back."""
        for query in list(self._running):
            query.stop(why)

    async def _sql(self, request: Request) -> Response:
        as_arrow = ARROW_STREAM in request.headers.get("accept", "")
        try:
            sql, params, max_rows = await _question(request)
            limit = min(max_rows, self._settings.query_max_rows)
            parts = self._answer(sql, params, limit, write_stream if as_arrow else _lines_of)
            first = await _unless_gone(request, anext(parts))
        except QueryError as exc:
            return JSONResponse({"error": str(exc)}, 400)
        media_type = ARROW_STREAM if as_arrow else "application/x-ndjson"
        return StreamingResponse(_chain(first, parts), media_type=media_type)

    async def _answer(
        self, sql: str, params: Params, max_rows: int, write: Callable[[Query], Iterator[bytes]]
    ) -> AsyncGenerator[bytes]:
        """Parts of the answer; the first comes when the query has given its first rows."""
        query = Query(
            self._cursor(),
            sql,
            params,
            max_rows=max_rows,
            timeout_s=self._settings.query_timeout_s,
        )
        self._running.add(query)
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._threads)
        step: asyncio.Future[Any] = in_thread(query.start)
        try:
            # Shielded: a client that goes away ends the waiting, not the thread.
            await asyncio.shield(step)
            parts = write(query)
            while True:
                step = in_thread(next, parts, None)
                part = await asyncio.shield(step)
                if part is None:
                    return
                yield part
        finally:
            ending = asyncio.create_task(self._end(query, step))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    async def _end(self, query: Query, step: asyncio.Future[Any]) -> None:
        query.stop("the client went away")
        with suppress(QueryError):
            await step
        self._running.discard(query)
        await asyncio.to_thread(query.close)


def _yield_to_the_sink() -> None:
    """Let queries take what the sink leaves of the processors; elsewhere they share equally."""
    if sys.platform == "linux":  # where a thread can be nicer than its process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _QUERY_NICENESS)


def _lines_of(query: Query) -> Iterator[bytes]:
    converts = encoders([kind for _, kind in query.columns])
    chunks = query.chunks()
    # Before the first line is given out: an error so far is still a plain refusal.
    first = next(chunks, None)
    yield _line({"columns": [[name, str(kind)] for name, kind in query.columns]})
    try:
        if first is not None:
            yield _line(through(converts, first))
        for chunk in chunks:
            yield _line(through(converts, chunk))
    except QueryError as exc:
        yield _line({"error": str(exc)})
        return
    yield _line(
        {"rows": query.rows, "truncated": query.truncated, "elapsed_s": round(query.elapsed_s, 6)}
    )


def _line(content: Any) -> bytes:
    return orjson.dumps(content, default=str, option=orjson.OPT_APPEND_NEWLINE)


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in rest:
        yield part


async def _unless_gone(request: Request, first: Awaitable[bytes]) -> bytes:
    """What `first` gives; a client that goes away before ends it, as later the response does."""
    waiting = asyncio.ensure_future(first)
    leaving = asyncio.create_task(_gone(request))
    await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        await asyncio.wait((waiting,))
        raise QueryError("the client went away")
    leaving.cancel()
    return waiting.result()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _question(request: Request) -> tuple[str, Params, int]:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_REQUEST_BYTES:
            raise QueryError(f"a query of at most {MAX_REQUEST_BYTES} bytes is expected")
    try:
        asked = orjson.loads(body)
        sql, params, max_rows = asked["sql"], asked.get("params"), asked.get("max_rows")
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise QueryError('expected {"sql": "SELECT …"} as JSON') from exc
    if not isinstance(sql, str):
        raise QueryError("expected sql as text")
    if max_rows is None:
        max_rows = 2**62
    if not isinstance(max_rows, int) or max_rows < 1:
        raise QueryError("expected max_rows of 1 or more")
    return sql, decode_params(params), max_rows
