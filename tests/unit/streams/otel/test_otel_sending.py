"""Rows go out in order, partition by partition; refused records as they were."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.partitioner import DefaultPartitioner

from marlin.schemas import DeadLetter
from marlin.streams.otel.sending import Sender

PARTITIONS = 3
BATCH = 4


class Batch:
    """A batch with room for a few records."""

    def __init__(self) -> None:
        self.rows: list[tuple[bytes, bytes]] = []

    def append(self, *, timestamp: None, key: bytes, value: bytes) -> object | None:
        if len(self.rows) == BATCH:
            return None
        self.rows.append((key, value))
        return self


class Kafka:
    """In the producer's place: notes what is durable, and what is under way at once."""

    def __init__(self, *, refuse_after: int = 10**9) -> None:
        self.durable: dict[int, list[tuple[bytes, bytes]]] = {n: [] for n in range(PARTITIONS)}
        self.letters: list[dict[str, Any]] = []
        self._refuse_after = refuse_after
        self._busy: set[int] = set()

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(PARTITIONS))

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Task[None]:
        assert partition not in self._busy, "two batches of a partition at once"
        self._busy.add(partition)
        return asyncio.create_task(self._write(batch, partition))

    async def send_and_wait(self, topic: str, **record: Any) -> None:
        self.letters.append({"topic": topic, **record})

    async def _write(self, batch: Batch, partition: int) -> None:
        await asyncio.sleep(0)
        if self._refuse_after == 0:
            raise OSError("refused")
        self._refuse_after -= 1
        self._busy.discard(partition)
        self.durable[partition] += batch.rows


def sender(kafka: Kafka) -> Sender:
    return Sender(cast(AIOKafkaProducer, kafka), deadletter_topic="dead", max_letter_bytes=100)


def rows(count: int) -> list[tuple[bytes, bytes]]:
    return [(f"run-{n % 7}".encode(), str(n).encode()) for n in range(count)]


async def test_rows_arrive_in_order_on_the_partition_of_their_key() -> None:
    kafka = Kafka()
    await sender(kafka).send("events", rows(100))

    partition_of = DefaultPartitioner()
    for number, found in kafka.durable.items():
        assert found == [
            row for row in rows(100) if partition_of(row[0], range(PARTITIONS), []) == number
        ]
    assert sum(map(len, kafka.durable.values())) == 100


async def test_after_an_error_nothing_follows_what_is_missing() -> None:
    kafka = Kafka(refuse_after=4)
    with pytest.raises(OSError, match="refused"):
        await sender(kafka).send("events", rows(100))

    partition_of = DefaultPartitioner()
    for number, found in kafka.durable.items():
        sent = [row for row in rows(100) if partition_of(row[0], range(PARTITIONS), []) == number]
        assert found == sent[: len(found)]
        assert len(found) < len(sent)


def record(key: bytes | None, value: bytes | None) -> ConsumerRecord[bytes | None, bytes | None]:
    return ConsumerRecord("otlp_spans", 3, 17, 0, 0, key, value, None, 0, 0, ())


@pytest.mark.parametrize(
    ("value", "kept"),
    [(b"junk", b"junk"), (None, b""), (b"x" * 101, b""), (b"x" * 100, b"x" * 100)],
)
async def test_a_refused_record_is_kept_as_it_was(value: bytes | None, kept: bytes) -> None:
    kafka = Kafka()
    await sender(kafka).refuse(record(None, value), "decode", "no spans")

    (letter,) = kafka.letters
    why = DeadLetter.from_headers(letter["headers"])
    assert (letter["topic"], letter["key"], letter["value"]) == ("dead", None, kept)
    assert (why.topic, why.partition, why.offset, why.step) == ("otlp_spans", 3, 17, "decode")
    assert why.reason.startswith("no spans")
    assert ("(101 bytes, too many to be kept here)" in why.reason) is (value == b"x" * 101)


async def test_a_tombstone_with_a_key_stays_one() -> None:
    kafka = Kafka()
    await sender(kafka).refuse(record(b"key", None), "decode", "r" * 5000)

    assert (kafka.letters[0]["key"], kafka.letters[0]["value"]) == (b"key", None)
    assert DeadLetter.from_headers(kafka.letters[0]["headers"]).reason == "r" * 2048
