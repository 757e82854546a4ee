"""Many clients query the views while events come in: nothing fails and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from derived import publish, usages
from pipeline import eventually

from marlin.broker.cluster import create_topics
from marlin.connection import connect
from marlin.settings import Settings
from marlin.sinks.service import run_sink

CLIENTS = 10
EVENTS = 20_000
SLICE = 2_000
VIEWS = (
    *("agent_summary", "budget_breaches", "daily_footprint", "data_quality"),
    *("hourly_zone_energy", "model_comparison", "run_summary", "scope3_category1"),
)
TOTALS = (
    "SELECT (SELECT count(*) FROM events), (SELECT coalesce(sum(calls), 0) FROM runs), "
    "(SELECT coalesce(sum(calls), 0) FROM run_summary)"
)


@asynccontextmanager
async def sink(settings: Settings) -> AsyncGenerator[None]:
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_sink(settings, stop=stop, ready=ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
    try:
        if running.done():
            await running
        yield
    finally:
        waiting.cancel()
        stop.set()
        async with asyncio.timeout(60):
            await running


def ask_until(settings: Settings, number: int, done: asyncio.Event) -> int:
    """Rounds of a view and of totals that must agree and never fall; how many there were."""
    rounds, seen = 0, 0
    with connect(settings=settings) as connection:
        while not done.is_set():
            view = connection.execute(f"SELECT * FROM {VIEWS[(number + rounds) % len(VIEWS)]}")
            assert view.rowcount >= 0
            ((events, calls, summed),) = connection.execute(TOTALS).fetchall()
            assert events == calls == summed >= seen
            rounds, seen = rounds + 1, events
    return rounds


async def test_ten_clients_beside_a_stream_of_events(settings: Settings) -> None:
    done = asyncio.Event()
    await create_topics(settings)
    # Threads of their own: the sink uses those of the loop.
    with ThreadPoolExecutor(CLIENTS) as threads:
        async with sink(settings):
            in_thread = asyncio.get_running_loop().run_in_executor
            clients = [
                in_thread(threads, ask_until, settings, number, done) for number in range(CLIENTS)
            ]
            try:
                for begin in range(0, EVENTS, SLICE):
                    await publish(settings, usages(begin, begin + SLICE))
                await eventually(lambda: asyncio.to_thread(has_all, settings))
            finally:
                done.set()
            assert all(rounds > 0 for rounds in await asyncio.gather(*clients))
    with connect(settings=settings) as connection:
        assert connection.execute(TOTALS).fetchall() == [(EVENTS, EVENTS, EVENTS)]
        assert connection.execute("SELECT count(DISTINCT event_id) FROM events").fetchone() == (
            EVENTS,
        )


def has_all(settings: Settings) -> bool:
    with connect(settings=settings) as connection:
        return connection.execute(TOTALS).fetchone() == (EVENTS, EVENTS, EVENTS)
