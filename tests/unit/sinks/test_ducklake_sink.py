"""The DuckLake sink: the shared suite, and what only it promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from marlin.settings import SinkSettings
from marlin.sinks.conformance import SinkConformance
from marlin.sinks.lake.opening import open_lake
from marlin.sinks.lake.sink import DuckLakeSink
from marlin.sinks.sink import Sink


def lake_in(where: Path) -> SinkSettings:
    return SinkSettings(
        lake_catalog=f"sqlite:{where / 'catalog.sqlite'}", lake_data_path=str(where / "data")
    )


class TestDuckLakeSink(SinkConformance):
    def open_sink(self, where: Path) -> Sink:
        return DuckLakeSink(lake_in(where))

    def read(self, where: Path, sql: str) -> list[tuple[Any, ...]]:
        with open_lake(lake_in(where), read_only=True) as connection:
            return connection.execute(sql).fetchall()
