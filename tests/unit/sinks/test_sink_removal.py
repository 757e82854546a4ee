"""Rows that are removed: exactly those, counted, and nothing counts twice afterwards."""

from __future__ import annotations

import threading
from collections.abc import Generator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marlin.errors import SinkError
from marlin.sinks import removal
from marlin.sinks.conformance import batch_of, carbon, dead_letter, identity
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.removal import DayCount, Order, Reached, Table, count, remove_piece

MAY_1, MAY_2, MAY_3 = date(2026, 5, 1), date(2026, 5, 2), date(2026, 5, 3)
MIDNIGHT = datetime(2026, 5, 2, tzinfo=UTC)
TICK = timedelta(microseconds=1)
BROKEN = (
    "SELECT error('disk on fire'), $removal_id, $removed_from, $reason, $exported_to, "
    "$marlin_version"
)
AGGREGATES = ("runs", "agents", "hourly", "daily", "positions", "commands", "factor_sets")


@pytest.fixture
def sink(tmp_path: Path) -> Generator[DuckDBSink]:
    with DuckDBSink(tmp_path / "marlin.duckdb") as opened:
        opened.bind(identity())
        yield opened


def rows(sink: DuckDBSink, sql: str) -> list[tuple[Any, ...]]:
    with sink.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def offsets(sink: DuckDBSink) -> list[int]:
    return [n for (n,) in rows(sink, "SELECT source_offset FROM events ORDER BY 1")]


def order(
    end: date = MAY_2,
    *,
    begin: date | None = None,
    table: Table = "events",
    reached: tuple[Reached, ...] | None = None,
) -> Order:
    return Order("removal-1", table, begin, end, "trim", reached=reached)


def remove(sink: DuckDBSink, what: Order, rows: int = 2) -> list[list[DayCount]]:
    """Pieces until none are left."""
    pieces: list[list[DayCount]] = []
    with sink.cursor() as cursor:
        while piece := remove_piece(cursor, what, rows=rows):
            pieces.append(piece)
    return pieces


def test_days_end_at_midnight_utc(sink: DuckDBSink) -> None:
    """begin of May 1 |0 … 1| begin of May 2 |2 … 3| begin of May 3 |4"""
    times = (MIDNIGHT - timedelta(days=1), MIDNIGHT - TICK, MIDNIGHT)
    later = (MIDNIGHT + timedelta(days=1) - TICK, MIDNIGHT + timedelta(days=1))
    sink.apply(batch_of(*(carbon(n, time=at) for n, at in enumerate((*times, *later)))))
    whole = order(MAY_3, begin=MAY_2)
    with sink.cursor() as cursor:
        assert count(cursor, order(MAY_3)) == [DayCount(MAY_1, 2), DayCount(MAY_2, 2)]
        assert count(cursor, whole) == [DayCount(MAY_2, 2)]
    assert offsets(sink) == [0, 1, 2, 3, 4]
    assert remove(sink, whole) == [[DayCount(MAY_2, 2)]]
    assert offsets(sink) == [0, 1, 4]
    assert remove(sink, order(MAY_2)) == [[DayCount(MAY_1, 2)]]
    assert offsets(sink) == [4]


def test_aggregates_stay_and_what_was_removed_is_written_down(sink: DuckDBSink) -> None:
    sink.apply(batch_of(*(carbon(n, carbon_g=0.25 * n) for n in range(5)), carbon(43_200)))
    before = {table: rows(sink, f"FROM {table} ORDER BY ALL") for table in AGGREGATES}
    assert [sum(day.row_count for day in piece) for piece in remove(sink, order(MAY_3))] == [
        *(2, 2, 2)
    ]
    assert {table: rows(sink, f"FROM {table} ORDER BY ALL") for table in AGGREGATES} == before
    assert rows(sink, "SELECT * EXCLUDE removed_at FROM ledger_removals ORDER BY day") == [
        ("removal-1", "events", MAY_1, 5, 2.5, "trim", None, "0.1.0"),
        ("removal-1", "events", MAY_2, 1, 0.5, "trim", None, "0.1.0"),
    ]
    assert rows(sink, "SELECT sum(calls), sum(carbon_g) FROM daily") == [(6, 3.0)]


