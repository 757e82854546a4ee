"""Keeping the ledger as long as the settings say: in the sink's process, beside its work."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import duckdb

from marlin.errors import SinkError
from marlin.settings import SinkSettings
from marlin.sinks.removal import Order, Table, remove_piece

__all__ = ["due", "keep_retention"]

log = logging.getLogger(__name__)

_CHECK_EVERY_S = 600.0
"""A day becomes due once a day; a sink that was stopped meanwhile catches up at its start."""

_PAUSE_RATIO = 4.0
"""A piece is followed by a pause of so many times its duration: ingest goes first."""


def due(settings: SinkSettings, today: date) -> list[Order]:
    """What is older than the settings keep, as of `today` (UTC). Empty: everything is kept."""
    kept_days: dict[Table, int | None] = {
        "events": settings.ledger_retention_days,
        "dead_letters": settings.dead_letter_retention_days,
    }
    return [
        Order(str(uuid4()), table, None, today - timedelta(days=days), "retention")
        for table, days in kept_days.items()
        if days is not None
    ]


async def keep_retention(
    cursor: Callable[[], duckdb.DuckDBPyConnection],
    settings: SinkSettings,
    *,
    today: Callable[[], date] = lambda: datetime.now(UTC).date(),
) -> None:
    """Remove what is due, now and again every ten minutes, until cancelled.

    `cursor` gives connections beside the sink's own. A failure is logged and tried again later:
    the sink goes on.
    """
    while orders := due(settings, today()):
        for order in orders:
            try:
                removed = await _remove_all(cursor, order)
            except SinkError as exc:
                log.error("retention: %s", exc)
                continue
            if removed:
                log.info("retention: removed %d rows from %s", removed, order.table)
        await asyncio.sleep(_CHECK_EVERY_S)


async def _remove_all(cursor: Callable[[], duckdb.DuckDBPyConnection], order: Order) -> int:
    connection = cursor()
    total = 0
    try:
        while True:
            began = time.monotonic()
            piece = asyncio.create_task(asyncio.to_thread(remove_piece, connection, order))
            try:
                removed = await asyncio.shield(piece)
            except asyncio.CancelledError:
                # The thread goes on; the connection must outlive it.
                with suppress(SinkError):
                    await piece
                raise
            if not removed:
                return total
            total += sum(day.row_count for day in removed)
            await asyncio.sleep((time.monotonic() - began) * _PAUSE_RATIO)
    finally:
        connection.close()
