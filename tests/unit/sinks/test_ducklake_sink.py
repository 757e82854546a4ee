"""The DuckLake sink: the shared suite, and what only it promises."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from marlin.errors import SchemaTooNewError, SinkConflictError, SinkError
from marlin.settings import SinkSettings
from marlin.sinks.batch import TopicPartition
from marlin.sinks.conformance import (
    TOPICS,
    SinkConformance,
    acknowledged,
    batch_of,
    carbon,
    command,
    finished,
    identity,
    started,
)
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.lake import parts
from marlin.sinks.lake.opening import open_lake
from marlin.sinks.lake.positions import LakePositions
from marlin.sinks.lake.sink import DuckLakeSink
from marlin.sinks.migrations import known_migrations
from marlin.sinks.sink import Sink


def lake_in(where: Path) -> SinkSettings:
    return SinkSettings(
        lake_catalog=f"sqlite:{where / 'catalog.sqlite'}", lake_data_path=str(where / "data")
    )


class TestDuckLakeSink(SinkConformance):
    random_splits = 2  # a batch is a commit of the catalogue, and much slower than a file's

    def open_sink(self, where: Path) -> Sink:
        return DuckLakeSink(lake_in(where))

    def read(self, where: Path, sql: str) -> list[tuple[Any, ...]]:
        with open_lake(lake_in(where), read_only=True) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def settings(tmp_path: Path) -> SinkSettings:
    return lake_in(tmp_path)


@pytest.fixture
def sink(settings: SinkSettings) -> Generator[DuckLakeSink]:
    with DuckLakeSink(settings) as opened:
        opened.bind(identity())
        yield opened


def rows(sink: DuckLakeSink, sql: str) -> list[tuple[Any, ...]]:
    with sink.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def test_it_looks_as_a_duckdb_file_does(sink: DuckLakeSink, tmp_path: Path) -> None:
    columns = (
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal "
        "AND database_name = current_database() AND schema_name = 'main' "
        "ORDER BY table_name, column_index"
    )
    comments = (
        "SELECT table_name, comment FROM duckdb_tables() WHERE schema_name = 'main' "
        "AND database_name = current_database() UNION ALL "
        "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
    )
    with DuckDBSink(tmp_path / "marlin.duckdb") as file, file.cursor() as cursor:
        assert rows(sink, columns) == cursor.execute(columns).fetchall()
        assert rows(sink, comments) == cursor.execute(comments).fetchall()


def test_every_view_gives_what_a_duckdb_file_gives(sink: DuckLakeSink, tmp_path: Path) -> None:
    batches = [
        batch_of(started(0), carbon(1, cost_usd=None), carbon(0, partition=1, tenant=None)),
        batch_of(carbon(2, energy_wh=0.1, quality=("model_unknown",)), command(at=0)),
        batch_of(carbon(3, energy_wh=0.2), acknowledged(4), finished(5), carbon(86_400)),
        batch_of(command(at=1, action="escalate", command_id="e1"), carbon(1, partition=1)),
    ]
    with DuckDBSink(tmp_path / "marlin.duckdb") as file, file.cursor() as cursor:
        file.bind(identity())
        for batch in batches:
            assert sink.apply(batch) == file.apply(batch)
        views = [
            name
            for (name,) in rows(
                sink,
                "SELECT view_name FROM duckdb_views()"
                " WHERE NOT internal AND database_name = 'lake'",
            )
        ]
        assert {"runs", "daily", "run_summary", "scope3_category1"} <= set(views)
        for view in set(views) - {"positions"}:
            query = f"FROM {view} ORDER BY ALL"
            assert rows(sink, query) == cursor.execute(query).fetchall(), view
        what = "SELECT source_id, partition, kind, next_offset FROM positions ORDER BY ALL"
        assert rows(sink, what) == cursor.execute(what).fetchall()


def test_sums_do_not_depend_on_the_batches(sink: DuckLakeSink, tmp_path: Path) -> None:
    """0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in doubles."""
    records = [carbon(n, carbon_g=g) for n, g in enumerate((0.1, 0.2, 0.3, 1e-9, 1e9))]
    for record in records:
        sink.apply(batch_of(record))
    with DuckLakeSink(lake_in(tmp_path / "other")) as other:
        other.bind(identity())
        other.apply(batch_of(*records))
        expected = [(5, 1000000000.600000001)]
        for lake in (sink, other):
            assert rows(lake, "SELECT calls, carbon_g FROM runs") == expected
            assert rows(lake, "SELECT calls, carbon_g FROM daily") == expected


def test_the_events_are_files_by_day(sink: DuckLakeSink, tmp_path: Path) -> None:
    sink.apply(batch_of(*(carbon(n * 60) for n in range(2880))))
    folders = {
        str(file.parent.relative_to(tmp_path / "data" / "main" / "events"))
        for file in (tmp_path / "data" / "main" / "events").rglob("*.parquet")
    }
    assert folders == {f"year=2026/month=5/day={day}" for day in (1, 2, 3)}


def test_of_two_sinks_with_one_partition_one_wins(
    sink: DuckLakeSink, settings: SinkSettings
) -> None:
    with DuckLakeSink(settings) as other:
        other.bind(identity())
        sink.apply(batch_of(carbon(0), carbon(1)))
        with pytest.raises(SinkConflictError, match=rf"{TOPICS.events}-0: expected .* 0, found 2"):
            other.apply(batch_of(carbon(0), carbon(1), carbon(2)))
        assert rows(other, "SELECT count(*) FROM events") == [(2,)]
        assert other.bind(identity())[TopicPartition(TOPICS.carbon, 0)] == 2
        assert other.apply(batch_of(carbon(1), carbon(2))).events == 1
        with pytest.raises(SinkConflictError):
            sink.apply(batch_of(carbon(2)))
    assert rows(sink, "SELECT count(*), sum(carbon_g) FROM events") == [(3, 1.5)]
    assert rows(sink, "SELECT calls, carbon_g FROM runs") == [(3, 1.5)]


@pytest.mark.parametrize("tidied", [False, True])
def test_a_commit_that_comes_second_conflicts(
    sink: DuckLakeSink, settings: SinkSettings, monkeypatch: pytest.MonkeyPatch, tidied: bool
) -> None:
    """Both have read the positions before either has committed.

    What both change is in the catalogue, or, when the lake has been tidied, in a file.
    """
    if tidied:
        sink.tidy()
    with DuckLakeSink(settings) as other:
        other.bind(identity())
        check = LakePositions._check_unmoved  # pyright: ignore[reportPrivateUsage]

        def overtaken(positions: LakePositions, moved: Any) -> None:
            check(positions, moved)
            monkeypatch.setattr(LakePositions, "_check_unmoved", check)
            sink.apply(batch_of(carbon(0)))

        monkeypatch.setattr(LakePositions, "_check_unmoved", overtaken)
        with pytest.raises(SinkConflictError):
            other.apply(batch_of(carbon(0), carbon(1)))
    assert rows(sink, "SELECT count(*) FROM events") == [(1,)]


def test_sinks_of_other_partitions_do_not_disturb_each_other(
    sink: DuckLakeSink, settings: SinkSettings
) -> None:
    done = threading.Event()
    counts: list[int] = []

    def write(partition: int) -> int:
        with DuckLakeSink(settings) as own:
            own.bind(identity())
            return sum(
                own.apply(
                    batch_of(carbon(n, partition=partition), carbon(n + 1, partition=partition))
                ).events
                for n in range(0, 16, 2)
            )

    def read() -> None:
        while not done.is_set():
            with open_lake(settings, read_only=True) as connection:
                (row,) = connection.execute(
                    "SELECT (SELECT count(*) FROM events), sum(calls)::BIGINT FROM runs"
                ).fetchall()
                assert row[0] == (row[1] or 0)
                counts.append(row[0])

    with ThreadPoolExecutor(3) as threads:
        reading = threads.submit(read)
        written = list(threads.map(write, (0, 1)))
        done.set()
        reading.result()
    assert written == [16, 16]
    assert counts == sorted(counts)
    assert rows(sink, "SELECT run_id, calls FROM runs ORDER BY 1") == [("run-0", 16), ("run-1", 16)]
    assert rows(sink, "SELECT count(*), count(DISTINCT source_id) FROM sources") == [(4, 4)]


def test_a_topic_that_two_sinks_meet_at_once_is_one_source(tmp_path: Path) -> None:
    def meet(_: int) -> dict[TopicPartition, int]:
        with DuckLakeSink(lake_in(tmp_path)) as own:
            own.bind(identity("cluster-9"))
            return own.bind(identity("cluster-9"))

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(meet, range(3))) == [{}, {}, {}]
    with open_lake(lake_in(tmp_path), read_only=True) as connection:
        assert connection.execute("SELECT source_id FROM sources ORDER BY 1").fetchall() == [
            (1,), (2,), (3,), (4,),
        ]  # fmt: skip


def test_a_failing_batch_leaves_nothing(
    sink: DuckLakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.apply(batch_of(carbon(0)))
    batch = batch_of(carbon(1), started(2))
    with monkeypatch.context() as broken:
        broken.setattr(parts, "INSERT_HOURLY", "SELECT error('disk on fire')")
        with pytest.raises(SinkError, match=r"nothing of it was stored: .*disk on fire"):
            sink.apply(batch)
    assert rows(sink, "SELECT calls, task FROM runs") == [(1, None)]
    assert sink.apply(batch).events == 1
    assert rows(sink, "SELECT calls, task FROM runs") == [(2, "summarise")]


def test_another_event_at_a_known_position_stops_the_sink(sink: DuckLakeSink) -> None:
    sink.apply(batch_of(carbon(0), carbon(1)))
    with pytest.raises(SinkError, match=f"event new comes from {TOPICS.events}-0-1, where event "):
        sink.apply(batch_of(carbon(1, event_id="new"), carbon(2)))
    assert rows(sink, "SELECT count(*) FROM events") == [(2,)]


def test_applying_before_binding_is_refused(settings: SinkSettings) -> None:
    with DuckLakeSink(settings) as unbound, pytest.raises(SinkError, match=r"bind\(\) must say"):
        unbound.apply(batch_of(carbon(0)))


def test_a_lake_of_a_newer_marlin_is_left_alone(sink: DuckLakeSink, settings: SinkSettings) -> None:
    sink._connection.execute(  # pyright: ignore[reportPrivateUsage]
        "INSERT INTO schema_versions VALUES (9999, 'future', '99', now())"
    )
    with pytest.raises(SchemaTooNewError, match="schema version 9999"):
        DuckLakeSink(settings)


def test_a_lake_of_an_older_marlin_gets_what_is_missing(
    sink: DuckLakeSink, settings: SinkSettings
) -> None:
    sink.apply(batch_of(carbon(0)))
    for statement in (
        "DROP VIEW run_summary",
        "ALTER TABLE events DROP COLUMN project",
        "DROP TABLE grid_intensity",
        "DELETE FROM schema_versions WHERE version > 1",
    ):
        sink._connection.execute(statement)  # pyright: ignore[reportPrivateUsage]
    with DuckLakeSink(settings) as newer:
        assert rows(newer, "SELECT run_id, calls FROM run_summary") == [("run-0", 1)]
        assert rows(newer, "SELECT event_id, project FROM events") == [("event-0-0", None)]
        assert rows(newer, "SELECT count(*) FROM grid_intensity") == [(0,)]
        newest = known_migrations()[-1].version
        versions = rows(newer, "SELECT version FROM schema_versions ORDER BY 1")
        assert versions == [(version,) for version in range(1, newest + 1)]
