"""The sink on a real broker: the topics in, exact tables out, SQL beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from brokers.embedded import embedded_broker
from conftest import settings_for
from derived import publish, usages
from pipeline import eventually

from marlin.broker.cluster import create_topics
from marlin.errors import SinkError
from marlin.query import query
from marlin.settings import Settings
from marlin.sinks import conformance as made
from marlin.sinks.conformance import Recorded
from marlin.sinks.service import run_sink


@asynccontextmanager
async def sink(settings: Settings, *, drain: bool = True) -> AsyncGenerator[None]:
    """A running sink; stopped, and waited for, after the block."""
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_sink(settings, stop=stop, drain=drain, ready=ready))
    waiting = asyncio.create_task(ready.wait())
    async with asyncio.timeout(60):
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if running.done():
            await running
        yield
    finally:
        waiting.cancel()
        stop.set()
        async with asyncio.timeout(60):
            await running


async def rows(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    return (await asyncio.to_thread(query, sql, settings=settings)).rows


async def totals(settings: Settings) -> tuple[Any, ...]:
    """Events, calls of all runs, tokens."""
    ((events, tokens),) = await rows(
        settings, "SELECT count(*), coalesce(sum(input_tokens), 0) FROM events"
    )
    ((calls,),) = await rows(settings, "SELECT coalesce(sum(calls), 0) FROM runs")
    return events, calls, tokens


async def test_counts_while_running_and_drains_at_the_end(settings: Settings) -> None:
    await publish(settings, [made.started(0), *usages(1, 1000)])
    async with sink(settings):
        await eventually(lambda: _has(settings, 999))
        assert await totals(settings) == (999, 999, sum(range(1000)))
        await publish(settings, [*usages(1000, 5000), made.command(at=0), made.dead_letter(1, 0)])
    assert await totals(settings) == (4999, 4999, sum(range(5000)))
    assert await rows(settings, "SELECT action, run_id FROM commands") == [("abort", "run-0")]
    assert await rows(settings, "SELECT key, value FROM dead_letters") == [
        (b"\x01key", b"\xff\x00not json")
    ]


async def test_starts_again_where_it_stopped(settings: Settings) -> None:
    await publish(settings, usages(0, 300))
    for _ in range(2):
        async with sink(settings):
            pass
        assert (await totals(settings))[0] == 300
    # The worker was restarted: 100 records come again, 100 are new.
    await publish(settings, usages(200, 400))
    async with sink(settings):
        pass
    assert await totals(settings) == (400, 400, sum(range(400)))


async def test_waits_for_its_topics(settings: Settings) -> None:
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_sink(settings, stop=stop, ready=ready))
    await asyncio.sleep(1)
    assert not ready.is_set()
    await publish(settings, usages(0, 10))
    async with asyncio.timeout(30):
        await ready.wait()
    stop.set()
    await running
    assert (await totals(settings))[0] == 10


async def test_bad_records_do_not_stop_the_good_ones(settings: Settings) -> None:
    topic = made.TOPICS.carbon
    bad: list[bytes | None] = [b"", None, b"\xff", b"[]", b'{"type":"carbon"}', b'{"type":"other"}']
    records = [*usages(0, 30), *(Recorded(topic, 0, 0, value) for value in bad), *usages(30, 60)]
    await publish(settings, records)
    async with sink(settings):
        pass
    assert (await totals(settings))[0] == 60
    refused = await rows(
        settings, "SELECT value FROM dead_letters WHERE step = 'sink' ORDER BY source_offset"
    )
    assert [value for (value,) in refused] == bad


async def test_a_new_broker_is_read_from_its_beginning(tmp_path: Path) -> None:
    """The embedded broker's offsets restart at 0: what comes is new, though it looks old."""
    for start in range(2):
        with embedded_broker(tmp_path / f"broker-{start}.log") as address:
            settings = settings_for(address, tmp_path)
            settings = settings.model_copy(
                update={"kafka": settings.kafka.model_copy(update={"topic_prefix": ""})}
            )
            await publish(settings, usages(0, 30))
            async with sink(settings):
                pass
            async with sink(settings):
                pass
        assert (await totals(settings))[0] == 30 * (start + 1)


async def test_a_second_sink_is_told_who_has_the_database(settings: Settings) -> None:
    await create_topics(settings)
    code = (
        "import asyncio, sys\n"
        "from marlin.errors import SinkError\n"
        "from marlin.settings import Settings\n"
        "from marlin.sinks import service\n"
        "service._LOCK_WAIT_S = 0.1\n"
        "settings = Settings.model_validate_json(sys.argv[1])\n"
        "try: asyncio.run(service.run_sink(settings, stop=asyncio.Event()))\n"
        "except SinkError as exc: print(exc)\n"
    )
    async with sink(settings):
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, settings.model_dump_json()),
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await second.communicate()
        assert f"in use by process {os.getpid()} (".encode() in told
        assert await rows(settings, "SELECT 1") == [(1,)]


async def test_killed_at_any_moment_it_ends_exact(settings: Settings, tmp_path: Path) -> None:
    count = 20_000
    await publish(settings, usages(0, count // 2))
    code = (
        "import asyncio, sys\n"
        "from marlin.settings import Settings\n"
        "from marlin.sinks.service import run_sink\n"
        "settings = Settings.model_validate_json(sys.argv[1])\n"
        "asyncio.run(run_sink(settings, stop=asyncio.Event()))\n"
    )
    limits = settings.sink.model_copy(update={"batch_records": 500, "flush_interval_s": 0.01})
    small = settings.model_copy(update={"sink": limits})
    for kill in range(4):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, small.model_dump_json())
        )
        seen = kill * 2000
        await eventually(lambda seen=seen: _has(settings, seen + 1))
        if kill == 1:
            await publish(settings, usages(count // 3, count))  # a replay among it
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with sink(settings):
        pass
    assert await totals(settings) == (count, count, sum(range(count)))
    ((agents,),) = await rows(settings, "SELECT sum(calls) FROM agents")
    ((hourly,),) = await rows(settings, "SELECT sum(calls) FROM hourly")
    assert (agents, hourly) == (count, count)


async def test_without_drain_it_stops_at_once(settings: Settings) -> None:
    await publish(settings, usages(0, 100))
    async with sink(settings, drain=False):
        await eventually(lambda: _has(settings, 100))
    assert (await totals(settings))[0] == 100


async def _has(settings: Settings, events: int) -> bool:
    try:
        return (await rows(settings, "SELECT count(*) FROM events"))[0][0] >= events
    except SinkError:
        return False  # not created yet, or locked while its schema is
