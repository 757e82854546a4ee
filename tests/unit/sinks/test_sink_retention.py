"""The sink removes what its settings no longer keep, and goes on whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from marlin.settings import SinkSettings
from marlin.sinks import removal, retention
from marlin.sinks.conformance import NOON, batch_of, carbon, dead_letter, identity
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.retention import due, keep_retention

BROKEN = (
    "SELECT error('disk on fire'), $removal_id, $removed_from, $reason, $exported_to, "
    "$marlin_version"
)
TODAY = date(2026, 5, 11)


@pytest.fixture
def sink(tmp_path: Path) -> Generator[DuckDBSink]:
    with DuckDBSink(tmp_path / "marlin.duckdb") as opened:
        opened.bind(identity())
        opened.apply(
            batch_of(
                *(carbon(n, time=NOON + timedelta(days=n)) for n in range(12)),
                dead_letter(20, at=0),
            )
        )
        yield opened


def held(sink: DuckDBSink) -> tuple[list[int], int]:
    with sink.cursor() as cursor:
        found = cursor.execute("SELECT day(event_time) FROM events ORDER BY 1").fetchall()
        letters = cursor.execute("SELECT count(*) FROM dead_letters").fetchall()
    return [day for (day,) in found], letters[0][0]


async def keep(sink: DuckDBSink, limits: SinkSettings, until: Any) -> None:
    task = asyncio.create_task(keep_retention(sink.cursor, limits, today=lambda: TODAY))
    while not until() and not task.done():
        await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_everything_is_kept_unless_told_otherwise() -> None:
    assert due(SinkSettings(), TODAY) == []


async def test_without_a_limit_there_is_nothing_to_do(sink: DuckDBSink) -> None:
    await asyncio.wait_for(keep_retention(sink.cursor, SinkSettings()), 30)
    assert held(sink) == (list(range(1, 13)), 1)


async def test_whole_days_before_today_are_kept(sink: DuckDBSink) -> None:
    limits = SinkSettings(ledger_retention_days=3, dead_letter_retention_days=10)
    await keep(sink, limits, lambda: len(held(sink)[0]) == 5)
    assert held(sink) == ([8, 9, 10, 11, 12], 1)
    with sink.cursor() as cursor:
        removed = cursor.execute(
            "SELECT day(day), row_count, reason, exported_to FROM ledger_removals ORDER BY 1"
        ).fetchall()
        assert removed == [(day, 1, "retention", None) for day in range(1, 8)]
        assert cursor.execute("SELECT sum(calls) FROM runs").fetchall() == [(12,)]


async def test_dead_letters_have_a_limit_of_their_own(sink: DuckDBSink) -> None:
    await keep(sink, SinkSettings(dead_letter_retention_days=9), lambda: held(sink)[1] == 0)
    assert held(sink) == (list(range(1, 13)), 0)


async def test_a_failure_is_told_and_tried_again(
    sink: DuckDBSink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "_CHECK_EVERY_S", 0.01)
    limits = SinkSettings(ledger_retention_days=3)
    with monkeypatch.context() as broken, caplog.at_level(logging.ERROR):
        broken.setattr(removal, "_COUNT_PIECE", BROKEN)
        task = asyncio.create_task(keep_retention(sink.cursor, limits, today=lambda: TODAY))
        while sum("disk on fire" in record.message for record in caplog.records) < 2:
            await asyncio.sleep(0.01)
        assert len(held(sink)[0]) == 12
    while len(held(sink)[0]) > 5:
        assert not task.done()
        await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("days", [0, -1])
def test_a_limit_of_no_day_is_refused(days: int) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        SinkSettings(ledger_retention_days=days)
