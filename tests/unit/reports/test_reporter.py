"""Reports of a real database: figures, where they come from, and restatements."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import openpyxl
import pytest
from pydantic import BaseModel
from reported import MAY, calls, fill, restate

from marlin import DataError, ESGReporter, Estimator, Settings, ledger
from marlin.estimation.factorset import build_factor_set, shipped_texts
from marlin.query import query
from marlin.reports import Report
from marlin.reports.csv import to_csv
from marlin.reports.html import to_html
from marlin.reports.model import Amount, Figure
from marlin.reports.report import published_schema, schema_text
from marlin.reports.xlsx import to_xlsx
from marlin.restatement import compute
from marlin.sinks.conformance import carbon
from marlin.sinks.duckdb_sink import DuckDBSink

JUNE, JULY = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return fill(tmp_path_factory.mktemp("reports") / "marlin.duckdb")


@pytest.fixture(scope="module")
def may(settings: Settings) -> Report:
    return ESGReporter(settings).report(period="2026-05")


def sums(rows: list[dict[str, str]], column: str) -> Decimal:
    return sum((Decimal(row[column] or "0") for row in rows), Decimal(0))


def csv_rows(text: str) -> list[dict[str, str]]:
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text[1:])))


def ends(amount: Amount) -> tuple[Decimal, Decimal, Decimal]:
    return amount.low, amount.central, amount.high


def test_the_json_keeps_to_the_published_schema(settings: Settings, may: Report) -> None:
    assert json.loads(schema_text()) == published_schema(), "run python -m marlin.reports"
    reporter = ESGReporter(settings)
    for text in (
        may.to_json(),
        reporter.generate(run_id="run-20-0"),
        reporter.generate(period="2020"),
    ):
        jsonschema.validate(json.loads(text), published_schema())
    broken = {**json.loads(may.to_json()), "surprise": 1}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, published_schema())


def test_a_run_report_has_the_fields(settings: Settings) -> None:
    told = json.loads(ESGReporter(settings).generate(run_id="run-20-0"), parse_float=Decimal)
    (total,) = query(
        "SELECT carbon_g_low, carbon_g, carbon_g_high, energy_wh FROM runs "
        "WHERE run_id = 'run-20-0'",
        settings=settings,
    ).rows
    grams, tonnes = told["total_emissions_g_co2e"], told["total_emissions_t_co2e"]
    for end, expected in zip(("low", "central", "high"), total[:3], strict=True):
        assert float(grams[end]) == pytest.approx(expected, abs=1e-11)
        assert tonnes[end] * 1_000_000 == grams[end]
    assert float(told["energy_kwh"]["central"]) == pytest.approx(total[3] / 1000, abs=1e-14)
    assert float(told["carbon_intensity_g_kwh"]["value"]) == 396.25
    (source,) = told["carbon_intensity_g_kwh"]["sources"]
    assert (source["key"], source["year"], source["basis"]) == ("US-MIDA-PJM", "2023", "lifecycle")
    assert told["reporting_period"]["start"] == "2026-05-05T09:00:00Z"
    assert told["water_stress"]["classes"][0]["water_stress_class"] == "Low"
    assert told["sci"]["r_count"] == 1
    assert told["run"]["status"] == "aborted"
    assert told["budgets"]["breaches"][0]["outcome"] == "stopped"
    ghg = told["ghg_protocol"]
    assert (ghg["scope"], ghg["calculation_method"]) == ("Scope 3", "average-data")
    assert ghg["market_based_t_co2e"]["value"] is None
    assert "market-based" in ghg["market_based_t_co2e"]["reason"]


def test_the_csv_adds_up_to_the_json_exactly(may: Report) -> None:
    rows = csv_rows(to_csv(may))
    for measure, amount in (
        ("carbon_g", may.total_emissions_g_co2e),
        ("carbon_t", may.total_emissions_t_co2e),
        ("energy_kwh", may.energy_kwh),
        ("embodied_t", may.ghg_protocol.embodied_t_co2e),
        ("water_consumed_ml", may.water_consumed_ml.total.value),
    ):
        assert amount is not None
        summed = tuple(sums(rows, f"{measure}{end}") for end in ("_low", "", "_high"))
        assert summed == ends(amount), measure
    off_site = may.water_consumed_ml.off_site.value
    assert off_site is not None
    assert sums(rows, "water_off_site_ml") == off_site.central
    assert sums(rows, "calls") == may.calls == 224
    assert {row["entry"] for row in rows} == {"recorded"}


def test_months_are_the_sum_of_their_runs(settings: Settings, may: Report) -> None:
    reporter = ESGReporter(settings)
    runs = sorted({call.run for call in calls() if MAY <= call.at < JUNE})
    assert len(runs) == may.budgets.runs == 112
    (total,) = query(
        "SELECT sum(CAST(carbon_g AS DECIMAL(38, 12))) FROM runs "
        "WHERE first_event_time >= '2026-05-01' AND first_event_time < '2026-06-01'",
        settings=settings,
    ).rows
    # Totals of runs and days are doubles that grew in another order: alike to the nanogram.
    assert abs(total[0] - may.total_emissions_g_co2e.central) < Decimal("1e-9")
    parts = [may, *(reporter.report(period=f"2026-{month}") for month in ("04", "06"))]
    quarter = reporter.report(period="2026-Q2")
    assert sum(part.total_emissions_g_co2e.central for part in parts) == (
        quarter.total_emissions_g_co2e.central
    )


def test_months_equal_their_runs_to_the_digit_where_doubles_are_exact(tmp_path: Path) -> None:
    records = [
        carbon(n, run_id=f"r-{n % 3}", time=MAY + timedelta(hours=n), carbon_g=0.25 * n)
        for n in range(40)
    ]
    reporter = ESGReporter(fill(tmp_path / "exact.duckdb", records))
    month = reporter.report(period="2026-05")
    runs = [reporter.report(run_id=f"r-{n}") for n in range(3)]
    grams = sum(run.total_emissions_g_co2e.central for run in runs)
    tonnes = sum(run.total_emissions_t_co2e.central for run in runs)
    assert grams == month.total_emissions_g_co2e.central == Decimal(195)
    assert tonnes == month.total_emissions_t_co2e.central == Decimal("0.000195")


def test_tenants_add_up_to_all(settings: Settings, may: Report) -> None:
    acme = ESGReporter(settings).report(period="2026-05", tenant="acme")
    (others,) = query(
        "SELECT sum(CAST(carbon_g AS DECIMAL(38, 12))) FROM daily "
        "WHERE tenant IS DISTINCT FROM 'acme' AND month(day) = 5",
        settings=settings,
    ).rows
    assert acme.total_emissions_g_co2e.central + others[0] == may.total_emissions_g_co2e.central
    assert {row.tenant for row in acme.rows} == {"acme"}


def figures(value: Any) -> Iterator[Figure]:
    """Every figure in a report."""
    if isinstance(value, Figure):
        yield value
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from figures(getattr(value, name))


def test_every_figure_comes_from_the_query_that_it_names(settings: Settings, may: Report) -> None:
    answers: dict[str, list[dict[str, Any]]] = {}
    for one in may.queries:
        answers[one.name] = query(one.sql, settings=settings).to_dicts()
    found = list(figures(may))
    assert len(found) >= 10
    for figure in found:
        (row,) = answers[figure.query]
        scales = {Decimal(10) ** power for power in (0, 3, 6)}
        values = {value for value in row.values() if isinstance(value, Decimal)}
        if figure is not may.ghg_protocol.category_1_total_t_co2e:
            assert any(figure.central * scale in values for scale in scales), figure
    totals = answers["totals"][0]
    assert totals["carbon_g"] + totals["embodied_g"] == (
        may.ghg_protocol.category_1_total_t_co2e.central * 1_000_000
    )
    assert len(answers["rows"]) == len(may.rows)
    assert sum(row["records"] for row in answers["dead_letters"]) == 0


def test_water_by_site_follows_from_the_factors(may: Report) -> None:
    consumed, withdrawn = may.water_consumed_ml, may.water_withdrawn_ml
    assert consumed.total.value is not None
    assert consumed.on_site.value is not None
    assert consumed.off_site.value is not None
    both = consumed.on_site.value.central + consumed.off_site.value.central
    assert float(both) == pytest.approx(float(consumed.total.value.central), rel=1e-9)
    assert withdrawn.on_site.value is not None
    assert withdrawn.off_site.value is None
    assert "withdrawal" in (withdrawn.off_site.reason or "")
    assert may.water_stress.high_stress_energy_share == Decimal("0.059461")
    shares = [one.energy_share or 0 for one in may.water_stress.classes]
    assert float(sum(shares)) == pytest.approx(1, abs=1e-5)


def test_coverage_says_what_is_missing(may: Report) -> None:
    coverage = may.coverage
    assert (coverage.unknown_model_calls, coverage.unknown_region_calls) == (32, 32)
    assert coverage.missing_usage_calls == 3
    assert not coverage.ledger_removed
    assert [tier.tier for tier in may.data_quality.tiers] == [3, 4, 5]
    tonnes = sum(tier.carbon_t for tier in may.data_quality.tiers)
    assert tonnes == may.total_emissions_t_co2e.central


def test_a_restatement_adds_exactly_its_adjustments(tmp_path: Path) -> None:
    path = tmp_path / "restated.duckdb"
    reporter = ESGReporter(fill(path))
    first, second = JULY, JULY + timedelta(days=1)
    before = reporter.report(period="2026-05", as_of=first - timedelta(seconds=1))
    run_before = reporter.report(run_id="run-20-0", as_of=first - timedelta(seconds=1))
    restate(path, 1, first, 0.8125, "model = 'gpt-4o'")
    restate(path, 2, second, 1.25, "region = 'mars-north-1' AND event_time >= '2026-06-01'")
    after = reporter.report(period="2026-05")
    (delta,) = after.restatements.adjustments
    assert (delta.restatement_id, delta.calls) == ("restatement-1", 32)
    for name in ("energy_wh", "carbon_g", "embodied_g", "water_ml"):
        old, new = (
            getattr(before.restatements.restated, name),
            getattr(after.restatements.restated, name),
        )
        assert tuple(map(sum, zip(ends(old), ends(getattr(delta, name)), strict=True))) == ends(new)
        assert ends(getattr(after.restatements.as_recorded, name)) == ends(old)
    assert after.total_emissions_g_co2e.central < before.total_emissions_g_co2e.central
    assert (after.calls, after.tokens) == (before.calls, before.tokens)
    rows = csv_rows(to_csv(after))
    assert {row["entry"] for row in rows} == {"recorded", "reversed", "restated"}
    assert sums(rows, "carbon_g") == after.total_emissions_g_co2e.central
    assert sums(rows, "calls") == 224
    again = reporter.report(period="2026-05", as_of=before.as_of)
    same = {"generated_at": before.generated_at}
    assert again.model_copy(update=same).to_json() == before.to_json()
    run_after = reporter.report(run_id="run-20-0")
    (run_delta,) = run_after.restatements.adjustments
    assert run_delta.carbon_g.central == (
        run_after.total_emissions_g_co2e.central - run_before.total_emissions_g_co2e.central
    )
    june = reporter.report(period="2026-06").restatements.adjustments
    assert [one.restatement_id for one in june] == ["restatement-1", "restatement-2"]


def test_a_run_whose_ledger_rows_are_gone_keeps_its_sums(tmp_path: Path) -> None:
    path = tmp_path / "trimmed.duckdb"
    reporter = ESGReporter(fill(path))
    before = reporter.report(run_id="run-20-0")
    month = reporter.report(period="2026-05")
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "DELETE FROM events WHERE run_id = 'run-20-0' AND minute(event_time) = 0"
        )
    after = reporter.report(run_id="run-20-0")
    assert after.coverage.ledger_removed
    assert after.coverage.ledger_calls == 1
    gap = after.total_emissions_g_co2e.central - before.total_emissions_g_co2e.central
    assert abs(gap) < Decimal("1e-11")
    assert None in [tier.tier for tier in after.data_quality.tiers]
    trimmed = reporter.report(period="2026-05")
    assert trimmed.total_emissions_g_co2e == month.total_emissions_g_co2e
    assert trimmed.coverage.ledger_removed


HOSTILE = ("=1+1", "+cmd", "-2", "@SUM(A1)", "  =HYPERLINK()", "o'brien\"; DROP TABLE events; --")


def test_hostile_names_stay_text_everywhere(tmp_path: Path) -> None:
    names = [*HOSTILE, "<script>alert(1)</script>", "$\\frac{1}{0}$"]
    records = [
        carbon(n, run_id=name, model=name, tenant=name.strip(), project=None, time=MAY)
        for n, name in enumerate(names)
    ]
    reporter = ESGReporter(fill(tmp_path / "hostile.duckdb", records))
    report = reporter.report(period="2026-05")
    rows = csv_rows(to_csv(report))
    models = {row["model"] for row in rows}
    assert {f"'{name}" for name in HOSTILE[:5]} <= models
    assert not [name for name in models if name.lstrip().startswith(("=", "+", "-", "@"))]
    page = to_html(report)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    book = openpyxl.load_workbook(io.BytesIO(to_xlsx(report)))
    assert {cell.data_type for row in book["Rows"].iter_rows() for cell in row} <= {"s", "n"}
    for name in names[5:7]:
        assert reporter.report(run_id=name).calls == 1
        assert reporter.report(period="2026-05", tenant=name).calls == 1
    with pytest.raises(DataError, match="NUL"):
        reporter.report(run_id="a\0b")


def test_the_workbook_has_numbers_as_numbers(settings: Settings, may: Report) -> None:
    made = ESGReporter(settings).generate(period="2026-05", format="xlsx")
    book = openpyxl.load_workbook(io.BytesIO(made))
    assert book.sheetnames == ["Summary", "Rows", "Methods", "Queries"]
    summary = {row[0]: row for row in book["Summary"].iter_rows(values_only=True)}
    assert summary["energy"][2] == float(may.energy_kwh.central)
    header, *rows = book["Rows"].iter_rows(values_only=True)
    at = header.index("carbon_g")
    total = sum(value for row in rows if isinstance(value := row[at], (int, float)))
    assert total == pytest.approx(float(may.total_emissions_g_co2e.central), rel=1e-12)


def test_the_page_stands_alone(settings: Settings, may: Report) -> None:
    page = to_html(may)
    assert page.count("<svg") == 5
    assert "<script" not in page
    assert " src=" not in page
    assert "@media print" in page
    assert "mathdefault" not in page
    ids = [part.split('"')[0] for part in page.split('id="')[1:]]
    assert len(ids) == len(set(ids))
    empty = ESGReporter(settings).generate(period="2020", format="html")
    assert "No model call was recorded here" in empty


def test_an_empty_period_is_zero_and_says_so(settings: Settings) -> None:
    report = ESGReporter(settings).report(period=("2020-01-01", date(2020, 1, 2)))
    assert ends(report.total_emissions_g_co2e) == (0, 0, 0)
    assert report.carbon_intensity_g_kwh.value is None
    assert report.sci.value is None
    assert report.rows == ()


def test_what_cannot_be_reported_is_refused(settings: Settings) -> None:
    reporter = ESGReporter(settings)
    with pytest.raises(DataError, match="exactly one"):
        reporter.generate()
    with pytest.raises(DataError, match="exactly one"):
        reporter.generate(run_id="run-20-0", period="2026")
    with pytest.raises(DataError, match="no run 'nobody'"):
        reporter.generate(run_id="nobody")
    with pytest.raises(DataError, match="not of tenant 'globex'"):
        reporter.generate(run_id="run-20-0", tenant="globex")
    with pytest.raises(DataError, match="'pdf' is no format"):
        reporter.generate(period="2026", format="pdf")


def test_the_ledger_exports_a_run(settings: Settings) -> None:
    rows = csv_rows(ledger.export_run_csv("run-20-0", settings=settings))
    assert [row["run_id"] for row in rows] == ["run-20-0"]
    report = ESGReporter(settings).report(run_id="run-20-0")
    assert sums(rows, "carbon_g") == report.total_emissions_g_co2e.central


def test_restating_with_other_factors_and_back_is_what_reports_say(tmp_path: Path) -> None:
    path = tmp_path / "computed.duckdb"
    settings = fill(path)
    reporter = ESGReporter(settings)
    shipped = shipped_texts()
    texts = {**shipped, "places.csv": shipped["places.csv"].replace(",396.25,", ",198.125,")}
    halved = Estimator(build_factor_set(texts, "2026-12-01"))
    before = reporter.report(period="2026-05")
    may: dict[str, Any] = {"period_start": MAY, "period_end": JUNE}

    with DuckDBSink(path) as sink:
        first = compute(
            sink.cursor(), estimator=halved, reason="a cleaner grid", content=texts, **may
        )
        sink.adjust(first)
    after = reporter.report(period="2026-05")

    (delta,) = after.restatements.adjustments
    assert delta.restatement_id == first.restatement_id
    assert delta.calls == 32
    assert delta.carbon_g.central < 0
    change = after.total_emissions_g_co2e.central - before.total_emissions_g_co2e.central
    assert change == delta.carbon_g.central
    recorded, restated = after.restatements.as_recorded, before.restatements.restated
    assert ends(recorded.carbon_g) == ends(restated.carbon_g)
    again = reporter.report(period="2026-05", as_of=before.as_of)
    assert again.model_copy(update={"generated_at": before.generated_at}) == before

    with DuckDBSink(path) as sink:
        sink.adjust(compute(sink.cursor(), estimator=Estimator(), reason="taken back", **may))
    back = reporter.report(period="2026-05")
    assert back.total_emissions_g_co2e.central == before.total_emissions_g_co2e.central
