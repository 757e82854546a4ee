"""Recovery and fail-over: how long a worker takes to be ready, and to take over.

    python bench/recovery.py --runs 1000000          # seconds from start to ready, and memory
    python bench/recovery.py --fail-over             # seconds from a kill to the next event

Runs on Apache Kafka (Java and Maven on the machine), as `tests/kafka` does; prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from brokers.apache import ApacheKafka
from pipeline import PipelineProcess

from marlin.broker.cluster import connect, create_topics
from marlin.estimation import default_estimator
from marlin.schemas import Usage, dump
from marlin.settings import KafkaSettings, Settings, WorkerSettings
from marlin.streams.app import MAX_RECORD_BATCH_BYTES
from marlin.streams.partition import Partition
from marlin.streams.worker import run_worker
from marlin.topics import Topics

PARTITIONS = 4
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def usage(run_id: str, seq: int = 0) -> Usage:
    """One call."""
    return Usage(
        event_id=f"{run_id}-{seq}",
        run_id=run_id,
        agent_id="writer",
        producer_id="bench",
        seq=seq,
        time=NOW,
        provider="openai",
        model="gpt-4o",
        region="us-east-1",
        input_tokens=1200,
        output_tokens=300,
    )


async def write_changelog(settings: Settings, runs: int) -> int:
    """Fill the changelog with `runs` live runs of one agent; returns its bytes."""
    topic = Topics(settings.kafka.topic_prefix).runs
    options = (await connect(settings)).producer_options()
    written = 0
    async with AIOKafkaProducer(**options, max_batch_size=MAX_RECORD_BATCH_BYTES) as producer:
        for number in range(PARTITIONS):
            partition = Partition("events", number, estimator=default_estimator())
            sent = []
            for start in range(number, runs, PARTITIONS * 5000):
                names = [f"run-{n:08d}" for n in range(start, runs, PARTITIONS)][:5000]
                records = [_Record(start + i, usage(name)) for i, name in enumerate(names)]
                partition.runs.clear()
                outcome = partition.apply(records, now=NOW, max_event_bytes=1_000_000)
                for row in outcome.rows:
                    written += len(row[0]) + len(row[1] or b"")
                    sent.append(await producer.send(topic, row[1], key=row[0], partition=number))
                await asyncio.gather(*sent)
                sent.clear()
    return written


class _Record:
    def __init__(self, offset: int, event: Usage) -> None:
        self.offset, self.timestamp = offset, 0
        self.key, self.value = event.run_id.encode(), dump(event)


async def measure_recovery(settings: Settings, runs: int) -> dict[str, float]:
    """Seconds from the start of a worker to its readiness with `runs` live runs."""
    await create_topics(settings)
    changelog_bytes = await write_changelog(settings, runs)
    memory = psutil.Process().memory_info().rss
    stop, ready = asyncio.Event(), asyncio.Event()
    began = time.perf_counter()
    running = asyncio.create_task(run_worker(settings, stop=stop, ready=ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    elapsed_s = time.perf_counter() - began
    grown = psutil.Process().memory_info().rss - memory
    stop.set()
    await running
    return {
        "runs": runs,
        "ready_s": round(elapsed_s, 2),
        "changelog_bytes_per_run": round(changelog_bytes / max(runs, 1)),
        "memory_bytes_per_run": round(grown / max(runs, 1)),
    }


async def measure_fail_over(settings: Settings, folder: Path, *, standbys: int) -> dict[str, float]:
    """Longest silence on the carbon topic around the kill of one of two workers [s]."""
    worker = settings.worker.model_copy(update={"standby_replicas": standbys})
    settings = settings.model_copy(update={"worker": worker})
    await create_topics(settings)
    workers = [PipelineProcess("worker", settings, folder / f"w{n}.log") for n in range(2)]
    topics = Topics(settings.kafka.topic_prefix)
    cluster = await connect(settings)
    last: dict[int, float] = {}
    longest: dict[int, float] = {}

    async def watch() -> None:
        options = cluster.client_options()
        async with AIOKafkaConsumer(topics.carbon, **options) as consumer:
            async for record in consumer:
                now = time.perf_counter()
                silence = now - last.get(record.partition, now)
                longest[record.partition] = max(silence, longest.get(record.partition, 0.0))
                last[record.partition] = now

    async with AIOKafkaProducer(**cluster.producer_options()) as producer:
        watching = asyncio.create_task(watch())
        killed = False
        began = time.perf_counter()
        for number in range(100_000):
            run_id = f"run-{number % 64}"
            await producer.send(
                topics.events, dump(usage(run_id, number // 64)), key=run_id.encode()
            )
            await asyncio.sleep(0.002)
            elapsed = time.perf_counter() - began
            if not killed and elapsed > 25:
                longest.clear()
                workers[0].kill()
                killed = True
            if elapsed > 55:
                break
        watching.cancel()
    workers[1].stop()
    return {"standbys": standbys, "fail_over_s": round(max(longest.values()), 2)}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--fail-over", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="marlin-bench-"))
    kafka = ApacheKafka(folder)
    kafka.start()
    try:

        def settings() -> Settings:
            return Settings(
                home=folder / "home",
                kafka=KafkaSettings(
                    bootstrap_servers=kafka.bootstrap_servers,
                    topic_prefix=f"bench-{uuid.uuid4().hex[:8]}.",
                    partitions=PARTITIONS,
                ),
                worker=WorkerSettings(session_timeout_s=6.0),
            )

        if options.fail_over:
            for standbys in (0, 1):
                found = asyncio.run(measure_fail_over(settings(), folder, standbys=standbys))
                print(json.dumps(found), flush=True)
        else:
            print(json.dumps(asyncio.run(measure_recovery(settings(), options.runs))), flush=True)
    finally:
        kafka.stop()


if __name__ == "__main__":
    main()
