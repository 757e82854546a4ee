"""The procedures of docs/operations.md, carried out."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from events import usage
from pipeline import eventually, produce, unique_carbon, worker

from marlin.broker.cluster import connect, create_topics
from marlin.doctor import Check, examine
from marlin.errors import SinkError
from marlin.query import query
from marlin.schemas import Usage, dump
from marlin.settings import Settings
from marlin.sinks.rebuild import rebuild
from marlin.sinks.service import run_sink
from marlin.topics import Topics


@asynccontextmanager
async def admin(settings: Settings) -> AsyncGenerator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(**(await connect(settings)).client_options())
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def calls(count: int, *, first: int = 0, run: str = "run") -> list[Usage]:
    return [usage(f"{run}-{n % 9}", seq=n // 9) for n in range(first, first + count)]


async def metered(settings: Settings, events: list[Usage], *, carbon: int) -> None:
    """Send events; a worker and a sink handle them, until there are `carbon` footprints."""
    await produce(settings, [(event.run_id.encode(), dump(event)) for event in events])
    stop, ready = asyncio.Event(), asyncio.Event()
    sink = asyncio.create_task(run_sink(settings, stop=stop, ready=ready))
    try:
        async with worker(settings):

            async def counted() -> bool:
                return len(await unique_carbon(settings)) >= carbon

            await eventually(counted)
    finally:
        stop.set()
        await sink


async def doctor(settings: Settings) -> dict[str, Check]:
    return {check.name: check async for check in examine(settings)}


def stored(settings: Settings) -> tuple[int, int]:
    """Event rows, and the calls of all runs."""
    sql = "SELECT (SELECT count(*) FROM events), (SELECT sum(calls)::BIGINT FROM runs)"
    ((events, run_calls),) = query(sql, settings=settings).rows
    return events, run_calls


async def test_a_lost_changelog_is_made_again_from_the_events(apache_settings: Settings) -> None:
    settings = apache_settings
    await metered(settings, calls(90), carbon=90)
    changelog = Topics(settings.kafka.topic_prefix).runs
    async with admin(settings) as client:
        await client.delete_topics([changelog])

        async def gone() -> bool:
            return changelog not in await client.list_topics()

        await eventually(gone)
    await create_topics(settings)
    await metered(settings, calls(45, first=90), carbon=135)

    async def whole() -> bool:
        return (await doctor(settings))["usage"].text.startswith("9 runs in the table")

    await eventually(whole)
    checks = await doctor(settings)
    assert checks["accounts"].status == "ok", checks["accounts"]
    assert "published again and dropped" in checks["accounts"].text
    assert stored(settings) == (135, 135)


async def test_all_topics_grown_between_runs(apache_settings: Settings) -> None:
    settings = apache_settings
    await metered(settings, calls(90), carbon=90)
    async with admin(settings) as client:
        await client.create_partitions(
            {
                topic: NewPartitions(total_count=5)
                for topic in Topics(settings.kafka.topic_prefix).by_run()
            }
        )
    grown = settings.model_copy(
        update={"kafka": settings.kafka.model_copy(update={"partitions": 5})}
    )

    async def all_grown() -> bool:
        return (await doctor(grown))["topics"].text == "all there, 5 partitions each"

    await eventually(all_grown)  # brokers hear of it one after the other
    await metered(grown, calls(90, run="new"), carbon=180)

    checks = await doctor(grown)
    assert checks["topics"].text == "all there, 5 partitions each"
    assert checks["accounts"].status == "ok", checks["accounts"]
    assert stored(grown) == (180, 180)


async def test_new_topics_on_the_same_database(settings: Settings) -> None:
    await metered(settings, calls(90), carbon=90)
    kafka = settings.kafka
    moved = kafka.model_copy(update={"partitions": 5, "topic_prefix": f"v2-{kafka.topic_prefix}"})
    settings = settings.model_copy(update={"kafka": moved})
    await metered(settings, calls(90, run="new"), carbon=90)

    checks = await doctor(settings)
    assert checks["accounts"].status == "ok", checks["accounts"]
    assert stored(settings) == (180, 180)
    with pytest.raises(SinkError, match="no longer hold everything"):
        await rebuild(settings)


async def test_a_restored_backup_takes_in_what_came_after_it(settings: Settings) -> None:
    await metered(settings, calls(90), carbon=90)
    backup = settings.home_dir / "backup.duckdb"
    shutil.copy(settings.database_path, backup)
    await metered(settings, calls(90, first=90), carbon=180)
    assert stored(settings) == (180, 180)

    shutil.copy(backup, settings.database_path)
    assert stored(settings) == (90, 90)
    await metered(settings, calls(9, first=180), carbon=189)

    assert stored(settings) == (189, 189)
    assert (await doctor(settings))["accounts"].status == "ok"
