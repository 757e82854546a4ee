"""Grid intensity through the pipeline: told, joined, stored, and adjusted where it came late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from events import usage
from grid_script import Script
from pipeline import eventually, unique_carbon, worker

from marlin.broker.cluster import connect, create_topics
from marlin.broker.reading import read_log
from marlin.errors import ConfigurationError
from marlin.estimation import Estimator
from marlin.grid.publisher import open_publisher, run_publisher
from marlin.query import query
from marlin.schemas import GridRecord, dump
from marlin.settings import GridSettings, Settings
from marlin.sinks.service import run_sink
from marlin.streams.grid import HourlyValues
from marlin.streams.grid_reader import GridReader
from marlin.streams.partition import Partition
from marlin.topics import Topics

NOW = datetime.now(UTC)
HOUR = NOW.replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
IE = {"provider": "aws", "region": "eu-west-1", "time": HOUR}
YEAR_IE = 403.4


def joining(settings: Settings, **grid: Any) -> Settings:
    fields: dict[str, Any] = {"zones": ("IE", "US-SW-AZPS"), "join": True, "adjust_interval_s": 0.2}
    return settings.model_copy(update={"grid": GridSettings(**(fields | grid))})


async def publish(settings: Settings, script: Script) -> list[GridRecord]:
    async with open_publisher(settings, script) as publisher:
        return await publisher.publish()


async def told(settings: Settings) -> list[tuple[GridRecord, int]]:
    """The grid topic: records with their times [ms]."""
    cluster, topic = await connect(settings), Topics(settings.kafka.topic_prefix).grid
    return [
        (GridRecord.model_validate_json(record.value or b""), record.timestamp)
        async for records in read_log(cluster, topic, [0])
        for record in records
    ]


async def send(settings: Settings, *calls: dict[str, Any], later_s: float) -> None:
    """Send usage events that say they were sent `later_s` [s] from now."""
    await create_topics(settings)
    producer = AIOKafkaProducer(**(await connect(settings)).producer_options())
    await producer.start()
    at_ms = round((time.time() + later_s) * 1000)
    try:
        for number, call in enumerate(calls):
            await producer.send_and_wait(
                Topics(settings.kafka.topic_prefix).events,
                dump(usage(seq=at_ms + number, event_id=f"{at_ms}-{number}", **call)),
                key=b"run-1",
                timestamp_ms=at_ms,
            )
    finally:
        await producer.stop()


@asynccontextmanager
async def sink(settings: Settings) -> AsyncGenerator[None]:
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_sink(settings, stop=stop, ready=ready))
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        if running.done():
            await running
        yield
    finally:
        waiting.cancel()
        stop.set()
        await running


async def rows(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    return (await asyncio.to_thread(query, sql, settings=settings)).rows


async def metered(settings: Settings, count: int) -> None:
    async def are_there() -> bool:
        return len(await unique_carbon(settings)) >= count

    await eventually(are_there)


async def test_an_event_is_counted_and_stored_with_the_intensity_of_its_hour(
    settings: Settings,
) -> None:
    settings, script = joining(settings), Script()
    script.measured = {("IE", HOUR): 250.0}
    await publish(settings, script)
    await send(settings, IE, later_s=0)
    await send(
        settings,
        *(IE, {**IE, "time": HOUR + timedelta(hours=1)}),
        {"provider": "azure", "region": "westus3", "time": HOUR},
        {"provider": "aws", "region": "nowhere", "time": HOUR},
        later_s=65,
    )

    async with worker(settings):
        await metered(settings, 5)
    async with sink(settings):
        pass

    assert await rows(
        settings,
        "SELECT intensity_g_per_kwh, list_filter(quality, code -> code LIKE 'intensity%'), "
        "round(carbon_g / energy_wh * 1000, 6) FROM events ORDER BY seq",
    ) == [
        (YEAR_IE, [], YEAR_IE),  # came within a minute of the value
        (250.0, ["intensity_hour"], 250.0),
        (YEAR_IE, [], YEAR_IE),  # an hour that nobody told
        (384.4, ["intensity_country"], 384.4),
        (458.3, ["intensity_world"], 458.3),
    ]
    assert await rows(
        settings,
        "SELECT zone, hour, revision, intensity_g_per_kwh, basis, estimate, source, "
        "published_at >= fetched_at FROM grid_intensity",
    ) == [("IE", HOUR, 0, 250.0, "lifecycle", "measured", "script", True)]


async def test_without_a_grid_the_year_stands(settings: Settings) -> None:
    script = Script()
    script.measured = {("IE", HOUR): 250.0}
    await publish(joining(settings), script)
    await send(settings, IE, later_s=65)

    async with worker(settings):
        await metered(settings, 1)

    (carbon,) = await unique_carbon(settings)
    assert carbon.intensity_g_per_kwh == YEAR_IE


async def test_read_again_after_more_was_told_events_are_counted_as_before(
    settings: Settings,
) -> None:
    settings, script = joining(settings), Script()
    script.measured = {("IE", HOUR): 250.0}
    await publish(settings, script)
    # Not later: what is published next must come too late for it.
    await send(settings, IE, {**IE, "time": HOUR + timedelta(hours=1)}, later_s=60)
    before = await estimated_anew(settings)

    script.measured = {("IE", HOUR): 260.0, ("IE", HOUR + timedelta(hours=1)): 270.0}
    await publish(settings, script)
    after = await estimated_anew(settings)

    assert len(await told(settings)) == 3
    assert after == before
    assert [orjson.loads(value)["intensity_g_per_kwh"] for value in after] == [250.0, YEAR_IE]


async def estimated_anew(settings: Settings) -> list[bytes]:
    """The carbon records of a worker that knows nothing yet, of all events."""
    cluster, topics = await connect(settings), Topics(settings.kafka.topic_prefix)
    reader = GridReader(cluster, topics.grid, HourlyValues(keep=timedelta(days=40)))
    reading = asyncio.create_task(reader.run())
    carbon: list[bytes] = []
    try:
        async for records in read_log(cluster, topics.events, range(3)):
            await reader.ready_for(max(record.timestamp for record in records))
            partition = Partition(
                topics.events, 0, estimator=Estimator(grid=reader.values), grid=reader.values
            )
            outcome = partition.apply(records, now=NOW, max_event_bytes=10_000)
            carbon += [value for _, value in outcome.carbon]
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return carbon


async def test_late_data_is_adjusted_once_also_across_restarts_of_the_sink(
    settings: Settings,
) -> None:
    settings, script = joining(settings), Script()
    await send(settings, IE, IE, later_s=0)
    async with worker(settings):
        await metered(settings, 2)

    async def adjusted_to(value: float) -> bool:
        sums = await rows(
            settings,
            "SELECT (sum(carbon_g) + (SELECT coalesce(sum(new_carbon_g - old_carbon_g), 0) FROM "
            "adjustments)) / sum(energy_wh) * 1000 FROM events",
        )
        return bool(sums[0][0] is not None and abs(sums[0][0] - value) < 1e-6)

    async with sink(settings):
        await eventually(lambda: adjusted_to(YEAR_IE))
        script.measured = {("IE", HOUR): 250.0}
        await publish(settings, script)
        await eventually(lambda: adjusted_to(250.0))
    async with sink(settings):
        script.measured = {("IE", HOUR): 300.0}
        await publish(settings, script)
        await eventually(lambda: adjusted_to(300.0))
    async with sink(settings):
        await asyncio.sleep(0.6)  # some looks of a sink that remembers nothing

    assert await rows(
        settings,
        "SELECT kind, count(*), sum(calls) FROM restatements GROUP BY ALL",
    ) == [("grid", 2, 4)]
    assert await rows(
        settings,
        "SELECT count(*), any_value(contains(new_codes, 'intensity_hour')) FROM adjustments",
    ) == [(2, True)]
    assert await rows(settings, "SELECT DISTINCT intensity_g_per_kwh FROM events") == [(YEAR_IE,)]


async def test_several_publishers_tell_each_value_once(settings: Settings) -> None:
    settings, script = joining(settings, poll_interval_s=1.0), Script()
    script.measured = {("IE", HOUR): 250.0, ("US-SW-AZPS", HOUR): 320.0}
    first = await publish(settings, script)
    second = await publish(settings, script)
    script.measured["IE", HOUR] = 255.0
    third = await publish(settings, script)

    assert [(one.zone, one.revision, one.intensity_g_per_kwh) for one in first] == [
        ("IE", 0, 250.0),
        ("US-SW-AZPS", 0, 320.0),
    ]
    assert second == []
    assert [(one.zone, one.revision, one.intensity_g_per_kwh) for one in third] == [
        ("IE", 1, 255.0)
    ]
    assert [record for record, _ in await told(settings)] == [*first, *third]


async def test_publishers_that_run_at_the_same_time_do_no_harm(settings: Settings) -> None:
    settings = joining(settings)
    scripts = [Script() for _ in range(3)]
    for script in scripts:
        script.measured = {("IE", HOUR): 250.0}
    await asyncio.gather(*[publish(settings, script) for script in scripts])
    again = await publish(settings, scripts[0])

    assert again == []
    keys = {record.key for record, _ in await told(settings)}
    assert keys == {b"IE|%b|0" % f"{HOUR:%Y-%m-%dT%HZ}".encode()}
    async with sink(settings):
        pass
    assert await rows(settings, "SELECT count(*) FROM grid_intensity") == [(1,)]


async def test_a_zone_that_fails_is_left_for_the_next_time(settings: Settings) -> None:
    settings, script = joining(settings, poll_interval_s=1.0), Script()
    script.measured = {("IE", HOUR): 250.0, ("US-SW-AZPS", HOUR): 320.0}
    script.down = {"IE"}
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_publisher(settings, script, stop=stop, ready=ready))
    try:

        async def zones(count: int) -> bool:
            return len({record.zone for record, _ in await told(settings)}) == count

        await eventually(lambda: zones(1))
        script.down = set()
        await eventually(lambda: zones(2))
    finally:
        stop.set()
        await running
    assert {record.zone for record, _ in await told(settings)} == {"IE", "US-SW-AZPS"}


async def test_a_forecast_is_told_for_the_present_hour_and_revised_when_measured(
    settings: Settings,
) -> None:
    settings, script = joining(settings), Script()
    present = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    script.forecasts = {("IE", present): 280.0}
    (forecast,) = await publish(settings, script)
    script.forecasts = {("IE", present): 290.0}
    script.measured = {("IE", present): 275.0}
    (measured,) = await publish(settings, script)

    assert (forecast.estimate, forecast.revision) == ("forecast", 0)
    assert (measured.estimate, measured.revision) == ("measured", 1)


@pytest.mark.parametrize(
    ("script", "zones", "reason"),
    [
        (Script(signal="marginal"), ("IE",), "script tells marginal lifecycle intensities"),
        (Script(basis="direct"), ("IE",), "script tells average direct intensities"),
        (Script(), (), "no grid zones"),
    ],
)
async def test_what_no_footprint_may_be_counted_with_is_not_published(
    settings: Settings, script: Script, zones: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        await publish(joining(settings, zones=zones), script)
    assert script.asked == []
