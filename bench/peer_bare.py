"""The limits: bare clients that consume and decode with orjson, and do nothing with it.

    .venv-bench/bin/python bench/peer_bare.py '{"client": "aiokafka" or "confluent", …}'

Prints a line of JSON after `count` events: events per second and processor time per event, from
the first batch to the last.
"""

from __future__ import annotations

import json
import sys
import time

import orjson

spec = json.loads(sys.argv[1])


class Meter:
    """Time and processor time from the first batch on."""

    def __init__(self) -> None:
        self.events = 0
        self.first = 0

    def saw(self, events: int) -> bool:
        """Count a batch; whether that was the last."""
        if not self.events:
            self.first = events
            self.time_s, self.cpu_s = time.perf_counter(), time.process_time()
        self.events += events
        if self.events < spec["count"]:
            return False
        counted = self.events - self.first
        elapsed_s = time.perf_counter() - self.time_s
        cpu_us = (time.process_time() - self.cpu_s) / counted * 1e6
        print(json.dumps({"per_s": counted / elapsed_s, "cpu_us": cpu_us}), flush=True)
        return True


async def aiokafka() -> None:
    """By `getmany`, its batch call, on uvloop."""
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(
        spec["source"],
        bootstrap_servers=spec["bootstrap"],
        group_id=spec["group"],
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
        session_timeout_ms=6000,
        heartbeat_interval_ms=1000,
    )
    await consumer.start()
    meter = Meter()
    try:
        done = False
        while not done:
            found = await consumer.getmany(timeout_ms=200)
            for records in found.values():
                for record in records:
                    orjson.loads(record.value)
            events = sum(map(len, found.values()))
            done = bool(events) and meter.saw(events)
    finally:
        await consumer.stop()


def confluent() -> None:
    """By `consume`, its batch call."""
    from confluent_kafka import Consumer

    consumer = Consumer(
        {
            "bootstrap.servers": spec["bootstrap"],
            "group.id": spec["group"],
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
        }
    )
    consumer.subscribe([spec["source"]])
    meter = Meter()
    try:
        done = False
        while not done:
            found = consumer.consume(5000, timeout=0.2)
            for record in found:
                orjson.loads(record.value())
            done = bool(found) and meter.saw(len(found))
    finally:
        consumer.close()


if __name__ == "__main__":
    if spec["client"] == "aiokafka":
        import uvloop

        uvloop.run(aiokafka())
    else:
        confluent()
