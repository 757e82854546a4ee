"""SQL over HTTP from the process that owns the database."""

from __future__ import annotations

import asyncio
import http.client
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from marlin.errors import QueryError
from marlin.query import query
from marlin.settings import Settings, SinkSettings
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.discovery import ServerAddress, find_server, server_file
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.sqlserver import MAX_REQUEST_BYTES, SqlServer

ENDLESS = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range % b.range = 3"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, sink=SinkSettings(query_max_rows=2500, query_timeout_s=60))


@pytest.fixture
async def sink(settings: Settings) -> AsyncGenerator[DuckDBSink]:
    with DuckDBSink(settings.database_path) as opened:
        opened.bind(identity())
        opened.apply(batch_of(*(carbon(n) for n in range(10))))
        yield opened


@pytest.fixture
async def server(settings: Settings, sink: DuckDBSink) -> AsyncGenerator[SqlServer]:
    async with SqlServer(sink.path, sink.cursor, settings.sink) as serving:
        yield serving


async def ask(settings: Settings, sql: str, **options: Any) -> Any:
    return await asyncio.to_thread(query, sql, settings=settings, **options)


def post(
    address: ServerAddress, body: bytes, token: str | None = None, path: str = "/sql"
) -> tuple[int, bytes]:
    url = urlsplit(address.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    try:
        headers = {"Authorization": f"Bearer {address.token if token is None else token}"}
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


async def test_a_query_is_answered_by_the_owner(server: SqlServer, settings: Settings) -> None:
    result = await ask(settings, "SELECT seq, event_time FROM events WHERE seq = ?", params=[3])
    assert result.columns == ("seq", "event_time")
    assert result.types == ("BIGINT", "TIMESTAMP WITH TIME ZONE")
    assert [(seq, time.isoformat()) for seq, time in result.rows] == [
        (3, "2026-05-01T12:00:03+00:00")
    ]
    assert not result.truncated
    assert (await ask(settings, "SELECT $a + 1", params={"a": 1})).rows == [(2,)]


async def test_the_wire_is_json_lines(server: SqlServer) -> None:
    status, body = await asyncio.to_thread(
        post, server.address, b'{"sql": "SELECT 1 AS a, 1.50 AS b"}'
    )
    columns, rows, end = map(orjson.loads, body.splitlines())
    assert status == 200
    assert columns == {"columns": [["a", "INTEGER"], ["b", "DECIMAL(3,2)"]]}
    assert rows == [[1, "1.50"]]
    assert (end["rows"], end["truncated"]) == (1, False)


async def test_rows_are_limited_by_the_setting_and_by_the_question(
    server: SqlServer, settings: Settings
) -> None:
    sql = "SELECT * FROM range(1000000000)"
    result = await ask(settings, sql)
    assert (len(result.rows), result.rows[-1], result.truncated) == (2500, (2499,), True)
    result = await ask(settings, sql, max_rows=7)
    assert (len(result.rows), result.truncated) == (7, True)
    result = await ask(settings, "SELECT 1", max_rows=10**9)
    assert (len(result.rows), result.truncated) == (1, False)


async def test_routes_of_the_owner_stand_behind_the_same_token(
    sink: DuckDBSink, settings: Settings
) -> None:
    calls: list[bytes] = []

    async def more(request: Request) -> Response:
        calls.append(await request.body())
        return PlainTextResponse("done", 201)

    routes = [Route("/more", more, methods=["POST"])]
    async with SqlServer(sink.path, sink.cursor, settings.sink, routes) as serving:
        refused, _ = await asyncio.to_thread(post, serving.address, b"x", "wrong", "/more")
        done = await asyncio.to_thread(post, serving.address, b"x", None, "/more")
    assert (refused, done, calls) == (401, (201, b"done"), [b"x"])


async def test_without_the_token_nothing_is_told(server: SqlServer) -> None:
    for token in ("", "x", server.address.token[:-1], "é"):
        with_token = token.encode().decode("latin-1")
        status, body = await asyncio.to_thread(
            post, server.address, b'{"sql": "SELECT 1"}', with_token
        )
        assert (status, orjson.loads(body)) == (401, {"error": "a valid bearer token is required"})


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"not json", b"[]", b"{}", b'{"sql": 1}', b'{"sql": null}', b'"SELECT 1"'),
        *(b'{"sql": "SELECT 1", "params": 3}', b'{"sql": "SELECT 1", "max_rows": 0}'),
        *(b'{"sql": "SELECT 1", "max_rows": "9"}', b'{"sql": "SELECT ?", "params": []}'),
        b'{"sql": "SELECT ?", "params": [{}, 1]}',
        b'{"sql": "' + b" " * MAX_REQUEST_BYTES + b'"}',
    ],
    ids=lambda body: body[:40].decode(),
)
async def test_a_question_that_is_none_is_refused(server: SqlServer, body: bytes) -> None:
    status, answer = await asyncio.to_thread(post, server.address, body)
    assert status == 400
    assert orjson.loads(answer)["error"]


