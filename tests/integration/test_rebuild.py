"""`marlin rebuild` on real brokers: the same totals from the topics, and nothing lost unasked."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from typer.testing import CliRunner

from marlin.broker.cluster import connect, create_topics
from marlin.cli.main import app
from marlin.errors import ConfigurationError, SinkError
from marlin.query import query
from marlin.settings import Settings
from marlin.sinks import conformance as made
from marlin.sinks.conformance import Recorded
from marlin.sinks.database import DatabaseLockedError, open_database
from marlin.sinks.rebuild import kept_path, rebuild
from marlin.sinks.service import run_sink
from marlin.topics import Topics

TABLES = {
    "events": "* EXCLUDE (source_id, ingested_at)",
    "runs": "*",
    "agents": "*",
    "hourly": "*",
    "commands": "*",
    "dead_letters": "* EXCLUDE (source_id, ingested_at, refused_at)",
}


async def publish(settings: Settings, records: Sequence[Recorded]) -> None:
    """Send records, those of a partition as one batch: the hardest for the embedded broker."""
    await create_topics(settings)
    options = (await connect(settings)).producer_options()
    producer = AIOKafkaProducer(**options, max_batch_size=900_000)
    await producer.start()
    batches: dict[tuple[str, int], list[Recorded]] = defaultdict(list)
    for record in records:
        batches[settings.kafka.topic_prefix + record.topic, record.partition].append(record)
    try:
        for (topic, partition), these in batches.items():
            batch = producer.create_batch()
            for record in these:
                headers = [(name, value or b"") for name, value in record.headers]
                batch.append(timestamp=None, key=record.key, value=record.value, headers=headers)
            await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()


async def take_in(settings: Settings) -> None:
    """A sink that takes in what there is, and stops."""
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_sink(settings, stop=stop, ready=ready))
    async with asyncio.timeout(60):
        await ready.wait()
        stop.set()
        await running


def usages(first: int, past: int) -> list[Recorded]:
    return [made.carbon(n, partition=n % 3, input_tokens=n) for n in range(first, past)]


LOAD = [
    made.started(0),
    *usages(1, 400),
    *usages(200, 300),  # published again, by a worker that was killed
    *usages(400, 600),
    made.command(at=0),
    made.command(at=1),
    made.dead_letter(1, 0),
    Recorded(made.TOPICS.carbon, 1, 0, b"not a record"),
]


def everything(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """The whole database, but for when and by which number it came in."""
    return {
        table: query(f"SELECT {columns} FROM {table} ORDER BY ALL", settings=settings).rows
        for table, columns in TABLES.items()
    }


async def test_the_rebuilt_database_is_the_same_and_the_sink_goes_on_with_it(
    settings: Settings,
) -> None:
    # Small batches: the end of a log is then inside what one fetch brings.
    small = settings.sink.model_copy(update={"batch_records": 60})
    await publish(settings, LOAD)
    await take_in(settings)
    before = await asyncio.to_thread(everything, settings)
    told: list[tuple[int, int]] = []

    result = await rebuild(
        settings.model_copy(update={"sink": small}),
        progress=lambda done, records: told.append((done, records)),
    )

    assert await asyncio.to_thread(everything, settings) == before
    assert result.before == result.after
    assert (result.after.events, result.after.input_tokens) == (599, sum(range(600)))
    assert (result.after.commands, result.after.dead_letters) == (1, 2)
    assert result.lost == ()
    assert told[-1] == (len(LOAD), len(LOAD))
    kept_at = kept_path(settings.database_path)
    assert result.kept == kept_at
    assert sorted(path.name for path in settings.home_dir.glob("marlin.duckdb*")) == [
        "marlin.duckdb",
        "marlin.duckdb.before-rebuild",
    ]
    with closing(open_database(kept_at, read_only=True)) as kept:
        assert kept.execute("SELECT count(*) FROM events").fetchall() == [(599,)]

    await publish(settings, usages(500, 700))  # a hundred of them come again
    await take_in(settings)
    events = await asyncio.to_thread(query, "SELECT count(*) FROM events", settings=settings)
    assert events.rows == [(699,)]


async def test_a_lost_database_is_made_again(settings: Settings) -> None:
    await publish(settings, LOAD)
    await take_in(settings)
    before = await asyncio.to_thread(everything, settings)
    settings.database_path.unlink()
    # What a rebuild that was killed leaves behind does no harm.
    settings.database_path.with_name("marlin.duckdb.rebuilding").write_bytes(b"half a file")

    result = await rebuild(settings)

    assert (result.before, result.kept) == (None, None)
    assert await asyncio.to_thread(everything, settings) == before


async def test_it_refuses_while_a_sink_owns_the_database(settings: Settings) -> None:
    await publish(settings, LOAD)
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_sink(settings, stop=stop, ready=ready))
    try:
        async with asyncio.timeout(60):
            await ready.wait()
        with pytest.raises(SinkError, match=f"running sink, process {os.getpid()}; nothing was"):
            await rebuild(settings, force=True)
    finally:
        stop.set()
        await running
    assert not kept_path(settings.database_path).exists()


async def test_no_sink_can_start_meanwhile(settings: Settings) -> None:
    await publish(settings, LOAD)
    await take_in(settings)
    held: list[str] = []

    def look(_done: int, _records: int) -> None:
        # From another process: DuckDB lets one process open a file as often as it likes.
        code = (
            "import sys; from pathlib import Path; from marlin.errors import SinkError\n"
            "from marlin.sinks.duckdb_sink import DuckDBSink\n"
            "try: DuckDBSink(Path(sys.argv[1]))\n"
            "except SinkError as exc: print(exc)\n"
        )
        if not held:
            done = subprocess.run(
                [sys.executable, "-c", code, str(settings.database_path)],
                capture_output=True,
                text=True,
                check=True,
            )
            held.append(done.stdout)

    await rebuild(settings, progress=look)

    assert f"in use by process {os.getpid()}" in held[0]


async def test_a_file_kept_before_is_replaced_only_when_forced(settings: Settings) -> None:
    await publish(settings, LOAD)
    await take_in(settings)
    kept = kept_path(settings.database_path)
    kept.write_text("precious")

    with pytest.raises(SinkError, match=r"before-rebuild is there already.*nothing was changed"):
        await rebuild(settings)
    assert kept.read_text() == "precious"

    assert (await rebuild(settings, force=True)).kept == kept
    with closing(open_database(kept, read_only=True)) as old:
        assert old.execute("SELECT count(*) FROM events").fetchall() == [(599,)]


async def test_a_damaged_database_is_replaced_only_when_forced(settings: Settings) -> None:
    await publish(settings, LOAD)
    settings.database_path.write_bytes(b"x" * 4096)

    with pytest.raises(SinkError, match=r"what .*marlin.duckdb holds is unknown.*--force"):
        await rebuild(settings)
    assert settings.database_path.read_bytes() == b"x" * 4096

    result = await rebuild(settings, force=True)
    assert (result.before, result.after.events) == (None, 599)
    assert kept_path(settings.database_path).read_bytes() == b"x" * 4096


async def test_events_of_another_cluster_are_not_thrown_away(settings: Settings) -> None:
    """As with the embedded broker, which forgets everything when it stops."""
    await publish(settings, LOAD)
    await take_in(settings)
    with closing(duckdb.connect(str(settings.database_path))) as database:
        database.execute("UPDATE sources SET cluster_id = 'another'")
    before = settings.database_path.read_bytes()
    warned: list[str] = []

    with pytest.raises(SinkError, match=r"701 records were read from a .*carbon.v1 that was on an"):
        await rebuild(settings, warn=warned.append)
    assert settings.database_path.read_bytes() == before
    assert warned == []

    result = await rebuild(settings, force=True, warn=warned.append)
    assert [text.partition(" (")[0] for text in warned] == [
        text.partition(" (")[0] for text in result.lost
    ]
    assert len(warned) == 3


async def test_what_retention_took_is_not_thrown_away(apache_settings: Settings) -> None:
    await publish(apache_settings, LOAD)
    await take_in(apache_settings)
    carbon = Topics(apache_settings.kafka.topic_prefix).carbon
    admin = AIOKafkaAdminClient(**(await connect(apache_settings)).client_options())
    await admin.start()
    await admin.delete_records({TopicPartition(carbon, 2): RecordsToDelete(before_offset=30)})
    await admin.close()

    with pytest.raises(SinkError, match=r"carbon.v1-2 begins at offset 30: 30 records .*retention"):
        await rebuild(apache_settings)

    result = await rebuild(apache_settings, force=True)
    assert result.before is not None
    assert result.before.events - result.after.events == 30
    # Without an old file, in place or kept, there is nothing to lose.
    apache_settings.database_path.unlink()
    kept_path(apache_settings.database_path).unlink()
    assert (await rebuild(apache_settings)).after.events == 569


async def test_rows_that_no_topic_has_are_not_thrown_away(settings: Settings) -> None:
    await publish(settings, LOAD)
    await take_in(settings)
    with closing(duckdb.connect(str(settings.database_path))) as database:
        database.execute("CREATE TABLE audits AS SELECT 1 AS one")

    with pytest.raises(SinkError, match="table audits has rows that no topic has"):
        await rebuild(settings)


async def test_without_the_topics_nothing_is_touched(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"has no topics .*nothing to rebuild from"):
        await rebuild(settings)
    assert not settings.database_path.exists()


async def test_two_rebuilds_do_not_meet(settings: Settings) -> None:
    await publish(settings, LOAD)
    new = settings.database_path.with_name("marlin.duckdb.rebuilding")
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOLD, str(new)),
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.PIPE,
    )
    assert other.stdout is not None
    await other.stdout.readline()
    try:
        with pytest.raises(DatabaseLockedError, match=f"process {other.pid}"):
            await rebuild(settings)
    finally:
        await other.communicate(b"\n")
    assert new.exists()


_HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); input()"


async def test_the_command_says_what_was_and_what_is(settings: Settings) -> None:
    await publish(settings, LOAD)
    await take_in(settings)
    kafka = settings.kafka
    env = {
        "MARLIN_HOME": str(settings.home),
        "MARLIN_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers or "",
        "MARLIN_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
    }

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["rebuild", *arguments], env=env)

    told = await asyncio.to_thread(invoke, "--json")
    report = json.loads(told.stdout)
    assert told.exit_code == 0
    assert report["before"] == report["after"]
    assert report["after"]["events"] == 599
    assert Path(report["kept"]) == kept_path(settings.database_path)

    again = await asyncio.to_thread(invoke)
    assert (again.exit_code, again.stdout) == (1, "")
    assert "let --force replace it" in again.stderr

    other = settings.home_dir / "other.duckdb"
    shown = await asyncio.to_thread(invoke, "--database", str(other))
    assert shown.exit_code == 0
    assert "events" in shown.stdout
    assert "599" in shown.stdout
    assert other.exists()