def test_what_was_removed_and_comes_again_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "marlin.duckdb"
    first = [carbon(n) for n in range(3)]
    with DuckDBSink(path) as sink:
        sink.bind(identity())
        sink.apply(batch_of(*first, dead_letter(3, at=0)))
        remove(sink, order())
        remove(sink, order(table="dead_letters"))
        assert sink.apply(batch_of(*first, dead_letter(3, at=0))).duplicates == 3
    with DuckDBSink(path) as sink:
        sink.bind(identity())
        applied = sink.apply(batch_of(*first, dead_letter(3, at=0), carbon(4)))
        assert (applied.events, applied.duplicates, applied.refusals) == (1, 3, 0)
        assert offsets(sink) == [4]
        assert rows(sink, "SELECT calls FROM runs") == [(4,)]


def test_dead_letters_are_removed_by_when_they_were_refused(sink: DuckDBSink) -> None:
    sink.apply(batch_of(carbon(0), dead_letter(1, at=0), dead_letter(2, at=1)))
    assert remove(sink, order(MAY_1, table="dead_letters")) == []
    assert remove(sink, order(MAY_2, table="dead_letters")) == [[DayCount(MAY_1, 2)]]
    assert rows(sink, "SELECT count(*) FROM dead_letters") == [(0,)]
    assert offsets(sink) == [0]
    assert rows(sink, "SELECT removed_from, row_count, carbon_g FROM ledger_removals") == [
        ("dead_letters", 2, None)
    ]


def test_only_what_was_reached_is_removed(sink: DuckDBSink) -> None:
    sink.apply(batch_of(*(carbon(n, partition=n % 2) for n in range(8))))
    reached = order(reached=(Reached(1, 0, 4), Reached(2, 1, 9)))
    assert remove(sink, order(reached=())) == []
    assert remove(sink, reached) == [[DayCount(MAY_1, 2)], [DayCount(MAY_1, 1)]]
    assert offsets(sink) == [1, 3, 5, 6, 7]


def test_a_piece_that_fails_removes_nothing(
    sink: DuckDBSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.apply(batch_of(carbon(0)))
    with monkeypatch.context() as broken:
        broken.setattr(removal, "_COUNT_PIECE", BROKEN)
        with (
            sink.cursor() as cursor,
            pytest.raises(SinkError, match=r"disk on fire.*nothing of this piece"),
        ):
            remove_piece(cursor, order())
    assert offsets(sink) == [0]
    assert remove(sink, order()) == [[DayCount(MAY_1, 1)]]


def test_removing_beside_the_sink_disturbs_neither(sink: DuckDBSink) -> None:
    """Batches of two days come in while the first day is removed; queries see whole pieces."""
    sink.apply(batch_of(*(carbon(n) for n in range(200))))
    errors: list[BaseException] = []

    def keep_removing() -> None:
        try:
            for _ in range(20):
                remove(sink, order(), rows=64)
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=keep_removing)
    thread.start()
    for n in range(10):
        begin = 200 + 20 * n
        days = [carbon(begin + i, time=MIDNIGHT - (i % 2) * TICK) for i in range(20)]
        assert sink.apply(batch_of(*days)).events == 20
    thread.join()
    assert errors == []
    remove(sink, order())
    assert offsets(sink) == list(range(200, 400, 2))
    assert rows(sink, "SELECT sum(row_count) FROM ledger_removals") == [(300,)]
    assert rows(sink, "SELECT sum(calls) FROM hourly") == [(400,)]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), max_size=4),
)
def test_ledger_and_removals_together_are_the_aggregates(
    tmp_path_factory: pytest.TempPathFactory, days: list[int], trims: list[tuple[int, int]]
) -> None:
    """Whatever is removed, whenever: rows + removed rows = calls, each day."""
    with DuckDBSink(tmp_path_factory.mktemp("x") / "marlin.duckdb") as sink:
        sink.bind(identity())
        for at, day in enumerate(days):
            sink.apply(batch_of(carbon(at, time=MIDNIGHT + timedelta(days=day))))
            for before, piece in trims if at == len(days) // 2 else ():
                remove(sink, order(MAY_2 + timedelta(days=before)), rows=piece)
        assert rows(
            sink,
            "SELECT day, sum(n)::BIGINT FROM ("
            "SELECT event_time::DATE AS day, 1 AS n FROM events UNION ALL "
            "SELECT day, row_count FROM ledger_removals) GROUP BY day ORDER BY day",
        ) == rows(sink, "SELECT day, sum(calls)::BIGINT FROM daily GROUP BY day ORDER BY day")
