"""Putting events on topics fast, and watching what a measured process makes of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from marlin.broker.cluster import connect
from marlin.broker.offsets import read_ends
from marlin.settings import Settings

__all__ = [
    "Progress",
    "Sample",
    "alive",
    "by_partition",
    "count_records",
    "create_topic",
    "delete_topics",
    "follow",
    "led",
    "send",
    "send_spread",
    "settled",
]

BATCH_BYTES = 256 * 1024
"""Record batches as the SDK writes them at most [bytes]."""

# The harness waits for what a broker has not ready yet; the client would print a line each time.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

Records = Sequence[tuple[bytes, bytes]]

_SLACK = 5000
_POLL_S = 0.05


async def create_topic(settings: Settings, topic: str) -> None:
    """Create `topic` with the settings' partitions; returns when it takes records."""
    admin = AIOKafkaAdminClient(**(await connect(settings)).client_options())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, settings.kafka.partitions, 1)])
    finally:
        await admin.close()
    await led(settings, topic)


async def delete_topics(settings: Settings) -> None:
    """Delete every topic under the settings' prefix, for the disk's sake."""
    admin = AIOKafkaAdminClient(**(await connect(settings)).client_options())
    await admin.start()
    try:
        prefix = settings.kafka.topic_prefix
        await admin.delete_topics([t for t in await admin.list_topics() if t.startswith(prefix)])
    finally:
        await admin.close()


async def led(settings: Settings, topic: str, *, within_s: float = 60.0) -> None:
    """Wait until every partition of `topic` has a leader: Kafka elects them after creation."""
    cluster = await connect(settings)
    partitions = [TopicPartition(topic, n) for n in range(settings.kafka.partitions)]
    async with (
        asyncio.timeout(within_s),
        AIOKafkaConsumer(**cluster.client_options()) as consumer,
    ):
        while True:
            try:
                await consumer.end_offsets(partitions)
                return
            except KafkaError:
                await asyncio.sleep(0.2)


def by_partition(records: Records, partitions: int) -> dict[int, list[tuple[bytes, bytes]]]:
    """`records` as Kafka's default partitioner spreads them."""
    known: dict[bytes, int] = {}
    spread: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
    for key, value in records:
        number = known.get(key)
        if number is None:
            number = known[key] = (murmur2(key) & 0x7FFFFFFF) % partitions
        spread[number].append((key, value))
    return spread


async def send(settings: Settings, topic: str, records: Records) -> None:
    """Write `records` to `topic` and wait until they are durable."""
    await send_spread(settings, topic, by_partition(records, settings.kafka.partitions))


async def send_spread(settings: Settings, topic: str, spread: Mapping[int, Records]) -> None:
    """Write records whose partitions are known already, which takes a third of the time."""
    options = (await connect(settings)).producer_options()
    async with AIOKafkaProducer(**options, max_batch_size=BATCH_BYTES) as producer:
        await asyncio.gather(
            *[_send_partition(producer, topic, number, some) for number, some in spread.items()]
        )


