"""Records to Kafka, durable and in order, without counting on the broker for the order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.partitioner import murmur2

from marlin.schemas import DeadLetter
from marlin.schemas.deadletter import Step

__all__ = ["BATCH_BYTES", "Sender"]

BATCH_BYTES = 512 * 1024
"""Largest record batch written [bytes]."""

Row = tuple[bytes, bytes]


class Sender:
    """Sends keyed rows, and dead letters."""

    def __init__(
        self, producer: AIOKafkaProducer, *, deadletter_topic: str, max_letter_bytes: int
    ) -> None:
        self._producer = producer
        self._deadletter_topic = deadletter_topic
        self._max_letter_bytes = max_letter_bytes

    async def send(self, topic: str, rows: Iterable[Row]) -> None:
        """Send `rows`; returns when all are durable.

        Rows of one partition arrive in this order, and after an error (which is raised) none
        arrives whose predecessors did not: batches of a partition go one after the other.
        """
        count = len(await self._producer.partitions_for(topic))
        of_partition = defaultdict[int, list[Row]](list)
        for key, value in rows:
            # Kafka's default partitioner.
            of_partition[int(murmur2(key) & 0x7FFFFFFF) % count].append((key, value))
        await asyncio.gather(
            *(self.send_to(topic, number, rows) for number, rows in of_partition.items())
        )

    async def send_to(self, topic: str, number: int, rows: Iterable[Row]) -> None:
        """As `send`, with the partition given."""
        batch = self._producer.create_batch()
        for key, value in rows:
            if batch.append(timestamp=None, key=key, value=value) is None:
                await (await self._producer.send_batch(batch, topic, partition=number))
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=key, value=value)
        await (await self._producer.send_batch(batch, topic, partition=number))

    async def refuse(
        self, record: ConsumerRecord[bytes | None, bytes | None], step: Step, reason: str
    ) -> None:
        """Dead-letter `record`; returns when it is durable.

        A value beyond what that topic takes stays behind: the letter says where it is.
        """
        value = record.value
        if value is not None and len(value) > self._max_letter_bytes:
            reason = f"{reason[:1900]} ({len(value)} bytes, too many to be kept here)"
            value = b""
        letter = DeadLetter(
            step=step,
            reason=reason[:2048],
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            refused_at=datetime.now(UTC),
        )
        await self._producer.send_and_wait(
            self._deadletter_topic,
            # Kafka's clients refuse a record with neither key nor value.
            value=b"" if record.key is None and value is None else value,
            key=record.key,
            headers=letter.to_headers(),
        )
