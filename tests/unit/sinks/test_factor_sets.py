"""Every factor set that the ledger names is listed, and the shipped one can be built again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from marlin.errors import SinkError
from marlin.estimation.factorset import build_factor_set, shipped_factor_set
from marlin.sinks import merge
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.duckdb_sink import DuckDBSink

SHIPPED = shipped_factor_set().version


def listed(sink: DuckDBSink) -> list[tuple[Any, ...]]:
    with sink.cursor() as cursor:
        return cursor.execute(
            "SELECT factors, method, content IS NOT NULL FROM factor_sets ORDER BY ALL"
        ).fetchall()


def test_each_set_and_method_is_listed_once(tmp_path: Path) -> None:
    path = tmp_path / "marlin.duckdb"
    with DuckDBSink(path) as sink:
        sink.bind(identity())
        assert listed(sink) == []
        sink.apply(batch_of(carbon(0), carbon(1)))
        assert listed(sink) == [("f1", "m1", False)]
        sink.apply(batch_of(carbon(2), carbon(3, factors=SHIPPED), carbon(4, method="m2")))
        expected = [(SHIPPED, "m1", True), ("f1", "m1", False), ("f1", "m2", False)]
        assert listed(sink) == expected
        sink.apply(batch_of(carbon(5), carbon(6, factors=SHIPPED)))
    with DuckDBSink(path) as sink:
        sink.bind(identity())
        sink.apply(batch_of(carbon(7), carbon(8, factors=SHIPPED)))
        assert listed(sink) == expected


def test_the_shipped_set_is_built_again_from_the_database(tmp_path: Path) -> None:
    with DuckDBSink(tmp_path / "marlin.duckdb") as sink:
        sink.bind(identity())
        sink.apply(batch_of(carbon(0, factors=SHIPPED)))
        row = sink.cursor().execute("SELECT factors, content FROM factor_sets").fetchone()
    assert row is not None
    date = row[0].rpartition("-")[0]
    assert build_factor_set(orjson.loads(row[1]), date) == shipped_factor_set()


def test_a_set_belongs_to_its_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DuckDBSink(tmp_path / "marlin.duckdb") as sink:
        sink.bind(identity())
        with monkeypatch.context() as broken:
            broken.setattr(merge, "MERGE_POSITIONS", "SELECT error('disk on fire')")
            with pytest.raises(SinkError, match="disk on fire"):
                sink.apply(batch_of(carbon(0)))
        assert listed(sink) == []
        sink.apply(batch_of(carbon(0)))
        assert listed(sink) == [("f1", "m1", False)]


def test_only_new_rows_count(tmp_path: Path) -> None:
    """What comes again is dropped, with what it names."""
    with DuckDBSink(tmp_path / "marlin.duckdb") as sink:
        sink.bind(identity())
        sink.apply(batch_of(carbon(0)))
        sink.apply(batch_of(carbon(0, factors="other")))
        assert listed(sink) == [("f1", "m1", False)]


def test_a_database_that_lists_nothing_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "marlin.duckdb"
    with DuckDBSink(path) as sink:
        sink.bind(identity())
        sink.apply(batch_of(carbon(0), carbon(1, factors=SHIPPED), carbon(2, factors="f2")))
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM factor_sets WHERE factors = 'f1'")
        connection.execute("UPDATE factor_sets SET content = NULL")
    with DuckDBSink(path) as sink:
        assert listed(sink) == [(SHIPPED, "m1", True), ("f1", "m1", False), ("f2", "m1", False)]
