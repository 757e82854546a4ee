"""`marlin sql`, as a user types it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marlin.cli.main import app
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.duckdb_sink import DuckDBSink

RUNNER = CliRunner()


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "ledger.duckdb"
    with DuckDBSink(path) as sink:
        sink.bind(identity())
        sink.apply(batch_of(carbon(0, tenant="[bold]acme[/]"), carbon(1, tenant=None)))
    return str(path)


def test_people_get_a_table(database: str) -> None:
    done = RUNNER.invoke(
        app,
        ["sql", "SELECT tenant, seq, carbon_g FROM events ORDER BY seq", "--database", database],
    )
    assert done.exit_code == 0, done.output
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines[:3] == [
        "tenant         seq  carbon_g",
        "[bold]acme[/]    0       0.5",
        "NULL             1       0.5",
    ]
    assert lines[3].startswith("2 rows in 0.")


def test_what_is_left_out_is_said(database: str) -> None:
    done = RUNNER.invoke(app, ["sql", "FROM range(1001)", "--database", database])
    assert done.stdout.splitlines()[-1].startswith("the first 1,000 rows in ")
    done = RUNNER.invoke(
        app,
        ["sql", "FROM range(9)", "--json", "--database", database],
        env={"MARLIN_SINK__QUERY_MAX_ROWS": "4"},
    )
    assert json.loads(done.stdout) == [{"range": n} for n in range(4)]
    assert done.stderr == "only the first 4 rows (MARLIN_SINK__QUERY_MAX_ROWS)\n"


def test_programs_get_json_or_csv(database: str) -> None:
    ask = ["sql", "SELECT seq, tenant, event_time FROM events ORDER BY seq"]
    done = RUNNER.invoke(app, [*ask, "--json", "--database", database])
    assert json.loads(done.stdout) == [
        {"seq": 0, "tenant": "[bold]acme[/]", "event_time": "2026-05-01T12:00:00Z"},
        {"seq": 1, "tenant": None, "event_time": "2026-05-01T12:00:01Z"},
    ]
    nested = ["sql", "SELECT [1, NULL] AS l, {'a': 'é'} AS s, true AS b, 1.50 AS d"]
    done = RUNNER.invoke(app, [*nested, "--csv", "--database", database])
    assert list(csv.reader(io.StringIO(done.stdout)))[1] == [
        "[1, null]",
        '{"a": "é"}',
        "true",
        "1.50",
    ]
    done = RUNNER.invoke(app, [*ask, "--csv", "--database", database])
    assert list(csv.reader(io.StringIO(done.stdout))) == [
        ["seq", "tenant", "event_time"],
        ["0", "[bold]acme[/]", "2026-05-01T12:00:00Z"],
        ["1", "", "2026-05-01T12:00:01Z"],
    ]


def test_a_query_may_come_from_a_file_or_a_pipe(database: str, tmp_path: Path) -> None:
    file = tmp_path / "query.sql"
    file.write_text("SELECT count(*) AS n\nFROM events -- all of them\n")
    for source, given in ((str(file), None), ("-", file.read_text())):
        done = RUNNER.invoke(
            app, ["sql", "--file", source, "--json", "--database", database], input=given
        )
        assert json.loads(done.stdout) == [{"n": 2}]


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (["SELECT nothing FROM events"], '"nothing" not found', 1),
        (["DELETE FROM events"], "queries only read", 1),
        ([], "give one query, or --file FILE", 2),
        (["SELECT 1", "--file", "x.sql"], "give one query, or --file FILE", 2),
        (["--file", "/nowhere.sql"], "cannot be read", 2),
        (["SELECT 1", "--json", "--csv"], "--json or --csv", 2),
    ],
)
def test_errors_are_words_on_stderr(
    database: str, arguments: list[str], told: str, code: int
) -> None:
    done = RUNNER.invoke(app, ["sql", *arguments, "--database", database], env={"COLUMNS": "200"})
    assert (done.exit_code, done.stdout) == (code, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none.duckdb"
    done = RUNNER.invoke(app, ["sql", "SELECT 1", "--database", str(path)])
    assert done.exit_code == 1
    assert f"no database at {path}" in done.stderr
