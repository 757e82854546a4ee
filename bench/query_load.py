"""Ten clients query the views in a loop while carbon records are stored: latency, errors, loss.

    python bench/query_load.py [--broker embedded|apache] [--rate 50000] [--seconds 20]
        [--clients 10] [--json]

Records are made beforehand and sent on time; `marlin sink` stores them and answers the queries,
each on a connection of its own, through `marlin.connect()`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from machine import BOTH, Broker, describe, pin, running
from processes import new_settings
from sink_lag import Sent, send, sink, ticks, watch

from marlin.broker.cluster import connect as reach
from marlin.connection import Connection, connect
from marlin.errors import MarlinError
from marlin.settings import Settings
from marlin.topics import Topics

VIEWS = (
    *("agent_summary", "budget_breaches", "daily_footprint", "data_quality"),
    *("hourly_zone_energy", "model_comparison", "run_summary", "scope3_category1"),
)
"""All views for people. The summaries hold a row per run, of which a person asks for some."""

QUERIES = {view: f"SELECT * FROM {view} LIMIT 100" for view in VIEWS}
LOSS = (
    "SELECT count(*), count(DISTINCT (source_id, source_partition, source_offset)) FROM events",
    "SELECT sum(calls) FROM runs",
    "SELECT sum(calls) FROM hourly",
)


class Clients:
    """Threads that query until they are told to stop."""

    def __init__(self, settings: Settings, count: int) -> None:
        self.times_s: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []
        self._settings = settings
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(count)]

    def start(self) -> None:
        """Begin to ask, each client with another view."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait for the last answers."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with connect(settings=self._settings) as connection:
            while not self._stop.is_set():
                view = VIEWS[number % len(VIEWS)]
                number += 1
                self._ask_one(connection, view)

    def _ask_one(self, connection: Connection, view: str) -> None:
        began = time.perf_counter()
        try:
            connection.execute(QUERIES[view]).fetchall()
        except MarlinError as exc:
            self.errors.append(str(exc))
        else:
            self.times_s[view].append(time.perf_counter() - began)


def summary(clients: Clients) -> dict[str, Any]:
    """Percentiles of all queries, and the slowest view's."""
    every = [time_s for times_s in clients.times_s.values() for time_s in times_s]
    by_view = {view: percentile(times_s, 95) for view, times_s in clients.times_s.items()}
    slowest = max(by_view, key=lambda view: by_view[view])
    return {
        "queries": len(every),
        "query_p50_s": round(statistics.median(every), 3),
        "query_p95_s": round(percentile(every, 95), 3),
        "query_max_s": round(max(every), 3),
        "slowest_view": f"{slowest}: p95 {by_view[slowest]:.3f} s",
        "errors": len(clients.errors),
        "first_error": clients.errors[0] if clients.errors else None,
    }


def percentile(values: list[float], percent: int) -> float:
    """The value that `percent` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def stored(settings: Settings) -> list[int]:
    """Events, distinct ones, and calls as two aggregates have them."""
    with connect(settings=settings) as connection:
        return [int(value) for sql in LOSS for value in connection.execute(sql).fetchall()[0]]


async def measure(broker: Broker, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    settings = await new_settings(broker, folder)
    topic = Topics(settings.kafka.topic_prefix).carbon
    producer_options = (await reach(settings)).producer_options()
    async with AIOKafkaProducer(**producer_options, max_batch_size=4_000_000) as producer:
        made = ticks(producer, settings, options.rate, options.seconds)
        per_tick = sum(batch.record_count() for _, batch in made[0])
        total, sent = per_tick * len(made), Sent()
        async with sink(settings, folder):
            clients = Clients(settings, options.clients)
            sending = asyncio.create_task(send(producer, made, topic, per_tick, sent))
            clients.start()
            began = time.perf_counter()
            await sending
            sent_s = time.perf_counter() - began
            await asyncio.to_thread(clients.stop)
            await watch(settings, sent, total)
            drained_s = time.perf_counter() - began
            counts = await asyncio.to_thread(stored, settings)
    return {
        "broker": broker.kind,
        "clients": options.clients,
        "sent": total,
        "sent_per_s": round(total / sent_s),
        "stored_per_s": round(total / drained_s),
        **summary(clients),
        "lost": total - min(counts),
        "counted_twice": max(counts) - total,
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--broker", choices=("apache", "embedded"), default="embedded")
    parser.add_argument("--rate", type=int, default=50_000, help="records a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=10)
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
