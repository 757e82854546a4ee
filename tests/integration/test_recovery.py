"""What survives: moved partitions, standbys, finished runs, recreated and grown topics."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from events import NOW, started, usage
from pipeline import (
    PipelineProcess,
    commands,
    eventually,
    produce,
    read_all,
    unique_carbon,
    worker,
)

from marlin.broker.cluster import connect
from marlin.errors import ConfigurationError, StateError
from marlin.schemas import RunFinished, RunStarted, Usage, dump
from marlin.settings import Settings
from marlin.streams.partition import POSITION_KEY
from marlin.streams.worker import run_worker
from marlin.topics import Topics

Event = Usage | RunStarted | RunFinished


async def send(settings: Settings, *events: Event) -> None:
    await produce(settings, [(event.run_id.encode(), dump(event)) for event in events])


def calls(first: int, count: int, runs: int = 20) -> list[Event]:
    """The calls numbered `first` to `first + count` of `runs` runs in turn."""
    return [usage(f"run-{n % runs}", seq=n // runs) for n in range(first, first + count)]


async def counted(settings: Settings, expected: int) -> bool:
    return len(await unique_carbon(settings)) >= expected


async def check_run_totals(settings: Settings, expected_calls: int) -> None:
    """The last total published of each run is the number of its calls."""
    last: dict[str, int] = {}
    for record in await unique_carbon(settings):
        run_id = record.usage.run_id
        last[run_id] = max(last.get(run_id, 0), record.run_calls)
    assert sum(last.values()) == expected_calls


def with_worker(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update={"worker": settings.worker.model_copy(update=changes)})


@pytest.mark.parametrize("standbys", [0, 1])
async def test_partitions_move_between_workers_with_their_totals(
    settings: Settings, tmp_path: Path, standbys: int
) -> None:
    settings = with_worker(settings, standby_replicas=standbys)
    log = tmp_path / "worker.log"
    async with worker(settings):
        await send(settings, *calls(0, 400))
        await eventually(lambda: counted(settings, 400))
        other = PipelineProcess("worker", settings, log)
        for batch in range(4):  # while partitions move to the other
            await send(settings, *calls(400 + 100 * batch, 100))
            await asyncio.sleep(3)
        await eventually(lambda: counted(settings, 800))
        other.kill()  # and back
        await send(settings, *calls(800, 400))
        await eventually(lambda: counted(settings, 1200), within_s=120)

    await check_run_totals(settings, 1200)


async def test_a_finished_run_leaves_the_table_and_a_late_event_still_counts(
    settings: Settings,
) -> None:
    settings = with_worker(settings, finished_run_grace_s=0.5, expiry_interval_s=0.2)
    topic = Topics(settings.kafka.topic_prefix).runs
    finished = RunFinished(run_id="run-0", time=NOW, status="completed")

    async def tombstoned() -> bool:
        rows = [r for r in await read_all(settings, topic) if r.key == b"run-0"]
        return bool(rows) and rows[-1].value is None

    async with worker(settings):
        await send(settings, usage("run-0"), usage("run-1"), finished)
        await eventually(tombstoned)
        await send(settings, usage("run-0", seq=1))
        await eventually(lambda: counted(settings, 3))

    assert sorted(r.usage.run_id for r in await unique_carbon(settings)) == [
        "run-0",
        "run-0",
        "run-1",
    ]


async def recreate_events(settings: Settings) -> None:
    """Delete the events topic and make it again, as an operator might."""
    topic = Topics(settings.kafka.topic_prefix).events
    admin = AIOKafkaAdminClient(**(await connect(settings)).client_options())
    await admin.start()
    try:
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics()

        await eventually(gone)
    finally:
        await admin.close()


async def test_a_recreated_topic_is_refused(apache_settings: Settings) -> None:
    async with worker(apache_settings):
        await send(apache_settings, *calls(0, 60))
        await eventually(lambda: counted(apache_settings, 60))
    await recreate_events(apache_settings)
    await send(apache_settings, *calls(60, 200))

    with pytest.raises(StateError, match=r"was recreated.*ON_RECREATED_TOPIC=continue"):
        async with asyncio.timeout(60):
            await run_worker(apache_settings, stop=asyncio.Event())

    assert len(await unique_carbon(apache_settings)) == 60


async def test_a_recreated_topic_is_counted_from_its_start_when_told_so(
    apache_settings: Settings,
) -> None:
    async with worker(apache_settings):
        await send(apache_settings, *calls(0, 60))
        await eventually(lambda: counted(apache_settings, 60))
    await recreate_events(apache_settings)
    await send(apache_settings, *calls(60, 20))

    async with worker(with_worker(apache_settings, on_recreated_topic="continue")):
        await eventually(lambda: counted(apache_settings, 80))

    found = await unique_carbon(apache_settings)
    assert len(found) == 80
    assert sum("events.v1@1-" in record.source for record in found) == 20
    await check_run_totals(apache_settings, 80)


async def test_events_deleted_before_they_were_read_are_counted_as_skipped(
    apache_settings: Settings,
) -> None:
    topics = Topics(apache_settings.kafka.topic_prefix)
    async with worker(apache_settings):
        await send(apache_settings, *calls(0, 60))
        await eventually(lambda: counted(apache_settings, 60))
    await send(apache_settings, *calls(60, 60))
    ends = Counter(record.partition for record in await read_all(apache_settings, topics.events))
    admin = AIOKafkaAdminClient(**(await connect(apache_settings)).client_options())
    await admin.start()
    try:  # as retention would, while no worker runs
        await admin.delete_records(
            {TopicPartition(topics.events, n): RecordsToDelete(end) for n, end in ends.items()}
        )
    finally:
        await admin.close()

    async with worker(apache_settings):
        await send(apache_settings, *calls(120, 60))
        await eventually(lambda: counted(apache_settings, 120))

    rows = [r for r in await read_all(apache_settings, topics.runs) if r.key == POSITION_KEY]
    last = {row.partition: orjson.loads(row.value or b"") for row in rows}
    assert sum(row["skipped"] for row in last.values()) == 60


async def test_grown_topics_are_refused(apache_settings: Settings) -> None:
    async with worker(apache_settings):
        await send(apache_settings, *calls(0, 60))
        await eventually(lambda: counted(apache_settings, 60))
    admin = AIOKafkaAdminClient(**(await connect(apache_settings)).client_options())
    await admin.start()
    try:
        await admin.create_partitions(
            {Topics(apache_settings.kafka.topic_prefix).events: NewPartitions(total_count=5)}
        )
    finally:
        await admin.close()

    with pytest.raises(ConfigurationError, match="must have as many partitions"):
        async with worker(apache_settings):
            pass


async def test_an_abort_is_repeated_with_the_same_id_when_a_worker_dies_before_its_row(
    settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    await send(settings, started("run-0", carbon_budget_g=0.0), usage("run-0"))
    for _ in range(2):
        process = PipelineProcess("worker", settings, log)
        await eventually(lambda: commands(settings))
        process.kill()
    async with worker(settings):
        await send(settings, usage("run-0", seq=1))
        await eventually(lambda: counted(settings, 2))

    assert len({command.command_id for command in await commands(settings)}) == 1
