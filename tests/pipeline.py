"""Driving a real worker on a real broker: produce, read everything, start, stop, kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from marlin.broker.cluster import connect, create_topics
from marlin.schemas import CARBON_RECORDS, Carbon, CarbonRecord, Command
from marlin.settings import Settings
from marlin.streams.worker import run_worker
from marlin.topics import Topics

__all__ = [
    "PipelineProcess",
    "carbon_records",
    "commands",
    "eventually",
    "produce",
    "read_all",
    "unique_carbon",
    "worker",
]

Record = ConsumerRecord[bytes | None, bytes | None]


async def produce(settings: Settings, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
    """Send (key, value) records to the events topic and wait until all are durable."""
    await create_topics(settings)
    topics = Topics(settings.kafka.topic_prefix)
    options = (await connect(settings)).producer_options()
    producer = AIOKafkaProducer(**options, linger_ms=5, max_batch_size=256 * 1024)
    await producer.start()
    try:
        await asyncio.gather(
            *[await producer.send(topics.events, value, key=key) for key, value in records]
        )
    finally:
        await producer.stop()


async def read_all(settings: Settings, topic: str) -> list[Record]:
    """Everything on `topic` now, partition by partition in offset order."""
    consumer = AIOKafkaConsumer(
        **(await connect(settings)).client_options(),
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, n) for n in range(settings.kafka.partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[Record] = []
        async with asyncio.timeout(60):
            for tp in partitions:
                while await consumer.position(tp) < ends[tp]:
                    fetched = await consumer.getmany(tp, timeout_ms=200)
                    found += fetched.get(tp, [])
        return found
    finally:
        await consumer.stop()


async def carbon_records(settings: Settings) -> list[CarbonRecord]:
    """What the worker derived, repeats included."""
    topic = Topics(settings.kafka.topic_prefix).carbon
    values = [record.value or b"" for record in await read_all(settings, topic)]
    return CARBON_RECORDS.validate_json(b"[" + b",".join(values) + b"]")


async def unique_carbon(settings: Settings) -> list[Carbon]:
    """The carbon records, one per source position, as a sink would keep them."""
    first: dict[str, Carbon] = {}
    for record in await carbon_records(settings):
        if isinstance(record, Carbon):
            first.setdefault(record.source, record)
    return list(first.values())


async def commands(settings: Settings) -> list[Command]:
    """Commands as published, repeats included."""
    topic = Topics(settings.kafka.topic_prefix).commands
    return [
        Command.model_validate_json(record.value or b"")
        for record in await read_all(settings, topic)
    ]


async def eventually(check: Callable[[], Any], *, within_s: float = 120.0) -> Any:
    """Await `check()` until it returns something true; fails after `within_s` [s]."""
    async with asyncio.timeout(within_s):
        while not (found := await check()):
            await asyncio.sleep(0.1)
        return found


@asynccontextmanager
async def worker(settings: Settings) -> AsyncGenerator[None]:
    """A worker in this process, ready when the block begins, stopped gracefully after it."""
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_worker(settings, stop=stop, ready=ready))
    until_ready = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait([running, until_ready], return_when=asyncio.FIRST_COMPLETED, timeout=60)
        if running.done():
            await running
        assert ready.is_set(), "the worker did not become ready within 60 s"
        yield
    finally:
        until_ready.cancel()
        stop.set()
        await running


_RUN = """
import asyncio, os, resource, signal, sys
from marlin.settings import Settings

async def main(kind, settings, disk_bytes):
    if kind == "worker":
        from marlin.streams.worker import run_worker as run
    else:
        from marlin.sinks.service import run_sink as run
    if disk_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (disk_bytes, disk_bytes))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    os.close(started)
    await run(Settings.model_validate_json(settings), stop=stop)

started = int(sys.argv[4])
asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def _with_secrets(settings: Settings) -> str:
    dumped = settings.model_dump(mode="json")
    secret = settings.sink.s3_secret_access_key
    if secret is not None:  # masked by the dump
        dumped["sink"]["s3_secret_access_key"] = secret.get_secret_value()
    return json.dumps(dumped)


class PipelineProcess:
    """A worker or a sink in a process of its own, to be killed.

    `disk_bytes` is the largest file it may write [bytes]: what a full disk looks like to it.
    """

    def __init__(
        self,
        kind: Literal["worker", "sink"],
        settings: Settings,
        log: Path,
        *,
        disk_bytes: int = 0,
    ) -> None:
        # The child closes its end when a SIGTERM would stop it gracefully; before, it just dies.
        self._started, child_end = os.pipe()
        arguments = [kind, _with_secrets(settings), str(disk_bytes), str(child_end)]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _RUN, *arguments],
                stdout=output,
                stderr=output,
                pass_fds=[child_end],
            )
        os.close(child_end)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()
        os.close(self._started)

    def wait_until_stoppable(self) -> None:
        """Wait until a SIGTERM stops it gracefully."""
        os.read(self._started, 1)

    def stop(self, *, within_s: float = 120.0) -> int:
        """SIGTERM, once it can be stopped gracefully; returns the exit code."""
        self.wait_until_stoppable()
        os.close(self._started)
        self.signal(signal.SIGTERM)
        return self._process.wait(timeout=within_s)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, for instance SIGSTOP."""
        self._process.send_signal(number)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None
