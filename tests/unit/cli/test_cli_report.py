"""`marlin report` and `marlin runs export` on a real database."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from reported import MAY, fill
from typer.testing import CliRunner

from marlin.cli.main import app
from marlin.sinks.conformance import carbon


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fill(tmp_path / "marlin.duckdb", [carbon(n, time=MAY, carbon_g=0.5) for n in range(4)])
    monkeypatch.setenv("MARLIN_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_report_for_people_and_for_programs(home: Path) -> None:
    told = CliRunner().invoke(app, ["report", "--period", "2026-05"])
    assert (told.exit_code, "2.00 gCO2e" in told.stdout, "4 calls" in told.stdout) == (
        0,
        True,
        True,
    )
    for words in (["--json"], ["--format", "json"]):
        printed = CliRunner().invoke(app, ["report", "--run", "run-0", *words])
        assert json.loads(printed.stdout)["total_emissions_g_co2e"]["central"] == 2


def test_a_report_is_written_in_the_format_of_its_file(home: Path) -> None:
    for name, start in (
        ("a.html", b"<!doctype html>"),
        ("a.XLSX", b"PK"),
        ("a.csv", "\ufeffentry".encode()),
    ):
        done = CliRunner().invoke(app, ["report", "--period", "2026", "--output", name])
        assert done.exit_code == 0, done.output
        assert (home / name).read_bytes().startswith(start)


def test_a_run_is_exported(home: Path) -> None:
    printed = CliRunner().invoke(app, ["runs", "export", "run-0"])
    (row,) = csv.DictReader(io.StringIO(printed.stdout.removeprefix("\ufeff")))
    assert (row["run_id"], row["carbon_g"], row["calls"]) == ("run-0", "2", "4")
    listed = CliRunner().invoke(app, ["runs", "--json"])
    assert [run["run_id"] for run in json.loads(listed.stdout)] == ["run-0"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["report"], 2, "exactly one"),
        (["report", "--run", "a", "--period", "2026"], 2, "exactly one"),
        (["report", "--period", "May"], 1, "is no period"),
        (["report", "--run", "nobody"], 1, "no run"),
        (["report", "--period", "2026", "-f", "xlsx"], 2, "--output"),
        (["report", "--period", "2026", "-o", "report.pdf"], 2, "format"),
        (["report", "--period", "2026", "-o", "missing/report.csv"], 1, "cannot be written"),
        (["runs", "export", "nobody"], 1, "no run"),
    ],
)
def test_mistakes_are_told(home: Path, words: list[str], code: int, message: str) -> None:
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert (done.exit_code, message in done.output.replace("\n", " ")) == (code, True), done.output
