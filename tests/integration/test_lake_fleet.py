"""Several sink processes on one lake, in PostgreSQL and S3, while some of them die or sleep."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import settings_for
from derived import publish
from lake_fleet import on_lake
from lake_servers import Postgres, S3Store
from pipeline import PipelineProcess, eventually

from marlin.settings import Settings
from marlin.sinks import conformance as made
from marlin.sinks.conformance import Recorded
from marlin.sinks.lake.opening import open_lake
from marlin.sinks.lake.sink import DuckLakeSink

PARTITIONS = 3
ZOMBIE_S = 9.0
"""Longer than the session time-out: the group has given its partitions away."""


@pytest.fixture
def lake_settings(
    embedded_bootstrap: str, postgres: Postgres, s3_store: S3Store, tmp_path: Path
) -> Settings:
    """A lake of its own, and short batches, so that there is always one on its way."""
    settings = on_lake(settings_for(embedded_bootstrap, tmp_path), postgres, s3_store)
    small = settings.sink.model_copy(update={"batch_records": 300, "flush_interval_s": 0.2})
    return settings.model_copy(update={"sink": small})


def records(first: int, past: int) -> list[Recorded]:
    """Of each partition as many calls; three agents, and two runs in each partition."""
    return [
        made.carbon(
            n,
            partition=partition,
            run_id=f"run-{partition}-{n % 2}",
            agent_id=f"agent-{n % 3}",
            input_tokens=n,
        )
        for n in range(first, past)
        for partition in range(PARTITIONS)
    ]


EXPECTED = """
SELECT 'run-' || p || '-' || n % 2 AS run_id, 'agent-' || n % 3 AS agent_id, count(*) AS calls,
    sum(n) AS tokens FROM range($past) AS a(n), range(3) AS b(p) GROUP BY ALL ORDER BY ALL
"""


class Reader:
    """A reader beside the sinks: any number of them may be, and none is ever blocked."""

    def __init__(self, settings: Settings) -> None:
        DuckLakeSink(settings.sink).close()  # makes the lake
        self._lake = open_lake(settings.sink, read_only=True)

    def ask(self, sql: str, params: dict[str, Any] | None = None) -> list[Any]:
        return self._lake.execute(sql, params).fetchall()

    async def sees(self, events: int) -> None:
        """Wait until that many are stored."""

        async def check() -> bool:
            ((count,),) = await asyncio.to_thread(self.ask, "SELECT count(*) FROM events")
            return bool(count >= events)

        await eventually(check)

    def close(self) -> None:
        self._lake.close()


class Sinks:
    """Sink processes, each with a log."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self._folder = folder
        self.running: list[PipelineProcess] = []

    def add(self) -> PipelineProcess:
        number = len(list(self._folder.glob("sink-*.log")))
        process = PipelineProcess("sink", self.settings, self._folder / f"sink-{number}.log")
        self.running.append(process)
        return process

    def remove(self, process: PipelineProcess) -> None:
        """Gracefully: it ends with 0."""
        self.running.remove(process)
        assert process.stop() == 0

    def kill(self, process: PipelineProcess) -> None:
        self.running.remove(process)
        process.kill()

    def log(self) -> str:
        return "".join(log.read_text() for log in sorted(self._folder.glob("sink-*.log")))


@asynccontextmanager
async def sinks(settings: Settings, folder: Path) -> AsyncGenerator[Sinks]:
    fleet = Sinks(settings, folder)
    try:
        yield fleet
    finally:
        for process in fleet.running:
            process.kill()


@asynccontextmanager
async def reader(settings: Settings) -> AsyncGenerator[Reader]:
    made_here = await asyncio.to_thread(Reader, settings)
    try:
        yield made_here
    finally:
        made_here.close()


@pytest.mark.timeout(300)
async def test_sinks_come_go_die_and_sleep_and_every_call_counts_once(
    lake_settings: Settings, tmp_path: Path
) -> None:
    settings = lake_settings
    async with sinks(settings, tmp_path) as fleet, reader(settings) as lake:
        await publish(settings, records(0, 1000))
        first, second = fleet.add(), fleet.add()
        await lake.sees(1)

        await publish(settings, records(1000, 2000))
        fleet.kill(first)
        third = fleet.add()
        await publish(settings, records(900, 1100))  # the worker was restarted: a replay
        await lake.sees(2500)

        second.signal(signal.SIGSTOP)  # with a batch on its way, most likely
        await publish(settings, records(2000, 3000))
        await asyncio.sleep(ZOMBIE_S)
        await lake.sees(9000)
        await publish(settings, records(3000, 4000))
        second.signal(signal.SIGCONT)
        await lake.sees(12_000)

        fleet.remove(third)
        await publish(settings, records(4000, 4500))
        await lake.sees(13_500)
        assert second.running
        fleet.remove(second)
        _assert_exact(lake, 4500, fleet.log())


def _assert_exact(lake: Reader, past: int, log: str) -> None:
    expected = lake.ask(EXPECTED, {"past": past})
    by_events = (
        "SELECT run_id, agent_id, count(*), sum(input_tokens) FROM events GROUP BY ALL ORDER BY ALL"
    )
    assert lake.ask(by_events) == expected, log
    assert lake.ask("SELECT count(DISTINCT event_id) FROM events") == [(past * PARTITIONS,)]
    by_agents = "SELECT run_id, agent_id, calls, input_tokens FROM agents ORDER BY ALL"
    assert lake.ask(by_agents) == expected
    total = [(past * PARTITIONS, PARTITIONS * sum(range(past)))]
    for table in ("runs", "agents", "hourly"):
        assert lake.ask(f"SELECT sum(calls), sum(input_tokens) FROM {table}") == total
