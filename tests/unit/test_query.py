"""`marlin.query` on a file that nobody has open; with a running owner: test_sink_sqlserver.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from marlin.errors import QueryError, SinkError
from marlin.query import Result, query
from marlin.settings import Settings, SinkSettings
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.discovery import server_file
from marlin.sinks.duckdb_sink import DuckDBSink


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path, sink=SinkSettings(query_max_rows=50, query_timeout_s=30))
    with DuckDBSink(made.database_path) as sink:
        sink.bind(identity())
        sink.apply(batch_of(*(carbon(n) for n in range(3))))
    return made


def test_a_missing_database_says_where_and_what_to_do(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(QueryError, match=rf"no database at {tmp_path}/marlin.duckdb; start .* up"):
        query("SELECT 1", settings=settings)
    assert not settings.database_path.exists()


def test_the_file_is_read_and_left_as_it_is(settings: Settings) -> None:
    before = settings.database_path.read_bytes()
    result = query(
        "SELECT max(event_time) AS latest, sum(input_tokens), 1.50 AS d FROM events WHERE seq < ?",
        params=[2],
        settings=settings,
    )
    assert result.rows == [(datetime(2026, 5, 1, 12, 0, 1, tzinfo=UTC), 200, Decimal("1.50"))]
    assert result.columns == ("latest", "sum(input_tokens)", "d")
    assert result.types == ("TIMESTAMP WITH TIME ZONE", "HUGEINT", "DECIMAL(3,2)")
    assert settings.database_path.read_bytes() == before


@pytest.mark.parametrize(
    "sql", ["DELETE FROM events", "SELECT * FROM read_text('/etc/passwd')", "SELECT 1; SELECT 2"]
)
def test_the_same_is_refused_as_beside_the_sink(settings: Settings, sql: str) -> None:
    with pytest.raises(QueryError):
        query(sql, settings=settings)


def test_limits_hold_without_the_sink(settings: Settings) -> None:
    result = query("SELECT * FROM range(100)", settings=settings)
    assert (len(result.rows), result.truncated) == (50, True)
    hasty = settings.model_copy(update={"sink": SinkSettings(query_timeout_s=0.2)})
    with pytest.raises(QueryError, match=r"stopped after 0\.2 s"):
        query("SELECT sleep_ms(60000)", settings=hasty)


@pytest.mark.parametrize(
    "left",
    [
        b"",
        b"not json",
        b"[]",
        b'{"url": "http://127.0.0.1:1", "token": "t"}',
        b'{"url": "http://127.0.0.1:1", "token": "t", "pid": 0}',
        b'{"url": "http://127.0.0.1:1", "token": "t", "pid": 99999999999999999999}',
        b'{"url": "http://127.0.0.1:1", "token": "t", "pid": 999999999}',
    ],
)
def test_what_a_crash_left_behind_is_ignored(settings: Settings, left: bytes) -> None:
    server_file(settings.database_path).write_bytes(left)
    assert query("SELECT 1", settings=settings).rows == [(1,)]


def test_a_process_that_is_not_the_owner_any_more_is_ignored(settings: Settings) -> None:
    """Its id was given to another process, and nobody listens at its address."""
    left = {"url": "http://127.0.0.1:1", "token": "t", "pid": os.getpid()}
    server_file(settings.database_path).write_text(json.dumps(left))
    assert query("SELECT 1", settings=settings).rows == [(1,)]


def test_another_program_in_the_file_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marlin.query._HANDOVER_S", 0.3)
    code = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('open'); input()"
    with subprocess.Popen(
        [sys.executable, "-uc", code, str(settings.database_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        try:
            assert other.stdout
            other.stdout.readline()
            with pytest.raises(SinkError, match=f"in use by process {other.pid} "):
                query("SELECT 1", settings=settings)
        finally:
            other.kill()


def test_json_is_for_every_reader() -> None:
    row: tuple[Any, ...] = (
        *(1, 2**70, 0.5, float("nan"), None, True, "é", b"\xff", Decimal("1.50")),
        *(datetime(2026, 5, 1, tzinfo=UTC), [1, {"a": Decimal("0.1")}], {1: "x"}),
    )
    names = ("n", "big", "x", "n", "n", "n_1", "t", "b", "d", "at", "l", "m")
    result = Result(names, ("?",) * len(names), [row], truncated=False, elapsed_s=0.0)
    assert result.to_json() == (
        '[{"n": 1, "big": 1180591620717411303424, "x": 0.5, "n_1": null, "n_2": null, '
        '"n_1_1": true, "t": "é", "b": "ff", "d": "1.50", "at": "2026-05-01T00:00:00Z", '
        '"l": [1, {"a": "0.1"}], "m": {"1": "x"}}]'
    )
