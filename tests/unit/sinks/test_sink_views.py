"""The views for people: exact over a few records, and what an older file's rows become."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from marlin.sinks import merge
from marlin.sinks.arrow import arrow
from marlin.sinks.batch import Batch
from marlin.sinks.conformance import (
    NOON,
    acknowledged,
    batch_of,
    carbon,
    command,
    finished,
    identity,
    started,
)
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.migrations import known_migrations, migrate

VIEWS = {
    "run_summary",
    "agent_summary",
    "daily_footprint",
    "model_comparison",
    "scope3_category1",
    "budget_breaches",
    "data_quality",
    "hourly_zone_energy",
    "restatement_summary",
    "restated_hourly",
}
DAY_S = 86_400

USAGES = (
    carbon(1, carbon_g=2.0, carbon_g_low=1.0, carbon_g_high=4.0, energy_wh=4.0, quality=()),
    carbon(2, model="other", agent_id="agent-2", quality=("model_unknown", "model_class")),
    carbon(3 * 3600, tenant=None, usage_quality="partial", quality=("parameters_undisclosed",)),
    carbon(31 * DAY_S, region="us-east-1", quality=("region_zone",), factors="f2", energy_wh=0.0),
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Rows of a query, as dicts."""
    with DuckDBSink(tmp_path_factory.mktemp("views") / "marlin.duckdb") as sink:
        sink.bind(identity())
        sink.apply(batch_of(started(0), *USAGES, finished(40 * DAY_S, status="aborted")))
        late = NOON + timedelta(minutes=3)
        escalation = command(at=1, action="escalate", command_id="escalation", issued_at=late)
        sink.apply(batch_of(command(at=0), escalation, acknowledged(50 * DAY_S)))

        def ask(sql: str) -> list[dict[str, Any]]:
            with sink.cursor() as cursor:
                cursor.execute(sql)
                names = [name for name, *_ in cursor.description]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        yield ask


def test_the_views_are_there_and_every_column_says_what_it_is(rows: Any) -> None:
    views = rows("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal")
    assert {row["view_name"] for row in views} == VIEWS
    assert [row["view_name"] for row in views if not row["comment"]] == []
    undescribed = "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL"
    assert rows(f"{undescribed} AND NOT internal") == []
    macros = rows("SELECT comment FROM duckdb_functions() WHERE function_name = 'quality_tier'")
    assert "Tier of data quality" in macros[0]["comment"]


def test_run_summary(rows: Any) -> None:
    (row,) = rows("FROM run_summary")
    assert (row["run_id"], row["status"], row["calls"]) == ("run-0", "aborted", 4)
    assert (row["carbon_g"], row["carbon_g_low"], row["carbon_g_high"]) == (3.5, 1.75, 7.0)
    assert row["budget_used"] == 3.5 / 5.0
    assert (row["started_at"], row["ended_at"]) == (NOON, NOON + timedelta(hours=1))
    assert (row["overshoot_g"], row["overshoot_ms"]) == (0.75, 250.0)
    assert row["escalated_at"] == NOON + timedelta(minutes=3)


def test_agent_summary(rows: Any) -> None:
    told = rows("SELECT agent_id, calls, carbon_g_per_call FROM agent_summary ORDER BY 1")
    assert [tuple(row.values()) for row in told] == [("agent-1", 3, 1.0), ("agent-2", 1, 0.5)]


def test_daily_footprint_adds_up_to_the_ledger(rows: Any) -> None:
    told = rows("SELECT day, tenant, calls, carbon_kg FROM daily_footprint ORDER BY day, calls")
    assert [tuple(row.values()) for row in told] == [
        (date(2026, 5, 1), None, 1, 0.0005),
        (date(2026, 5, 1), "acme", 2, 0.0025),
        (date(2026, 6, 1), "acme", 1, 0.0005),
    ]
    (sums,) = rows(
        "SELECT (SELECT sum(carbon_kg_high) FROM daily_footprint) AS days, "
        "(SELECT sum(carbon_g_high) / 1e3 FROM events) AS ledger"
    )
    assert sums["days"] == pytest.approx(sums["ledger"], rel=1e-12) == 0.007


def test_model_comparison(rows: Any) -> None:
    told = rows(
        "SELECT model, calls, carbon_g_per_call, energy_wh_per_1k_output, intensity_g_per_kwh "
        "FROM model_comparison ORDER BY model"
    )
    assert [tuple(row.values()) for row in told] == [
        ("gpt-5", 3, 1.0, 5.0 / 60 * 1000, 3.0 / 5.0 * 1000),
        ("other", 1, 0.5, 50.0, 500.0),
    ]


