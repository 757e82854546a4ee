"""Tidying a lake changes nothing that can be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from marlin.errors import SinkConflictError
from marlin.settings import SinkSettings
from marlin.sinks.conformance import (
    acknowledged,
    batch_of,
    carbon,
    command,
    finished,
    identity,
    started,
)
from marlin.sinks.lake import upkeep
from marlin.sinks.lake.sink import DuckLakeSink

VIEWS = ("runs", "agents", "hourly", "daily", "commands", "positions", "events", "data_quality")


def everything(sink: DuckLakeSink) -> dict[str, list[tuple[Any, ...]]]:
    with sink.cursor() as cursor:
        return {view: cursor.execute(f"FROM {view} ORDER BY ALL").fetchall() for view in VIEWS}


def test_every_view_gives_the_same_and_two_owners_still_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "marlin.sinks.lake.sink")
    monkeypatch.setattr(upkeep.merge_parts, "__kwdefaults__", {"enough": 1})
    settings = SinkSettings(
        lake_catalog=f"sqlite:{tmp_path / 'catalog.sqlite'}", lake_data_path=str(tmp_path / "data")
    )
    with DuckLakeSink(settings) as sink, DuckLakeSink(settings) as other:
        sink.bind(identity())
        sink.apply(batch_of(started(0), carbon(1, carbon_g=0.1, tenant=None), command(at=0)))
        sink.apply(batch_of(carbon(2, carbon_g=0.2, project="first"), carbon(0, partition=1)))
        before = everything(sink)
        for _ in range(2):
            sink.tidy()
            assert everything(sink) == before
        with sink.cursor() as cursor:
            assert cursor.execute(
                "SELECT count(*), bool_and(is_merged) FROM parts.agents"
            ).fetchall() == [(2, True)]
        other.bind(identity())
        batch = batch_of(carbon(3, carbon_g=0.3), acknowledged(4), finished(5))
        assert sink.apply(batch).events == 1
        with pytest.raises(SinkConflictError):
            other.apply(batch)
        sink.tidy()
        other.bind(identity())
        assert other.apply(batch).events == 0
        with sink.cursor() as cursor:
            assert cursor.execute(
                "SELECT calls, carbon_g, tenant, status FROM runs WHERE run_id = 'run-0'"
            ).fetchall() == [(3, 0.6, "acme", "completed")]
    assert caplog.messages == []  # what fails is told there
