"""Grid intensities in DuckDB: each zone, hour and revision once, as first told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from marlin.schemas import dump
from marlin.schemas.examples import GRID
from marlin.sinks.batch import Batch, TopicPartition
from marlin.sinks.conformance import NOON, TOPICS, Recorded, identity
from marlin.sinks.decode import decode
from marlin.sinks.duckdb_sink import DuckDBSink

TOLD = datetime(2026, 5, 1, 12, tzinfo=UTC)


def told(offset: int, revision: int = 0, value: float = 312.0, **changes: Any) -> Recorded:
    record = GRID.model_copy(update={"revision": revision, "intensity_g_per_kwh": value, **changes})
    return Recorded(TOPICS.grid, 0, offset, dump(record), record.key)


def batch(*records: Recorded) -> Batch:
    return decode([records], TOPICS, NOON)


def stored(sink: DuckDBSink) -> list[tuple[Any, ...]]:
    return (
        sink.cursor()
        .execute("SELECT zone, revision, intensity_g_per_kwh FROM grid_intensity ORDER BY ALL")
        .fetchall()
    )


@pytest.fixture
def sink(tmp_path: Path) -> DuckDBSink:
    sink = DuckDBSink(tmp_path / "grid.duckdb")
    sink.bind(identity())
    return sink


def test_a_record_becomes_a_row_with_all_it_says(sink: DuckDBSink) -> None:
    applied = sink.apply(batch(told(0)))

    assert applied.grid == 1
    assert sink.cursor().execute("SELECT * FROM grid_intensity").fetchall() == [
        (
            *("DE", GRID.hour, 0, 312.0, "lifecycle", "measured", "electricitymaps-v3"),
            *(GRID.fetched_at, TOLD),
        )
    ]


def test_a_record_read_again_is_dropped(sink: DuckDBSink) -> None:
    sink.apply(batch(told(0), told(1, 1, 300.0)))
    again = sink.apply(batch(told(1, 1, 300.0), told(2, 2, 290.0)))

    assert again.grid == 1
    assert stored(sink) == [("DE", 0, 312.0), ("DE", 1, 300.0), ("DE", 2, 290.0)]


def test_the_first_of_a_revision_wins_in_a_batch_and_across_batches(sink: DuckDBSink) -> None:
    first = sink.apply(batch(told(0, 0, 312.0), told(1, 0, 400.0)))
    later = sink.apply(batch(told(2, 0, 500.0)))

    assert (first.grid, later.grid) == (1, 1)
    assert stored(sink) == [("DE", 0, 312.0)]


def test_positions_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "grid.duckdb"
    with DuckDBSink(path) as sink:
        sink.bind(identity())
        sink.apply(batch(told(0)))
    with DuckDBSink(path) as sink:
        positions = sink.bind(identity())
        assert positions[TopicPartition(TOPICS.grid, 0)] == 1
        sink.apply(batch(told(0), told(1, 1, 300.0)))
        assert stored(sink) == [("DE", 0, 312.0), ("DE", 1, 300.0)]


def test_a_recreated_topic_adds_no_second_value(tmp_path: Path) -> None:
    with DuckDBSink(tmp_path / "grid.duckdb") as sink:
        sink.bind(identity())
        sink.apply(batch(told(0)))
        sink.bind(identity("cluster-2"))
        sink.apply(batch(told(0, 0, 777.0), told(1, 1, 300.0)))

        assert stored(sink) == [("DE", 0, 312.0), ("DE", 1, 300.0)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        (b"{", "Invalid JSON"),
        (dump(GRID).replace(b"lifecycle", b"direct"), "basis"),
        (dump(GRID).replace(b"312.0", b"-1"), "intensity_g_per_kwh"),
    ],
)
def test_what_is_no_intensity_is_refused_and_harms_nothing(
    sink: DuckDBSink, value: bytes | None, reason: str
) -> None:
    bad = Recorded(TOPICS.grid, 0, 0, value, GRID.key)

    applied = sink.apply(batch(bad, told(1)))

    assert (applied.refusals, applied.grid) == (1, 1)
    (refused,) = sink.cursor().execute("SELECT step, reason, topic FROM dead_letters").fetchall()
    assert (refused[0], refused[2]) == ("sink", TOPICS.grid)
    assert reason in refused[1]
