"""The example queries run on what a sink wrote, and show what they say."""

from __future__ import annotations

from typing import Any

import pytest

from marlin.errors import ConfigurationError
from marlin.query import query
from marlin.settings import Settings
from marlin.sinks.conformance import (
    acknowledged,
    batch_of,
    carbon,
    command,
    dead_letter,
    finished,
    identity,
    started,
)
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.examples import Example, example_queries, parse_examples

VIEWS = (
    *("run_summary", "agent_summary", "daily_footprint", "model_comparison"),
    *("scope3_category1", "budget_breaches", "data_quality", "hourly_zone_energy"),
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A database with two runs, one of them aborted, and a dead letter."""
    home = tmp_path_factory.mktemp("examples")
    settings = Settings(home=home)
    with DuckDBSink(settings.database_path) as sink:
        sink.bind(identity())
        sink.apply(
            batch_of(
                started(0),
                carbon(1, carbon_g=4.0, agent_id="reader"),
                carbon(3600, carbon_g=2.0, agent_id="writer", model="other", quality=("a", "b")),
                carbon(86_400 * 31, partition=1, region="us-east-1", energy_wh=3.0),
                finished(3601, status="aborted"),
                acknowledged(3602),
                command(at=0),
                dead_letter(3603, at=0),
            )
        )
    return settings


def rows_of(title: str, settings: Settings) -> list[dict[str, Any]]:
    (example,) = [one for one in example_queries() if one.title == title]
    return query(example.sql, settings=settings).to_dicts()


@pytest.mark.parametrize("example", example_queries(), ids=lambda example: example.title)
def test_every_example_gives_rows(filled: Settings, example: Example) -> None:
    """Through the same fences as anybody's query."""
    result = query(example.sql, settings=filled)
    assert result.rows
    assert not result.truncated


def test_they_show_what_they_say(filled: Settings) -> None:
    totals = rows_of("Month totals for a report", filled)
    assert [(str(row["period_start"]), row["total_g"]) for row in totals] == [
        ("2026-05-01", pytest.approx(6.5)),
        ("2026-06-01", pytest.approx(0.75)),
    ]
    agents = rows_of("Agents of the largest run", filled)
    assert [(row["agent_id"], row["carbon_g"], row["percent_of_run"]) for row in agents] == [
        ("reader", 4.0, 66.7),
        ("writer", 2.0, 33.3),
    ]
    days = rows_of("Footprint per day", filled)
    assert [str(row["day"]) for row in days] == ["2026-06-01"]
    assumed = rows_of("What was assumed", filled)
    assert [(row["code"], row["calls"], row["carbon_g"]) for row in assumed] == [
        ("region_year", 2, 4.5),
        ("a", 1, 2.0),
        ("b", 1, 2.0),
    ]
    (breach,) = rows_of("Budget breaches and how fast runs stopped", filled)
    assert (breach["over_g"], breach["outcome"], breach["overshoot_ms"]) == (0.25, "stopped", 250.0)
    (budget,) = rows_of("Runs by the share of their budget", filled)
    assert (budget["run_id"], budget["budget_used"]) == ("run-0", 6.0 / 5.0)
    (letter,) = rows_of("Dead letters by reason", filled)
    assert (letter["step"], letter["reason"], letter["records"]) == ("decode", "not JSON", 1)
    calls = rows_of("Calls of a run, one by one", filled)
    assert [row["source_offset"] for row in calls] == [1, 3600]


def test_all_views_are_shown_under_names_of_their_own() -> None:
    examples = example_queries()
    assert [view for view in VIEWS if not any(view in one.sql for one in examples)] == []
    assert len({one.title for one in examples}) == len(examples) >= 12


@pytest.mark.parametrize(
    "paragraph",
    [
        "SELECT 1;",
        "-- Title only\nSELECT 1;",
        "-- Title\n-- About.\nSELECT 1",
        "-- Title\n-- About.\nSELECT 1; SELECT 2;",
        "-- Title\n-- About.",
    ],
)
def test_a_paragraph_that_is_no_example_is_refused(paragraph: str) -> None:
    good = "-- Good\n-- It\n-- is.\nSELECT 1\nFROM t;"
    assert parse_examples(good) == (Example("Good", "It is.", "SELECT 1\nFROM t"),)
    with pytest.raises(ConfigurationError, match="an example is a title and a sentence"):
        parse_examples(f"{good}\n\n{paragraph}\n")
