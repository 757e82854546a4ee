"""The sink process: Kafka to DuckDB, and SQL for everyone else, until told to stop.

Or Kafka to a lake, one of several such processes: a lake is opened by its readers themselves, so
there is no SQL server then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from marlin.broker.cluster import connect
from marlin.settings import Settings, SinkSettings
from marlin.sinks.consumer import SinkConsumer
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.lake.sink import DuckLakeSink
from marlin.sinks.late_grid import adjusting_late_grid
from marlin.sinks.ledger_routes import ledger_routes
from marlin.sinks.restate_route import restate_route
from marlin.sinks.retention import keep_retention
from marlin.sinks.sqlserver import SqlServer

__all__ = ["run_sink"]

log = logging.getLogger(__name__)

_LOCK_WAIT_S = 10.0
"""How long a query of another process may hold the file before the sink gives up [s]."""


async def run_sink(
    settings: Settings,
    *,
    stop: asyncio.Event,
    drain: bool = True,
    ready: asyncio.Event | None = None,
) -> None:
    """Run until `stop` is set; then, with `drain`, first read what the topics hold by then.

    Sets `ready` when the database is open, queries are answered and reading has begun. Everything
    that was read is stored when it returns, and the database file can be opened by others.
    On a lake (`lake_catalog` is set) it reads, and drains, the partitions that are its share, and
    is ready when it has one, even if others have all.
    Raises `ConfigurationError` and `BrokerError` when the cluster cannot be reached, `SinkError`
    when the database cannot be used. Killed at any moment, the next start goes on exactly.
    """
    if settings.sink.lake_catalog is None:
        await _run_on_file(settings, stop, drain, ready)
    else:
        await _run_on_lake(settings, stop, drain, ready)


async def _run_on_file(
    settings: Settings, stop: asyncio.Event, drain: bool, ready: asyncio.Event | None
) -> None:
    cluster = await connect(settings)
    sink = await asyncio.to_thread(
        DuckDBSink, settings.database_path, wait_s=_LOCK_WAIT_S, limits=settings.sink
    )
    try:
        async with SqlServer(
            sink.path,
            sink.cursor,
            settings.sink,
            [restate_route(sink.adjust), *ledger_routes(sink.cursor)],
        ) as server:
            consumer = SinkConsumer(
                cluster,
                settings,
                sink,
                on_memory=lambda: server.stop_queries("the sink needs the query's memory"),
            )
            async with _retention(sink, settings.sink), adjusting_late_grid(sink, settings.grid):
                await consumer.run(stop, drain=drain, ready=ready)
            log.info("sink stopped: %s", consumer.total)
    finally:
        await asyncio.to_thread(sink.close)


@asynccontextmanager
async def _retention(sink: DuckDBSink, settings: SinkSettings) -> AsyncGenerator[None]:
    keeping = asyncio.create_task(keep_retention(sink.cursor, settings))
    try:
        yield
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


async def _run_on_lake(
    settings: Settings, stop: asyncio.Event, drain: bool, ready: asyncio.Event | None
) -> None:
    cluster = await connect(settings)
    sink = await asyncio.to_thread(DuckLakeSink, settings.sink)
    try:
        consumer = SinkConsumer(cluster, settings, sink, shared=True)
        await consumer.run(stop, drain=drain, ready=ready)
        log.info(
            "sink stopped: %s; other sinks were faster with %d batches",
            consumer.total,
            consumer.conflicts,
        )
    finally:
        await asyncio.to_thread(sink.close)