async def _send_partition(
    producer: AIOKafkaProducer, topic: str, number: int, records: Records
) -> None:
    batch = producer.create_batch()
    waiting: list[asyncio.Future[Any]] = []
    for key, value in records:
        if batch.append(key=key, value=value, timestamp=None) is None:
            waiting.append(await producer.send_batch(batch, topic, partition=number))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    waiting.append(await producer.send_batch(batch, topic, partition=number))
    await asyncio.gather(*waiting)


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment."""

    time_s: float
    cpu_s: float
    """Processor time of the measured processes."""
    broker_cpu_s: float
    rss_bytes: int
    outputs: int
    """Records on the output topic."""


@dataclass(frozen=True)
class Progress:
    """The samples of a measurement, from the first output on."""

    samples: list[Sample]

    def between(self, first: float, last: float) -> Progress:
        """From the sample that has `first` outputs to the one that has `last`."""
        started = [sample for sample in self.samples if sample.outputs >= first]
        fewer = [sample for sample in started if sample.outputs < last]
        return Progress(started[: len(fewer) + 1])

    @property
    def events(self) -> int:
        return self.samples[-1].outputs - self.samples[0].outputs

    @property
    def per_s(self) -> float:
        """Events per second of wall time."""
        return self.events / (self.samples[-1].time_s - self.samples[0].time_s)

    @property
    def cpu_us(self) -> float:
        """Processor time of the measured processes per event [µs]."""
        return (self.samples[-1].cpu_s - self.samples[0].cpu_s) / self.events * 1e6

    @property
    def broker_cpu_us(self) -> float:
        """Processor time of the broker per event [µs]."""
        return (self.samples[-1].broker_cpu_s - self.samples[0].broker_cpu_s) / self.events * 1e6


async def follow(
    settings: Settings,
    topic: str,
    count: int,
    processes: Sequence[psutil.Process],
    broker: psutil.Process,
    *,
    slowest_per_s: float = 3000.0,
) -> Progress:
    """Sample until `topic` holds `count` records.

    Raises `TimeoutError` when that takes longer than at `slowest_per_s`, or a process ends.
    """
    cluster = await connect(settings)
    partitions = [TopicPartition(topic, n) for n in range(settings.kafka.partitions)]
    slack = min(_SLACK, count // 20) * len(partitions)
    samples: list[Sample] = []
    deadline = time.perf_counter() + 120.0 + count / slowest_per_s
    async with AIOKafkaConsumer(**cluster.client_options(), fetch_max_wait_ms=20) as consumer:
        consumer.assign(partitions)
        while not samples or samples[-1].outputs < count:
            ends = await consumer.end_offsets(partitions)
            if sum(ends.values()) >= count - slack or _stands(samples, sum(ends.values())):
                # The embedded broker's answer leaves out the last batch.
                ends = await read_ends(consumer, partitions)
            outputs = sum(ends.values())
            if outputs:
                samples.append(_sample(processes, broker, outputs))
            if outputs < count and (time.perf_counter() > deadline or not alive(processes)):
                raise TimeoutError(
                    f"{outputs:,} of {count:,} records on {topic}, then "
                    + ("its time was up" if alive(processes) else "the process ended")
                )
            await asyncio.sleep(_POLL_S)
    return Progress(samples)


def alive(processes: Sequence[psutil.Process]) -> bool:
    """Whether all of them run."""
    return all(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def _stands(samples: list[Sample], outputs: int) -> bool:
    return len(samples) > 1 and outputs <= samples[-1].outputs


def _sample(processes: Sequence[psutil.Process], broker: psutil.Process, outputs: int) -> Sample:
    cpu_s = 0.0
    rss_bytes = 0
    for process in processes:
        times = process.cpu_times()
        cpu_s += times.user + times.system
        rss_bytes += process.memory_info().rss
    times = broker.cpu_times()
    return Sample(time.perf_counter(), cpu_s, times.user + times.system, rss_bytes, outputs)


async def count_records(settings: Settings, topic: str) -> int:
    """How many records `topic` holds now."""
    cluster = await connect(settings)
    partitions = [TopicPartition(topic, n) for n in range(settings.kafka.partitions)]
    async with AIOKafkaConsumer(**cluster.client_options(), fetch_max_wait_ms=20) as consumer:
        return sum((await read_ends(consumer, partitions)).values())


async def settled(settings: Settings, topic: str, group: str, *, within_s: float = 30.0) -> None:
    """Wait until `group` has committed all of `topic`. Raises `TimeoutError` if it does not."""
    total = await count_records(settings, topic)
    partitions = [TopicPartition(topic, n) for n in range(settings.kafka.partitions)]
    options = (await connect(settings)).client_options()
    # Assigned, so that it does not join the group; it only asks.
    consumer = AIOKafkaConsumer(**options, group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign(partitions)
    try:
        async with asyncio.timeout(within_s):
            while True:
                committed = [await consumer.committed(tp) or 0 for tp in partitions]
                if sum(committed) >= total:
                    return
                await asyncio.sleep(0.2)
    finally:
        await consumer.stop()
