"""The DuckDB sink: the shared suite, and what only it promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from marlin.errors import SinkError
from marlin.sinks import merge
from marlin.sinks.conformance import (
    TOPICS,
    SinkConformance,
    batch_of,
    carbon,
    identity,
    started,
)
from marlin.sinks.database import open_database
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.sink import Sink


class TestDuckDBSink(SinkConformance):
    def open_sink(self, where: Path) -> Sink:
        return DuckDBSink(where / "marlin.duckdb")

    def read(self, where: Path, sql: str) -> list[tuple[Any, ...]]:
        with open_database(where / "marlin.duckdb", read_only=True) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def sink(tmp_path: Path) -> Any:
    with DuckDBSink(tmp_path / "marlin.duckdb") as opened:
        opened.bind(identity())
        yield opened


def rows(sink: DuckDBSink, sql: str) -> list[tuple[Any, ...]]:
    with sink.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def test_every_column_of_the_contract_arrives(sink: DuckDBSink) -> None:
    record = carbon(4, partition=1, labels={"team": "blue", "a}": '"},"usage_quality":"'})
    sink.apply(batch_of(record))
    cursor = sink.cursor().execute("SELECT * EXCLUDE ingested_at FROM events")
    row = dict(zip([name for name, *_ in cursor.description], cursor.fetchall()[0], strict=True))
    event_time = row.pop("event_time")
    assert event_time.isoformat() == "2026-05-01T12:00:04+00:00"
    assert row == {
        **{"event_id": "event-1-4", "run_id": "run-1", "agent_id": "agent-1"},
        **{"producer_id": "producer-1", "seq": 4},
        **{"provider": "openai", "model": "gpt-5", "region": "eu-west-1"},
        **{"input_tokens": 100, "cache_read_tokens": 10, "cache_write_tokens": 5},
        **{"output_tokens": 20, "reasoning_tokens": 2, "latency_s": 1.5, "cost_usd": 0.25},
        **{"tenant": "acme", "project": "search", "usage_quality": "reported"},
        "labels": '{"team":"blue","a}":"\\"},\\"usage_quality\\":\\""}',
        **{"energy_wh": 1.0, "energy_wh_low": 0.5, "energy_wh_high": 2.0},
        **{"carbon_g": 0.5, "carbon_g_low": 0.25, "carbon_g_high": 1.0},
        **{"embodied_g": 0.25, "embodied_g_low": 0.25, "embodied_g_high": 0.5},
        **{"water_ml": 2.0, "water_ml_low": 1.0, "water_ml_high": 4.0},
        **{"intensity_g_per_kwh": 400.0, "method": "m1", "factors": "f1"},
        "quality": ["region_year"],
        **{"source_id": 1, "source_partition": 1, "source_offset": 4},
    }
    assert rows(sink, "SELECT labels->>'team' FROM events") == [("blue",)]


def test_hours_are_of_utc_and_accounts_may_be_unknown(sink: DuckDBSink) -> None:
    sink.apply(batch_of(*(carbon(n, tenant=None, cost_usd=None) for n in (3599, 3600))))
    sink.apply(batch_of(carbon(3601, tenant=None, cost_usd=1.5)))
    assert rows(
        sink, "SELECT hour::VARCHAR, tenant, calls, cost_usd FROM hourly ORDER BY hour"
    ) == [("2026-05-01 12:00:00+00", None, 1, None), ("2026-05-01 13:00:00+00", None, 2, 1.5)]
    assert rows(sink, "SELECT cost_usd FROM runs") == [(1.5,)]


def test_the_policy_is_that_of_the_first_run_started(sink: DuckDBSink) -> None:
    sink.apply(batch_of(started(0)))
    sink.apply(batch_of(started(1, task="again", policy={"carbon_budget_g": 9.0, "bound": "low"})))
    assert rows(sink, "SELECT task, carbon_budget_g, warn_at, bound, action, calls FROM runs") == [
        ("summarise", 5.0, "[0.5]", "central", "abort", 0)
    ]


def test_a_failing_batch_leaves_nothing(sink: DuckDBSink, monkeypatch: pytest.MonkeyPatch) -> None:
    sink.apply(batch_of(carbon(0)))
    batch = batch_of(carbon(1), started(2))
    with monkeypatch.context() as broken:
        broken.setattr(merge, "MERGE_POSITIONS", "SELECT error('disk on fire')")
        with pytest.raises(SinkError, match=r"nothing of it was stored: .*disk on fire"):
            sink.apply(batch)
    assert rows(sink, "SELECT (SELECT count(*) FROM events), max(calls), max(task) FROM runs") == [
        (1, 1, None)
    ]
    assert sink.apply(batch).events == 1
    assert rows(sink, "SELECT (SELECT count(*) FROM events), max(calls), max(task) FROM runs") == [
        (2, 2, "summarise")
    ]


def test_another_event_at_a_known_position_stops_the_sink(sink: DuckDBSink) -> None:
    sink.apply(batch_of(carbon(0), carbon(1)))
    with pytest.raises(SinkError, match=f"event new comes from {TOPICS.events}-0-1, where event "):
        sink.apply(batch_of(carbon(1, event_id="new"), carbon(2)))
    assert rows(sink, "SELECT count(*) FROM events") == [(2,)]


def test_applying_before_binding_is_refused(tmp_path: Path) -> None:
    with (
        DuckDBSink(tmp_path / "marlin.duckdb") as unbound,
        pytest.raises(SinkError, match=r"bind\(\) must say"),
    ):
        unbound.apply(batch_of(carbon(0)))


def test_everything_has_a_comment(sink: DuckDBSink) -> None:
    missing = rows(
        sink,
        "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL "
        "AND NOT internal UNION ALL "
        "SELECT table_name, NULL FROM duckdb_tables() WHERE comment IS NULL",
    )
    assert missing == []


def test_queries_see_whole_batches_only(sink: DuckDBSink) -> None:
    """A query that began before a batch does not see it, one that begins after does."""
    cursor = sink.cursor()
    cursor.execute("BEGIN TRANSACTION READ ONLY")
    assert cursor.execute("SELECT count(*) FROM events").fetchall() == [(0,)]
    sink.apply(batch_of(carbon(0)))
    assert cursor.execute("SELECT count(*) FROM events").fetchall() == [(0,)]
    cursor.execute("ROLLBACK")
    assert cursor.execute("SELECT count(*) FROM events").fetchall() == [(1,)]


def test_a_closed_sink_is_a_plain_duckdb_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "marlin.duckdb"
    with DuckDBSink(path) as opened:
        opened.bind(identity())
        opened.apply(batch_of(carbon(0)))
    assert not path.with_name(path.name + ".wal").exists()
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(1,)]
