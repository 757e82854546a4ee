"""The sink's own look, from time to time, for grid data that came late."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import duckdb

from marlin.errors import MarlinError
from marlin.restatement.late_grid import LateGrid
from marlin.settings import GridSettings
from marlin.sinks.duckdb_sink import DuckDBSink

__all__ = ["adjusting_late_grid"]

log = logging.getLogger(__name__)


@asynccontextmanager
async def adjusting_late_grid(sink: DuckDBSink, settings: GridSettings) -> AsyncGenerator[None]:
    """While the block runs, adjust `sink` for late grid data every `adjust_interval_s`.

    Nothing happens where events are not joined with the grid. What fails is logged and tried again
    at the next time; an adjustment is written whole or not at all.
    """
    if not settings.joins:
        yield
        return
    stop, reader = asyncio.Event(), sink.cursor()
    looking = asyncio.create_task(_look(LateGrid(sink.adjust), reader, settings, stop))
    try:
        yield
    finally:
        stop.set()
        reader.interrupt()  # the thread that computes must not outlive the database
        await looking


async def _look(
    late: LateGrid,
    reader: duckdb.DuckDBPyConnection,
    settings: GridSettings,
    stop: asyncio.Event,
) -> None:
    while not stop.is_set():
        try:
            written = await asyncio.to_thread(
                late.run, reader, now=datetime.now(UTC), days=settings.adjust_days
            )
        except (MarlinError, duckdb.Error) as exc:
            if not stop.is_set():
                log.warning("late grid data: %s; looking again later", exc)
        else:
            for one in written:
                log.info(
                    "late grid data: %d adjustments from %s to %s (%s)",
                    *(one.adjustments.num_rows, one.period_start, one.period_end),
                    one.restatement_id,
                )
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), settings.adjust_interval_s)