def test_scope3_category1_keeps_methods_factors_and_tiers_apart(rows: Any) -> None:
    told = rows(
        "SELECT period_start, period_end, model, factors, quality_tier, operational_t, "
        "embodied_t_high, total_t_low, intensity_g_per_kwh FROM scope3_category1 ORDER BY 1, 5"
    )
    may, june = (date(2026, 5, 1), date(2026, 5, 31)), (date(2026, 6, 1), date(2026, 6, 30))
    assert [tuple(row.values()) for row in told] == [
        (*may, "gpt-5", "f1", 2, 2e-6, 0.5e-6, 1.25e-6, 500.0),
        (*may, "gpt-5", "f1", 4, 0.5e-6, 0.5e-6, 0.5e-6, 500.0),
        (*may, "other", "f1", 5, 0.5e-6, 0.5e-6, 0.5e-6, 500.0),
        (*june, "gpt-5", "f2", 3, 0.5e-6, 0.5e-6, 0.5e-6, None),
    ]
    (constants,) = rows(
        "SELECT DISTINCT scope, category, calculation_method, method, primary_data_share "
        "FROM scope3_category1"
    )
    assert tuple(constants.values()) == (
        "Scope 3",
        "1 Purchased goods and services",
        "average-data",
        "m1",
        0,
    )


def test_budget_breaches_are_commands_to_runtimes(rows: Any) -> None:
    (row,) = rows("FROM budget_breaches")
    assert (row["command_id"], row["action"], row["outcome"]) == ("command-0", "abort", "stopped")
    assert (row["budget_g"], row["spent_g"], row["over_g"]) == (5.0, 5.25, 0.25)
    assert (row["overshoot_g"], row["overshoot_ms"], row["tenant"]) == (0.75, 250.0, "acme")
    assert row["escalated_at"] == NOON + timedelta(minutes=3)


def test_data_quality_shares_add_up_to_one_each_month(rows: Any) -> None:
    told = rows(
        "SELECT month(period_start) AS month, quality_tier, usage_quality, share_of_carbon, "
        "high_to_low, unknown_model_calls FROM data_quality ORDER BY ALL"
    )
    assert [tuple(row.values()) for row in told] == [
        (5, 2, "reported", pytest.approx(2 / 3), 4.0, 0),
        (5, 4, "partial", pytest.approx(1 / 6), 4.0, 0),
        (5, 5, "reported", pytest.approx(1 / 6), 4.0, 1),
        (6, 3, "reported", 1.0, 4.0, 0),
    ]


def test_hourly_zone_energy(rows: Any) -> None:
    told = rows(
        "SELECT hour::VARCHAR, region, calls, energy_wh, intensity_g_per_kwh "
        "FROM hourly_zone_energy ORDER BY hour"
    )
    assert [tuple(row.values()) for row in told] == [
        ("2026-05-01 12:00:00+00", "eu-west-1", 2, 5.0, 500.0),
        ("2026-05-01 15:00:00+00", "eu-west-1", 1, 1.0, 500.0),
        ("2026-06-01 12:00:00+00", "us-east-1", 1, 0.0, None),
    ]


@pytest.mark.parametrize(
    ("codes", "tier"),
    [
        ("", 2),
        ("batch_api", 2),
        ("region_zone", 3),
        ("batch_api,hardware_assumed", 3),
        ("parameters_undisclosed,region_zone", 4),
        ("parameters_undisclosed,region_missing,region_world", 5),
        ("model_unknown,model_family", 5),
        ("intensity_hour", 2),
        ("intensity_country", 3),
        ("intensity_hour,intensity_world", 5),
        ("my_model_unknown", 2),
    ],
)
def test_the_worst_assumption_gives_the_tier(rows: Any, codes: str, tier: int) -> None:
    assert rows(f"SELECT quality_tier('{codes}') AS tier") == [{"tier": tier}]


def test_a_file_of_the_first_schema_is_brought_up(tmp_path: Path) -> None:
    """Aggregates become what they would be, had the file been new."""
    batch = batch_of(*USAGES)
    old, new = tmp_path / "old.duckdb", tmp_path / "new.duckdb"
    _write_with_first_schema(old, batch)
    for path in (old, new):
        with DuckDBSink(path) as sink:
            sink.bind(identity())
            if path is new:
                sink.apply(batch)
            assert sink.apply(batch).duplicates == (0 if path is old else 4)
    expected = _aggregates(new)
    with duckdb.connect(str(old)) as connection:
        versions = connection.execute("SELECT version FROM schema_versions").fetchall()
        runs = connection.execute("SELECT run_id, task, overshoot_ms FROM runs").fetchall()
    assert versions == [(one.version,) for one in known_migrations()]
    assert ("kept", "as it was", None) in runs
    # The events of the old file came from a source of its own: they are there twice.
    keys = 10  # so many columns before the first sum
    assert _aggregates(old) == [
        (*row[:keys], *(value and 2 * value for value in row[keys:])) for row in expected
    ]


def _aggregates(path: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path)) as connection:
        return [
            row
            for table in ("hourly", "daily")
            for row in connection.execute(f"FROM {table} ORDER BY ALL").fetchall()
        ]


def _write_with_first_schema(path: Path, batch: Batch) -> None:
    sources = arrow.array([0] * batch.usages.num_rows, arrow.int32())
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        migrate(connection, known_migrations()[:1])
        connection.register("batch_usages", batch.usages.append_column("source_id", sources))
        connection.execute(merge.INSERT_EVENTS)
        zeros = ", ".join(f"0 AS {name}" for name in merge.SUMS)
        connection.execute(
            "INSERT INTO runs BY NAME "
            f"SELECT 'kept' AS run_id, 'as it was' AS task, 'running' AS status, {zeros}"
        )
