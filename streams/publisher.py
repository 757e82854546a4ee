"""Outcomes to Kafka, in the order that makes them exact.

Per partition, one after the other: outputs (commands, carbon, dead letters) of a batch are
durable before its rows are sent, and rows are sent in batch order. So a row that can be
recovered promises that everything up to its position was published, and a replayed event at or
below it needs no output.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from marlin.streams.partition import Letter, Outcome, TableRow
from marlin.topics import Topics

__all__ = ["Publisher"]

Sent = list[Future[RecordMetadata]]

Done = Callable[[int], None]
"""Called when an outcome is durable, with the changelog offset of its last row."""


class Publisher:
    """Publishes outcomes; at most `in_flight` of a partition are on their way.

    `failed` is called once with the error when Kafka refuses for good; nothing of that
    partition is sent or acknowledged after it.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topics: Topics,
        *,
        in_flight: int,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._producer = producer
        self._topics = topics
        self._failed = failed
        self._slots = defaultdict[int, asyncio.Semaphore](lambda: asyncio.Semaphore(in_flight))
        self._tails: dict[int, asyncio.Task[None]] = {}

    async def publish(self, partition: int, outcome: Outcome, done: Done) -> None:
        """Send `outcome`; `done` is called when all of it is durable.

        Returns when it is on its way; waits while too many of the partition are.
        """
        slot = self._slots[partition]
        await slot.acquire()
        outputs = await self._send_outputs(partition, outcome)
        before = self._tails.get(partition)
        self._tails[partition] = asyncio.create_task(
            self._finish(partition, outputs, outcome.rows, before, done, slot),
            name=f"publish-{partition}",
        )

    async def start(self) -> None:
        """Connect. Called once, before anything is published."""
        await self._producer.start()

    async def stop(self) -> None:
        """Wait until everything on its way is durable or has failed, then disconnect."""
        await asyncio.gather(*self._tails.values(), return_exceptions=True)
        await self._producer.stop()

    async def _finish(
        self,
        partition: int,
        outputs: Sent,
        rows: Sequence[TableRow],
        before: asyncio.Task[None] | None,
        done: Done,
        slot: asyncio.Semaphore,
    ) -> None:
        try:
            await asyncio.gather(*outputs)
            if before is not None:
                await before
            sent = await self._send_rows(self._topics.runs, partition, rows)
            last_batch = (await asyncio.gather(*sent))[-1]
        except BaseException as exc:
            self._failed(exc)
            raise
        # Kafka answers with the offset of a batch's first record.
        done(last_batch.offset)
        slot.release()

    async def _send_outputs(self, partition: int, outcome: Outcome) -> Sent:
        # Commands first: a runtime is waiting for them.
        return [
            *await self._send_rows(self._topics.commands, partition, outcome.commands),
            *await self._send_rows(self._topics.carbon, partition, outcome.carbon),
            *await self._send_letters(partition, outcome.letters),
        ]

    async def _send_rows(self, topic: str, partition: int, rows: Sequence[TableRow]) -> Sent:
        sent: Sent = []
        batch = self._producer.create_batch()
        for key, value in rows:
            if batch.append(timestamp=None, key=key, value=value) is None:
                sent.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=key, value=value)
        if batch.record_count():
            sent.append(await self._producer.send_batch(batch, topic, partition=partition))
        return sent

    async def _send_letters(self, partition: int, letters: Iterable[Letter]) -> Sent:
        return [
            await self._producer.send(
                self._topics.deadletter,
                # Kafka's clients refuse a record with neither key nor value.
                value=b"" if key is None and value is None else value,
                key=key,
                partition=partition,
                headers=headers,
            )
            for key, value, headers in letters
        ]
