"""`marlin doctor` on live systems: agreement while they work, and every kind of disagreement."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from events import started, usage
from pipeline import eventually, produce, unique_carbon, worker
from typer.testing import CliRunner

from marlin.broker.cluster import connect, create_topics
from marlin.cli.main import app
from marlin.doctor import Check, examine
from marlin.schemas import RunStarted, Usage, dump
from marlin.settings import Settings
from marlin.sinks.service import run_sink
from marlin.topics import Topics


async def send(settings: Settings, *events: Usage | RunStarted) -> None:
    await produce(settings, [(event.run_id.encode(), dump(event)) for event in events])


def calls(count: int, *, first: int = 0, runs: int = 10) -> list[Usage]:
    return [
        usage(f"run-{n % runs}", seq=n // runs, agent_id=f"agent-{n % 3}")
        for n in range(first, first + count)
    ]


async def looked(settings: Settings, *, fast: bool = False) -> dict[str, Check]:
    async with asyncio.timeout(90):
        return {check.name: check async for check in examine(settings, fast=fast)}


@asynccontextmanager
async def sink(settings: Settings) -> AsyncGenerator[None]:
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_sink(settings, stop=stop, ready=ready))
    try:
        async with asyncio.timeout(60):
            await ready.wait()
        yield
    finally:
        stop.set()
        await running


async def metered(settings: Settings, *events: Usage | RunStarted) -> None:
    """Send events and let a worker and a sink handle them, then stop both."""
    await send(settings, *events)
    wanted = sum(isinstance(event, Usage) for event in events)
    before = len(await unique_carbon(settings))
    async with sink(settings), worker(settings):
        await eventually(lambda: _carbon(settings, before + wanted))


async def _carbon(settings: Settings, count: int) -> bool:
    return len(await unique_carbon(settings)) >= count


def edit(settings: Settings, *statements: str) -> None:
    with closing(duckdb.connect(str(settings.database_path))) as database:
        for statement in statements:
            database.execute(statement)


async def test_a_live_system_agrees_with_itself(settings: Settings) -> None:
    async with worker(settings), sink(settings):
        await send(settings, *calls(300))
        enough = asyncio.Event()
        sending = asyncio.create_task(_keep_sending(settings, enough))
        first = await looked(settings)
        checks = await looked(settings)
        enough.set()
        await sending

    assert first["accounts"].status == "ok", first["accounts"]
    assert checks["accounts"].status == "ok", checks["accounts"]
    assert checks["workers"].text.startswith("1 worker in the group")
    assert checks["sink"].text.startswith("runs (process ")
    assert checks["topics"].text == "all there, 3 partitions each"
    assert checks["skipped events"].status == "ok"
    assert not [check for check in checks.values() if check.status == "fail"]


async def _keep_sending(settings: Settings, enough: asyncio.Event) -> None:
    first = 300
    while not enough.is_set():
        await send(settings, *calls(100, first=first))
        first += 100


async def test_nothing_works_and_events_wait(settings: Settings) -> None:
    await send(settings, *calls(30))

    checks = await looked(settings)

    assert checks["workers"].status == "fail"
    assert "no worker runs, and 30 events wait" in checks["workers"].text
    assert checks["events lag"].status == "warn"
    assert checks["events lag"].text.startswith("30 events behind on ")
    assert checks["sink"].status == "warn"
    assert checks["database"].status == "warn"
    assert checks["accounts"].text.startswith("run table and carbon topic agree: 0 calls")


async def test_a_sink_that_is_behind_is_no_difference(settings: Settings) -> None:
    await metered(settings, *calls(60))
    await send(settings, *calls(40, first=60))
    async with worker(settings):
        await eventually(lambda: _carbon(settings, 100))

    checks = await looked(settings)

    assert checks["accounts"].status == "ok", checks["accounts"]
    assert "40 records not yet taken in" in checks["accounts"].text
    assert checks["sink"].text == "does not run here; 40 records to take in (40 of them carbon)"


WRONG = [
    (
        "DELETE FROM events WHERE run_id = 'run-3' AND seq = 1",
        "DuckDB events: run run-3: calls 5, expected 6",
    ),
    (
        "INSERT INTO events SELECT * FROM events WHERE run_id = 'run-4' AND seq = 0",
        "DuckDB events: run run-4: calls 7, expected 6",
    ),
    (
        "UPDATE events SET output_tokens = 201 WHERE run_id = 'run-5' AND seq = 2",
        "DuckDB events: run run-5: output_tokens 1201, expected 1200 (carbon topic)",
    ),
    (
        "UPDATE runs SET calls = 5 WHERE run_id = 'run-6'",
        "DuckDB runs: run run-6: calls 5, expected 6 (DuckDB events)",
    ),
    (
        "UPDATE agents SET input_tokens = 1 WHERE run_id = 'run-7' AND agent_id = 'agent-1'",
        "DuckDB agents: run run-7, agent agent-1: input_tokens 1, expected 2000 (DuckDB events)",
    ),
    (
        "DELETE FROM runs WHERE run_id = 'run-8'",
        "DuckDB runs: run run-8: missing, expected 6 calls (DuckDB events)",
    ),
    (
        "UPDATE hourly SET calls = calls + 1",
        "DuckDB hourly: run (all runs): calls 61, expected 60 (DuckDB events)",
    ),
]


async def test_a_wrong_database_is_found_and_named(settings: Settings) -> None:
    await metered(settings, *calls(60))
    assert (await looked(settings))["accounts"].status == "ok"
    right = settings.database_path.read_bytes()

    for statement, told in WRONG:
        settings.database_path.write_bytes(right)
        edit(settings, statement)
        accounts = (await looked(settings))["accounts"]
        assert accounts.status == "fail", statement
        assert [line for line in accounts.details if line.startswith(told)], accounts.details
    assert (await looked(settings, fast=True))["accounts"].status == "skip"


async def test_a_lost_carbon_record_is_found(settings: Settings) -> None:
    """One that never came, as if a worker had written its row first."""
    await metered(settings, *calls(20, runs=2))
    topics = Topics(settings.kafka.topic_prefix)
    carbon = (await unique_carbon(settings))[-1]
    forged = carbon.model_copy(
        update={
            "source": carbon.source.rsplit("-", 1)[0] + "-900000",
            "usage": carbon.usage.model_copy(update={"seq": 99}),
        }
    )
    producer = AIOKafkaProducer(**(await connect(settings)).producer_options())
    await producer.start()
    partition = int(carbon.source.rsplit("-", 2)[1])
    await producer.send_and_wait(
        topics.carbon, dump(forged), key=carbon.usage.run_id.encode(), partition=partition
    )
    await producer.stop()
    # Beyond the table's position: not yet to be compared with it.
    assert (await looked(settings))["accounts"].status == "ok"
    edit(settings, "UPDATE positions SET next_offset = 900001 WHERE kind = 'applied'")

    accounts = (await looked(settings))["accounts"]

    assert accounts.status == "fail"
    assert accounts.details[0].startswith(
        f"DuckDB events: run {carbon.usage.run_id}: calls 10, expected 11, input_tokens 10000"
    )


async def test_retention_is_counted_and_no_false_alarm(apache_settings: Settings) -> None:
    """Events that were removed unread, and carbon records that were removed after reading."""
    settings = apache_settings
    await metered(settings, *calls(60, runs=1))
    await send(settings, *calls(20, first=60, runs=1))
    partition = int((await unique_carbon(settings))[0].source.rsplit("-", 2)[1])
    topics = Topics(settings.kafka.topic_prefix)
    admin = AIOKafkaAdminClient(**(await connect(settings)).client_options())
    await admin.start()
    for topic, before in ((topics.events, 70), (topics.carbon, 25)):
        where = TopicPartition(topic, partition)
        await admin.delete_records({where: RecordsToDelete(before_offset=before)})
    await admin.close()
    async with sink(settings), worker(settings):
        await eventually(lambda: _carbon(settings, 45))

    checks = await looked(settings)

    assert checks["skipped events"].status == "warn"
    assert checks["skipped events"].text.startswith("10 offsets of the events topic were removed")
    assert checks["usage"].details == ("run run-0: 10 lost",)
    assert checks["accounts"].status == "ok", checks["accounts"]
    assert "1 run compared in part, for retention" in checks["accounts"].text


async def test_what_is_left_undone_is_shown(settings: Settings) -> None:
    await create_topics(settings)
    bad = (b"run-0", b"not json")
    await produce(settings, [bad, bad])
    await metered(
        settings,
        started("run-0", carbon_budget_g=0.0),
        usage("run-0", seq=0),
        usage("run-1", seq=0),
        usage("run-1", seq=5),
    )
    await send(settings, usage("run-1", seq=5))
    await metered(settings, usage("run-1", seq=6))
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    edit(settings, f"UPDATE commands SET issued_at = '{long_ago.isoformat()}'")

    checks = await looked(settings, fast=True)

    assert checks["aborts"].status == "warn"
    assert checks["aborts"].text == "1 abort not acknowledged after 30 s, of runs run-0"
    assert checks["dead letters"].status == "warn"
    assert checks["dead letters"].text.startswith("2 records refused (decode: 2), the latest at")
    assert checks["usage"].status == "warn"
    assert "1 repeated event dropped; 4 usage events lost by producers" in checks["usage"].text
    assert checks["usage"].details == ("run run-1: 4 lost",)


async def test_topics_that_differ_in_partitions(apache_settings: Settings) -> None:
    await create_topics(apache_settings)
    topics = Topics(apache_settings.kafka.topic_prefix)
    admin = AIOKafkaAdminClient(**(await connect(apache_settings)).client_options())
    await admin.start()
    await admin.create_partitions({topics.events: NewPartitions(total_count=5)})
    await admin.close()

    async def grown() -> dict[str, Check] | None:
        found = await looked(apache_settings)
        return found if found["topics"].status != "ok" else None

    checks = await eventually(grown)  # brokers hear of it one after the other
    assert checks["topics"].status == "fail"
    assert f"{topics.events}: 5" in checks["topics"].details
    assert "accounts" not in checks


async def test_without_topics_it_says_how_to_make_them(settings: Settings) -> None:
    checks = await looked(settings)

    assert checks["topics"].status == "fail"
    assert checks["topics"].remedy == "create them: `marlin topics create`"


async def test_the_command_prints_and_ends_with_1_when_something_is_wrong(
    settings: Settings,
) -> None:
    await metered(settings, *calls(30))
    kafka = settings.kafka
    env = {
        "MARLIN_HOME": str(settings.home),
        "MARLIN_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers or "",
        "MARLIN_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        "MARLIN_KAFKA__SASL_PASSWORD": "hunter2",
    }

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["doctor", *arguments], env=env)

    well = await asyncio.to_thread(invoke, "--json")
    report = json.loads(well.stdout)
    assert (well.exit_code, report["ok"]) == (0, True)
    assert {check["name"]: check["status"] for check in report["checks"]}["accounts"] == "ok"
    assert "hunter2" not in well.stdout
    assert "MARLIN_KAFKA__SASL_PASSWORD=**********" in well.stdout

    edit(settings, "UPDATE runs SET calls = 1 WHERE run_id = 'run-2'")
    ill = await asyncio.to_thread(invoke)
    assert ill.exit_code == 1
    assert "fail accounts: " in ill.stdout
    assert "DuckDB runs: run run-2: calls 1, expected 3 (DuckDB events)" in ill.stdout


def test_without_a_cluster_it_still_looks_at_the_rest() -> None:
    env = {"MARLIN_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}

    done = CliRunner().invoke(app, ["doctor", "--json"], env=env)

    statuses = {check["name"]: check["status"] for check in json.loads(done.stdout)["checks"]}
    assert done.exit_code == 1
    assert statuses == {
        "configuration": "ok",
        "factors": "ok",
        "database": "warn",
        "broker": "fail",
    }
