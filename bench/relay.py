"""The middle of the floor: a bare consumer in the worker's place, which passes probes on.

    python bench/relay.py '{"bootstrap": …, "source": …, "out": …, "partitions": 8}'

It reads the worker's topic, the background load as well, with the worker's client settings, and
sends every record whose key begins with `floor-` to another topic at once. Prints `ready`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


async def main() -> None:
    spec = json.loads(sys.argv[1])
    servers = spec["bootstrap"]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, fetch_max_wait_ms=20, auto_offset_reset="latest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=0)
    async with consumer, producer:
        partitions = [TopicPartition(spec["source"], n) for n in range(spec["partitions"])]
        consumer.assign(partitions)
        for tp in partitions:
            await consumer.position(tp)
        print("ready", flush=True)
        sending: set[asyncio.Future[Any]] = set()
        while True:
            found = await consumer.getmany(timeout_ms=200)
            for tp, records in found.items():
                for record in records:
                    if record.key and record.key.startswith(b"floor-"):
                        future = await producer.send(
                            spec["out"], record.value, key=record.key, partition=tp.partition
                        )
                        sending.add(future)
                        future.add_done_callback(sending.discard)


if __name__ == "__main__":
    uvloop.run(main())
