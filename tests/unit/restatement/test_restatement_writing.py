"""Writing restatements: once, whole or not at all, from this process or another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from marlin.cli.main import app
from marlin.errors import ConfigurationError, DataError, EstimationError, SinkError
from marlin.estimation import Estimator, shipped_factor_set
from marlin.restatement import Restatement, compute
from marlin.restatement.choice import choose_factors
from marlin.restatement.handing import AskingReader, hand_over, refuse_lake
from marlin.restatement.wire import pack, unpack
from marlin.settings import Settings, SinkSettings
from marlin.sinks.arrow import arrow
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.restate_route import restate_route
from marlin.sinks.sqlserver import SqlServer

OVERHEAD = """
[factors.host_overhead]
value = {value}
low = 1.8
high = 2.0
unit = "1"
source = "Rack meters"
date = "2026-05"
licence = "own"
"""
MAY: dict[str, Any] = {
    "period_start": datetime(2026, 5, 1, tzinfo=UTC),
    "period_end": datetime(2026, 6, 1, tzinfo=UTC),
}
WRITTEN = "SELECT (SELECT count(*) FROM restatements), (SELECT count(*) FROM adjustments)"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def sink(settings: Settings) -> Generator[DuckDBSink]:
    with DuckDBSink(settings.database_path) as opened:
        opened.bind(identity())
        opened.apply(batch_of(*(carbon(n) for n in range(20))))
        yield opened


def computed(reader: Any) -> Restatement:
    return compute(reader, estimator=Estimator(), reason="test", **MAY)


def rows(sink: DuckDBSink, sql: str) -> list[tuple[Any, ...]]:
    with sink.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def test_the_same_restatement_is_written_once(sink: DuckDBSink) -> None:
    restatement = computed(sink.cursor())
    assert rows(sink, WRITTEN) == [(0, 0)]  # computing writes nothing
    assert (sink.adjust(restatement), sink.adjust(restatement)) == (1, 0)
    assert rows(sink, WRITTEN) == [(1, 1)]
    summary = "SELECT calls, changed_calls, adjustments, old_carbon_g FROM restatement_summary"
    assert rows(sink, summary) == [(20, 20, 1, 10.0)]
    kept = "SELECT content->>'fit.csv' IS NOT NULL FROM factor_sets WHERE factors = '{}'"
    assert rows(sink, kept.format(restatement.factors)) == [(True,)]


def test_one_that_others_overtook_is_refused(sink: DuckDBSink) -> None:
    overtaken, restatement = computed(sink.cursor()), computed(sink.cursor())
    sink.adjust(restatement)
    with pytest.raises(SinkError, match=f"{restatement.restatement_id} of the same hours"):
        sink.adjust(overtaken)
    assert rows(sink, WRITTEN) == [(1, 1)]


def test_figures_that_are_no_numbers_are_refused(sink: DuckDBSink) -> None:
    restatement = computed(sink.cursor())
    table = restatement.adjustments
    place = table.column_names.index("new_carbon_g")
    broken = table.set_column(place, "new_carbon_g", arrow.array([float("nan")]))
    with pytest.raises(SinkError, match="column new_carbon_g of the adjustments is not finite"):
        sink.adjust(replace(restatement, adjustments=broken))
    assert rows(sink, WRITTEN) == [(0, 0)]


async def test_it_is_handed_to_the_running_sink(sink: DuckDBSink, settings: Settings) -> None:
    routes = [restate_route(sink.adjust)]
    async with SqlServer(sink.path, sink.cursor, settings.sink, routes):
        restatement = await asyncio.to_thread(computed, AskingReader(settings))
        assert restatement.calls == 20
        assert await asyncio.to_thread(hand_over, restatement, settings) == 1
        assert await asyncio.to_thread(hand_over, restatement, settings) == 0
        other = replace(restatement, restatement_id="other", adjustments=arrow.table({"a": [1]}))
        with pytest.raises(SinkError, match="expected a restatement as an Arrow stream"):
            await asyncio.to_thread(hand_over, other, settings)
    assert rows(sink, WRITTEN) == [(1, 1)]


def test_nothing_else_than_a_restatement_is_unpacked(sink: DuckDBSink) -> None:
    restatement = computed(sink.cursor())
    packed = pack(restatement)
    again = unpack(packed)
    assert again.adjustments == restatement.adjustments
    assert replace(again, adjustments=None) == replace(restatement, adjustments=None)
    for body in (b"", b"x" * 1000, packed[: len(packed) // 2]):
        with pytest.raises(DataError, match="expected a restatement"):
            unpack(body)
    with pytest.raises(DataError, match="adjustments of other only"):
        unpack(pack(replace(restatement, restatement_id="other")))


def test_factors_may_be_shipped_files_or_recorded(sink: DuckDBSink, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(OVERHEAD.format(value=1.9))
    assert choose_factors("shipped", sink.cursor())[0] == shipped_factor_set()
    made, content = choose_factors(str(own), sink.cursor())
    assert made.value("host_overhead") == 1.9
    assert choose_factors(str(tmp_path), sink.cursor())[0].version == made.version
    restatement = compute(
        sink.cursor(), estimator=Estimator(made), reason="own", content=content, **MAY
    )
    sink.adjust(restatement)
    recorded, _ = choose_factors(made.version, sink.cursor())
    assert (recorded.version, recorded.value("host_overhead")) == (made.version, 1.9)


def test_unfit_factors_are_refused(sink: DuckDBSink, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no factor set 'f1': expected a folder or file"):
        choose_factors("f1", sink.cursor())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no factors"):
        choose_factors(str(tmp_path / "empty"), sink.cursor())
    for value in ("nan", "inf", "-1"):
        (tmp_path / "bad.toml").write_text(OVERHEAD.format(value=value))
        with pytest.raises(EstimationError, match="expected a number"):
            choose_factors(str(tmp_path / "bad.toml"), sink.cursor())


def test_a_lake_is_refused() -> None:
    lake = Settings(sink=SinkSettings(lake_catalog="sqlite:/x", lake_data_path="/y"))
    with pytest.raises(ConfigurationError, match="a lake cannot be restated yet"):
        refuse_lake(lake)


def test_the_command_shows_then_writes(settings: Settings) -> None:
    with DuckDBSink(settings.database_path) as filled:
        filled.bind(identity())
        filled.apply(batch_of(*(carbon(n) for n in range(20))))
    run, database = CliRunner(), str(settings.database_path)
    command = ["restate", "--factors", "shipped", "--period", "2026-05", "--database", database]
    looked = run.invoke(app, [*command, "--dry-run"])
    assert looked.exit_code == 0, looked.output
    assert looked.stdout.startswith("20 calls estimated again with ")
    assert "carbon" in looked.stdout
    assert "nothing was written" in looked.stderr
    assert run.invoke(app, command).exit_code == 2  # nobody can be asked here
    done = run.invoke(app, [*command, "--yes", "--json", "--reason", "May again"])
    told = json.loads(done.stdout)
    assert (told["written"], told["changed_calls"], told["total"]["carbon_g"]["old"]) == (
        True,
        20,
        {"central": 10.0, "low": 5.0, "high": 20.0},
    )
    with DuckDBSink(settings.database_path) as opened:
        found = rows(
            opened, "SELECT restatement_id, reason, changed_calls FROM restatement_summary"
        )
    assert found == [(told["restatement_id"], "May again", 20)]
    again = json.loads(run.invoke(app, [*command, "--yes", "--json"]).stdout)
    assert (again["written"], again["adjustments"]) == (False, 0)
