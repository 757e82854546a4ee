"""How far the sink is behind while records come at a steady rate, and what it costs.

    python bench/sink_lag.py [--broker embedded|apache] [--rate 100000] [--seconds 20] [--json]

Carbon records are made beforehand and sent on time; `marlin sink` reads them in a process of its
own. The lag is the age of the oldest record that cannot be queried yet, seen twenty times a
second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaProducer
from machine import BOTH, Broker, describe, pin, running
from processes import new_settings

from marlin.broker.cluster import connect
from marlin.errors import QueryError
from marlin.query import query
from marlin.schemas.examples import CARBON
from marlin.schemas.wire import dump
from marlin.settings import Settings
from marlin.sinks.discovery import find_server
from marlin.topics import Topics

TICK_S = 0.02
POLL_S = 0.05
WARM_UP_S = 3.0
MOST_WAIT_S = 120.0
STORED = "SELECT coalesce(sum(next_offset), 0) FROM positions WHERE kind = 'read'"

Tick = list[tuple[int, Any]]


def ticks(producer: AIOKafkaProducer, settings: Settings, rate: int, seconds: float) -> list[Tick]:
    """Record batches to send, by tick and partition."""
    partitions = settings.kafka.partitions
    per_batch = round(rate * TICK_S / partitions)
    chance = random.Random(1)
    before, after = dump(CARBON).split(b'"marlin.events.v1-3-1041"')
    after = after.replace(b'"run-7f3a"', b'"run-%d"', 1).replace(
        b'"energy_wh":1.5', b'"energy_wh":%r'
    )
    template = (
        before + b'"' + Topics(settings.kafka.topic_prefix).events.encode() + b'-%d-%d"' + after
    )
    made: list[Tick] = []
    for number in range(round(seconds / TICK_S)):
        tick: Tick = []
        for partition in range(partitions):
            batch = producer.create_batch()
            for offset in range(number * per_batch, (number + 1) * per_batch):
                run = partition * 10_000 + chance.randrange(10_000)
                value = template % (partition, offset, run, 3 * chance.random())
                batch.append(key=b"run-%d" % run, value=value, timestamp=None)
            tick.append((partition, batch))
        made.append(tick)
    return made


@asynccontextmanager
async def sink(settings: Settings, folder: Path) -> AsyncGenerator[psutil.Process]:
    """`marlin sink`, answering queries when the block begins."""
    environment = {
        "MARLIN_HOME": str(settings.home),
        "MARLIN_KAFKA__BOOTSTRAP_SERVERS": str(settings.kafka.bootstrap_servers),
        "MARLIN_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
    }
    with (folder / "sink.log").open("wb") as log:
        process = psutil.Popen(
            [sys.executable, "-m", "marlin.cli", "sink"],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
        )
        try:
            pin(process.pid, BOTH)
            async with asyncio.timeout(60):
                while find_server(settings.database_path) is None:
                    await asyncio.sleep(0.1)
            yield process
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait)


class Sent:
    """How many records were sent by when."""

    def __init__(self) -> None:
        self._at: list[float] = []
        self._counts: list[int] = []
        self.count = 0

    def add(self, records: int) -> None:
        """Count records that are being sent now."""
        self._at.append(time.perf_counter())
        self._counts.append(self.count)
        self.count += records

    def lag_s(self, stored: int) -> float:
        """Age of the first record that is not among the first `stored` [s]; 0: all are."""
        if stored >= self.count:
            return 0.0
        return time.perf_counter() - self._at[bisect_right(self._counts, stored) - 1]


async def send(
    producer: AIOKafkaProducer, made: list[Tick], topic: str, per_tick: int, sent: Sent
) -> None:
    """Send each tick at its time, or as soon as the broker takes it."""
    began = time.perf_counter()
    for number, tick in enumerate(made):
        await asyncio.sleep(max(0.0, began + number * TICK_S - time.perf_counter()))
        sent.add(per_tick)
        for partition, batch in tick:
            await producer.send_batch(batch, topic, partition=partition)
    await producer.flush()


async def watch(settings: Settings, sent: Sent, total: int) -> list[tuple[float, float]]:
    """Moments and lags, until everything is stored."""
    seen: list[tuple[float, float]] = []
    began = time.perf_counter()
    while True:
        try:
            ((stored,),) = (await asyncio.to_thread(query, STORED, settings=settings)).rows
        except QueryError:
            stored = 0  # not made yet
        now = time.perf_counter() - began
        seen.append((now, sent.lag_s(int(stored))))
        if stored >= total or now > MOST_WAIT_S:
            return seen
        await asyncio.sleep(POLL_S)


async def measure(broker: Broker, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    settings = await new_settings(broker, folder)
    topic = Topics(settings.kafka.topic_prefix).carbon
    producer_options = (await connect(settings)).producer_options()
    async with AIOKafkaProducer(**producer_options, max_batch_size=4_000_000) as producer:
        made = ticks(producer, settings, options.rate, options.seconds)
        per_tick = sum(batch.record_count() for _, batch in made[0])
        total, sent = per_tick * len(made), Sent()
        async with sink(settings, folder) as process:
            began = time.perf_counter()
            cpu_before = sum(process.cpu_times()[:2])
            sending = asyncio.create_task(send(producer, made, topic, per_tick, sent))
            seen = await watch(settings, sent, total)
            await sending
            took_s = time.perf_counter() - began
            cpu_s = sum(process.cpu_times()[:2]) - cpu_before
            memory = process.memory_info().rss
    lags = [lag for moment, lag in seen if WARM_UP_S <= moment <= options.seconds]
    return {
        "broker": broker.kind,
        "rate_per_s": options.rate,
        "sent": sent.count,
        "stored_per_s": round(total / took_s),
        "lag_p50_s": round(statistics.median(lags), 3),
        "lag_max_s": round(max(lags), 3),
        "lag_at_the_end_s": round(lags[-1], 3),
        "cpu_us_per_record": round(cpu_s / total * 1e6, 2),
        "memory_mb": round(memory / 1e6),
        "mb_per_million": round(settings.database_path.stat().st_size / total, 1),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--broker", choices=("apache", "embedded"), default="embedded")
    parser.add_argument("--rate", type=int, default=100_000, help="records a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    machine = describe()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with running(options.broker, folder) as broker:
            pin(os.getpid(), BOTH)
            pin(broker.process.pid, BOTH)
            found = await measure(broker, folder, options)
    if options.json:
        print(json.dumps(found | {"machine": machine}))
        return
    for key, value in found.items():
        print(f"{key:20} {value}")


if __name__ == "__main__":
    asyncio.run(main())
