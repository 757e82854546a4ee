"""`marlin ledger`, as a user types it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marlin.cli.main import app
from marlin.sinks.conformance import NOON, batch_of, carbon, dead_letter, identity
from marlin.sinks.database import open_database
from marlin.sinks.duckdb_sink import DuckDBSink

RUNNER = CliRunner()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "marlin.duckdb"
    with DuckDBSink(path) as sink:
        sink.bind(identity())
        days = (carbon(n, time=NOON + timedelta(days=n)) for n in range(3))
        sink.apply(batch_of(*days, dead_letter(4, at=0)))
    return path


def events(database: Path) -> int:
    with open_database(database, read_only=True) as connection:
        found = connection.execute("SELECT count(*) FROM events").fetchall()
    return int(found[0][0])


def test_an_export_tells_each_day(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["ledger", "export", str(out), "--database", str(database), "--from", "2026-05-02"]
    done = RUNNER.invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"2 rows of 2 days are now in {out}\n"
    assert done.stderr == "2026-05-02: 1 rows\n2026-05-03: 1 rows\n"
    done = RUNNER.invoke(app, [*words, "--to", "2026-05-02", "--trim", "--json"])
    assert json.loads(done.stdout) == [{"day": "2026-05-02", "rows": 0, "file": None, "removed": 1}]
    assert done.stderr == ""
    assert events(database) == 2


def test_nothing_is_removed_before_somebody_says_yes(database: Path) -> None:
    words = ["ledger", "trim", "--before", "2026-05-03", "--database", str(database)]
    for asked, answer in (([], "n\n"), (["--dry-run"], None)):
        done = RUNNER.invoke(app, [*words, *asked], input=answer)
        shown = [line.split() for line in done.stdout.splitlines()]
        assert shown[:4] == [
            ["table", "day", "rows"],
            ["events", "2026-05-01", "1"],
            ["events", "2026-05-02", "1"],
            ["dead_letters", "2026-05-01", "1"],
        ]
        assert done.exit_code == (1 if answer else 0)
        assert events(database) == 3
    done = RUNNER.invoke(app, [*words, "--json"])
    assert done.exit_code == 2
    assert "nobody can be asked" in done.stderr
    assert events(database) == 3


def test_yes_removes_and_says_so(database: Path) -> None:
    words = ["ledger", "trim", "--before", "2026-05-02", "--database", str(database)]
    done = RUNNER.invoke(app, words, input="y\n")
    assert done.stdout.endswith("2 rows before 2026-05-02 were removed\n")
    assert events(database) == 2
    done = RUNNER.invoke(app, [*words, "--yes", "--json"])
    assert json.loads(done.stdout) == {"dry_run": False, "days": []}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trim", "--before", "may"], "does not match the"),
        (["trim"], "--before"),
        (["export", "out", "--to", "2999-01-01"], "only days that are over"),
    ],
)
def test_mistakes_are_told(words: list[str], said: str, database: Path) -> None:
    done = RUNNER.invoke(app, ["ledger", *words, "--database", str(database)])
    assert done.exit_code in (1, 2)
    assert said in done.stderr
    assert events(database) == 3
