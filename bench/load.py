"""Background load: events at a steady rate, made beforehand so that sending takes little time.

    python bench/load.py '{"bootstrap": …, "prefix": …, "rate": 20000, "seconds": 60, …}'

Prints `ready` when everything is made, begins at the first line on its input, prints how many
events it sent as JSON when it is through or told to stop by SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import Any

import uvloop
from aiokafka import AIOKafkaProducer
from trace_events import Fleet
from traffic import by_partition

from marlin.topics import Topics

TICK_S = 0.01


def ticks(producer: AIOKafkaProducer, spec: dict[str, Any]) -> list[list[tuple[int, Any, int]]]:
    """Per tick the record batches: partition, batch, events."""
    per_tick = round(spec["rate"] * TICK_S)
    fleet = Fleet(runs=1000, name="load")
    made: list[list[tuple[int, Any, int]]] = []
    for _ in range(round(spec["seconds"] / TICK_S)):
        batches: list[tuple[int, Any, int]] = []
        for number, records in by_partition(fleet.take(per_tick), spec["partitions"]).items():
            batch = producer.create_batch()
            for key, value in records:
                batch.append(key=key, value=value, timestamp=None)
            batches.append((number, batch, len(records)))
        made.append(batches)
    return made


async def main() -> None:
    spec = json.loads(sys.argv[1])
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    topic = Topics(spec["prefix"]).events
    async with AIOKafkaProducer(
        bootstrap_servers=spec["bootstrap"], acks="all", max_batch_size=900_000
    ) as producer:
        made = ticks(producer, spec)
        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        sent, late = 0, 0.0
        began = time.perf_counter()
        for number, batches in enumerate(made):
            if stop.is_set():
                break
            due = began + number * TICK_S
            late = max(late, time.perf_counter() - due)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            for partition, batch, events in batches:
                await producer.send_batch(batch, topic, partition=partition)
                sent += events
        elapsed_s = time.perf_counter() - began
        await producer.flush()
    found = {"sent": sent, "per_s": round(sent / elapsed_s), "latest_ms": round(late * 1e3)}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
