"""A part that stalls: memory stays bounded, nothing is lost, and everything is caught up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from brokers import RunningBroker
from chaos.comparison import differences, gather
from chaos.fleet import Fleet
from chaos.ledger import Ledger, record_load
from chaos.sending import Sender
from pipeline import PipelineProcess, eventually

from marlin.broker.cluster import connect, create_topics
from marlin.broker.offsets import log_bounds
from marlin.errors import QueryError
from marlin.query import query
from marlin.schemas import dump
from marlin.settings import Settings
from marlin.topics import Topics

CALLS = 50_000
"""Calls that are sent while a part is frozen [count]."""

WARM_CALLS = 10_000
"""Calls that are handled before it is measured: libraries, caches, the runs of the table."""

RUNS = 200

RECORD_BYTES = 8 * 1024
"""What one record may take in a process, as Kafka record, parsed, and on its way out [bytes]."""

FETCH_BYTES = 4 * 1024 * 1024
"""What a consumer may hold of a partition, fetched but not asked for [bytes]."""

ALLOCATOR_BYTES = 48 * 1024 * 1024
"""What allocators and DuckDB's buffers may keep without use [bytes]."""

STALL_S = 10.0
"""Longer than a worker's session [s]: one that wakes up has been thrown out of the group."""


def patient(settings: Settings) -> Settings:
    """Nobody acknowledges the aborts of these loads: no stall is to look like a deaf runtime."""
    worker = settings.worker.model_copy(update={"abort_deadline_s": 3600.0})
    return settings.model_copy(update={"worker": worker})


def slim(settings: Settings) -> Settings:
    """Small batches: then what is in memory is small beside what waits."""
    worker = {"batch_records": 500, "buffered_batches": 2, "batches_in_flight": 1}
    sink = {"batch_records": 2000}
    return settings.model_copy(
        update={
            "worker": settings.worker.model_copy(update=worker),
            "sink": settings.sink.model_copy(update=sink),
        }
    )


def sink_bound_bytes(settings: Settings) -> int:
    """Two batches, and what is fetched of three topics."""
    fetched = 3 * settings.kafka.partitions * FETCH_BYTES
    return 2 * settings.sink.batch_records * RECORD_BYTES + fetched + ALLOCATOR_BYTES


def worker_bound_bytes(settings: Settings) -> int:
    """For each partition the batches that wait, the one in hand, and those on their way out."""
    worker = settings.worker
    batches = worker.buffered_batches + 1 + worker.batches_in_flight
    held = settings.kafka.partitions * batches * worker.batch_records * RECORD_BYTES
    return held + settings.kafka.partitions * FETCH_BYTES + ALLOCATOR_BYTES


class Memory:
    """The highest resident memory of a process while this watches it."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.highest_bytes = 0

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            self.highest_bytes = max(self.highest_bytes, self._process.memory_info().rss)
            await asyncio.sleep(0.1)


async def send(settings: Settings, ledger: Ledger, first: int, past: int) -> None:
    """Send the events of a ledger from `first` on, before `past`, at once."""
    topic = Topics(settings.kafka.topic_prefix).events
    options = (await connect(settings)).producer_options()
    producer = AIOKafkaProducer(**options, linger_ms=20, max_batch_size=256 * 1024)
    await producer.start()
    try:
        for start in range(first, past, 5000):
            events = ledger.events[start : min(start + 5000, past)]
            sent = [await producer.send(topic, dump(e), key=e.run_id.encode()) for e in events]
            await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def in_database(settings: Settings, calls: int) -> bool:
    try:
        result = await asyncio.to_thread(
            query, "SELECT count(*) FROM events", settings=settings, max_rows=1
        )
    except QueryError:
        return False  # not made yet, or its owner is frozen
    return bool(result.rows[0][0] >= calls)


async def published(settings: Settings, records: int) -> bool:
    topic = Topics(settings.kafka.topic_prefix).carbon
    partitions = [TopicPartition(topic, n) for n in range(settings.kafka.partitions)]
    _, ends = await log_bounds(await connect(settings), partitions)
    return sum(ends.values()) >= records


@contextmanager
def started(settings: Settings, folder: Path) -> Generator[tuple[PipelineProcess, PipelineProcess]]:
    """A worker and a sink."""
    both = [PipelineProcess(kind, settings, folder / kind) for kind in ("worker", "sink")]
    try:
        yield both[0], both[1]
    finally:
        for process in both:
            if process.running:
                process.signal(signal.SIGCONT)
                process.kill()


@pytest.mark.parametrize("frozen", ["sink", "worker"])
async def test_a_stalled_part_catches_up_in_bounded_memory(
    settings: Settings, tmp_path: Path, frozen: str
) -> None:
    settings = slim(patient(settings))
    ledger = record_load(seed=7, runs=RUNS, calls=WARM_CALLS + CALLS)
    warm = RUNS + WARM_CALLS
    await create_topics(settings)
    with started(settings, tmp_path) as (worker, sink):
        await send(settings, ledger, 0, warm)
        await eventually(lambda: in_database(settings, WARM_CALLS))
        stalled = sink if frozen == "sink" else worker
        idle_bytes = psutil.Process(stalled.pid).memory_info().rss
        memory = Memory(stalled.pid)
        watching = asyncio.create_task(memory.watch())

        stalled.signal(signal.SIGSTOP)
        await asyncio.gather(
            send(settings, ledger, warm, len(ledger.events)), asyncio.sleep(STALL_S)
        )
        if frozen == "sink":
            # The worker does not wait for it.
            await eventually(lambda: published(settings, len(ledger.events)))
        stalled.signal(signal.SIGCONT)
        await eventually(lambda: in_database(settings, ledger.calls), within_s=120)

        watching.cancel()
        assert worker.stop() == 0
        assert sink.stop() == 0

    bound = sink_bound_bytes(settings) if frozen == "sink" else worker_bound_bytes(settings)
    taken_bytes = memory.highest_bytes - idle_bytes
    print(f"{frozen}: {taken_bytes / 2**20:.0f} of {bound / 2**20:.0f} MiB above idle")
    assert taken_bytes < bound
    # Holding all that waited would have broken the bound.
    assert bound < CALLS * RECORD_BYTES / 2
    assert differences(ledger, await gather(settings, sql=True), sql=True) == []


async def test_a_stalled_broker_loses_nothing(
    broker: RunningBroker, settings: Settings, tmp_path: Path
) -> None:
    settings = patient(settings)
    ledger = record_load(seed=8, runs=100, calls=6000)
    await create_topics(settings)
    process = broker.process()
    fleet = Fleet(settings, tmp_path)
    sender = Sender(settings, ledger, seconds=8.0, seed=8)
    try:
        fleet.add_worker()
        fleet.add_sink()
        sending = asyncio.create_task(sender.send())
        await eventually(lambda: in_database(settings, 500))
        process.suspend()
        try:
            await asyncio.sleep(20.0)
        finally:
            process.resume()

        async def caught_up() -> bool:
            fleet.supervise()
            return sending.done() and await in_database(settings, ledger.calls)

        await eventually(caught_up, within_s=150)
        await sending
        fleet.stop()
    finally:
        fleet.kill()

    print(f"sent again: {sender.repeated}; ended by themselves: {fleet.crashes}")
    assert differences(ledger, await gather(settings, sql=True), sql=True) == []