async def test_errors_are_those_of_duckdb(server: SqlServer, settings: Settings) -> None:
    with pytest.raises(QueryError, match='"carbon" not found in FROM clause!'):
        await ask(settings, "SELECT carbon FROM events")
    with pytest.raises(QueryError, match="queries only read"):
        await ask(settings, "DROP TABLE events")
    # After the first rows were sent.
    late = "SELECT CASE WHEN range < 2200 THEN 1 ELSE error('late') END FROM range(2300)"
    with pytest.raises(QueryError, match="late"):
        await ask(settings, late)


async def test_a_query_has_its_time(sink: DuckDBSink, settings: Settings) -> None:
    limits = settings.sink.model_copy(update={"query_timeout_s": 0.3})
    async with SqlServer(sink.path, sink.cursor, limits):
        with pytest.raises(QueryError, match=r"stopped after 0\.3 s"):
            await ask(settings, ENDLESS)


async def test_no_more_queries_run_at_once_than_may(sink: DuckDBSink, settings: Settings) -> None:
    limits = settings.sink.model_copy(update={"max_queries": 1})
    async with SqlServer(sink.path, sink.cursor, limits) as serving:
        endless = asyncio.create_task(ask(settings, ENDLESS))
        while not serving._running:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(ask(settings, "SELECT 1"))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        serving.stop_queries("enough")
        for task in (endless, waiting):
            with pytest.raises(QueryError, match="enough"):
                await task


async def test_queries_and_the_sink_do_not_wait_for_each_other(
    server: SqlServer, sink: DuckDBSink, settings: Settings
) -> None:
    """Endless queries in all slots but one; batches and short queries go on beside them."""
    endless = [
        asyncio.create_task(asyncio.to_thread(query, ENDLESS, settings=settings))
        for _ in range(settings.sink.max_queries - 1)
    ]
    counted = [10]
    for offset in range(10, 20):
        applied = await asyncio.to_thread(sink.apply, batch_of(carbon(offset)))
        assert applied.events == 1
        count, calls = (
            await ask(settings, "SELECT (SELECT count(*) FROM events), sum(calls) FROM runs")
        ).rows[0]
        assert count == calls == counted[-1] + 1
        counted.append(count)
    assert not any(task.done() for task in endless)
    server.stop_queries("enough")
    for outcome in await asyncio.gather(*endless, return_exceptions=True):
        assert isinstance(outcome, QueryError)
        assert "enough" in str(outcome)


async def test_many_clients_while_batches_come(
    server: SqlServer, sink: DuckDBSink, settings: Settings
) -> None:
    async def client() -> int:
        seen = 0
        for _ in range(5):
            sql = "SELECT (SELECT count(*) FROM events), sum(calls) FROM runs"
            ((count, calls),) = (await ask(settings, sql)).rows
            assert count == calls >= seen
            seen = count
        return seen

    clients = [asyncio.create_task(client()) for _ in range(2 * settings.sink.max_queries)]
    for offset in range(10, 30):
        await asyncio.to_thread(sink.apply, batch_of(carbon(offset)))
    assert all(10 <= seen <= 30 for seen in await asyncio.gather(*clients))
    assert (await ask(settings, "SELECT count(*) FROM events")).rows == [(30,)]


async def test_a_client_that_goes_away_ends_its_query(
    server: SqlServer, settings: Settings
) -> None:
    """All slots are taken by clients that leave; the next one is answered nevertheless."""
    url = urlsplit(server.address.url)
    body = orjson.dumps({"sql": "SELECT * FROM range(1000000000000)", "max_rows": 10**15})
    limits = server._settings.model_copy(update={"query_max_rows": 10**15})  # pyright: ignore[reportPrivateUsage]
    server._settings = limits  # pyright: ignore[reportPrivateUsage]
    for _ in range(settings.sink.max_queries):
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(
            b"POST /sql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
            + server.address.token.encode()
            + b"\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        await reader.readexactly(100_000)
        writer.close()
    assert (await ask(settings, "SELECT 1")).rows == [(1,)]


async def test_stopping_ends_running_queries_and_withdraws_the_address(
    sink: DuckDBSink, settings: Settings
) -> None:
    async with SqlServer(sink.path, sink.cursor, settings.sink) as serving:
        endless = asyncio.create_task(asyncio.to_thread(query, ENDLESS, settings=settings))
        while not serving._running:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0.01)
    assert find_server(settings.database_path) is None
    with pytest.raises(QueryError, match="the sink is stopping"):
        await endless


async def test_only_the_owner_of_the_file_can_read_the_token(
    server: SqlServer, settings: Settings
) -> None:
    file = server_file(settings.database_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert find_server(settings.database_path) == server.address
    assert server.address.url.startswith("http://127.0.0.1:")
