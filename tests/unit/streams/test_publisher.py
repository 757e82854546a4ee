"""The order in which an outcome becomes durable, and what happens when Kafka refuses."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from marlin.streams.partition import Letter, Outcome, TableRow
from marlin.streams.publisher import Publisher
from marlin.topics import Topics

TOPICS = Topics()


@dataclass(frozen=True)
class Metadata:
    """What Kafka answers."""

    offset: int


class Batch:
    """Collects rows; full after `limit` of them, as a record batch is after so many bytes."""

    limit = 3

    def __init__(self) -> None:
        self.keys: list[bytes | None] = []

    def append(self, *, timestamp: int | None, key: bytes | None, value: bytes | None) -> Any:
        del timestamp, value
        if len(self.keys) >= self.limit:
            return None
        self.keys.append(key)
        return object()

    def record_count(self) -> int:
        return len(self.keys)


class Producer:
    """Stands for the network: what is sent becomes durable when the test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, list[bytes | None], Future[Any]]] = []

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Future[Any]:
        future: Future[Any] = asyncio.get_running_loop().create_future()
        self.sent.append((topic, partition, batch.keys, future))
        return future

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        headers: Sequence[tuple[str, bytes]],
    ) -> Future[Any]:
        del headers
        assert key is not None or value is not None, "Kafka's clients refuse this"
        batch = Batch()
        batch.keys = [key]
        return await self.send_batch(batch, topic, partition=partition)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def on(self, topic: str) -> list[list[bytes | None]]:
        return [keys for sent_to, _, keys, _ in self.sent if sent_to == topic]

    async def make_durable(self, topic: str) -> None:
        for sent_to, _, _, future in self.sent:
            if sent_to == topic and not future.done():
                future.set_result(Metadata(offset=7))
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Trial:
    """A publisher on a producer the test controls."""

    def __init__(self, in_flight: int = 2) -> None:
        self.producer = Producer()
        self.failures: list[BaseException] = []
        self.done: list[str] = []
        self.publisher = Publisher(
            cast(AIOKafkaProducer, self.producer),
            TOPICS,
            in_flight=in_flight,
            failed=self.failures.append,
        )

    async def publish(self, name: str, partition: int = 0, **parts: Any) -> None:
        outcome = Outcome(rows=[(name.encode(), b"{}")], **parts)
        await self.publisher.publish(partition, outcome, lambda _offset: self.done.append(name))
        await settle()


def carbon(name: str) -> dict[str, Any]:
    return {"carbon": [(name.encode(), b"{}")]}


async def test_rows_are_sent_only_when_the_outputs_are_durable() -> None:
    trial = Trial()

    await trial.publish("a", commands=[(b"c", b"{}")], **carbon("a"))
    assert [topic for topic, *_ in trial.producer.sent] == [TOPICS.commands, TOPICS.carbon]
    await trial.producer.make_durable(TOPICS.commands)
    assert trial.producer.on(TOPICS.runs) == []

    await trial.producer.make_durable(TOPICS.carbon)
    assert trial.producer.on(TOPICS.runs) == [[b"a"]]
    assert trial.done == []

    await trial.producer.make_durable(TOPICS.runs)
    assert trial.done == ["a"]


async def test_rows_of_a_batch_wait_for_the_batch_before() -> None:
    trial = Trial()
    await trial.publish("a", **carbon("a"))
    await trial.publish("b")

    # b has no outputs, but its position must not become durable before a's rows.
    assert trial.producer.on(TOPICS.runs) == []
    await trial.producer.make_durable(TOPICS.carbon)
    assert trial.producer.on(TOPICS.runs) == [[b"a"]]
    await trial.producer.make_durable(TOPICS.runs)
    assert trial.producer.on(TOPICS.runs) == [[b"a"], [b"b"]]


async def test_partitions_do_not_wait_for_each_other() -> None:
    trial = Trial()
    await trial.publish("a", partition=0, **carbon("a"))
    await trial.publish("b", partition=1)

    await trial.producer.make_durable(TOPICS.runs)
    assert trial.done == ["b"]


async def test_only_so_many_batches_of_a_partition_are_on_their_way() -> None:
    trial = Trial(in_flight=2)
    await trial.publish("a", **carbon("a"))
    await trial.publish("b", **carbon("b"))

    third = asyncio.create_task(trial.publish("c", **carbon("c")))
    await settle()
    assert trial.producer.on(TOPICS.carbon) == [[b"a"], [b"b"]]

    await trial.producer.make_durable(TOPICS.carbon)
    await trial.producer.make_durable(TOPICS.runs)
    await third
    assert trial.producer.on(TOPICS.carbon) == [[b"a"], [b"b"], [b"c"]]


async def test_after_a_refusal_nothing_later_is_sent_or_acknowledged() -> None:
    trial = Trial()
    await trial.publish("a", **carbon("a"))
    await trial.publish("b", **carbon("b"))
    refused = KafkaError("no")

    trial.producer.sent[0][3].set_exception(refused)
    await settle()
    await trial.producer.make_durable(TOPICS.carbon)

    assert trial.failures[0] is refused
    assert trial.done == []
    assert trial.producer.on(TOPICS.runs) == []
    await trial.publisher.stop()


async def test_many_rows_go_out_in_several_batches_with_the_position_last() -> None:
    trial = Trial()
    rows: list[TableRow] = [(b"%d" % n, b"{}") for n in range(7)]

    await trial.publisher.publish(0, Outcome(rows=rows), lambda _offset: trial.done.append("a"))
    await settle()

    assert trial.producer.on(TOPICS.runs) == [[b"0", b"1", b"2"], [b"3", b"4", b"5"], [b"6"]]


@pytest.mark.parametrize(("key", "value"), [(b"k", None), (None, b"v"), (None, None)])
async def test_a_dead_letter_needs_neither_key_nor_value(
    key: bytes | None, value: bytes | None
) -> None:
    trial = Trial()

    await trial.publish("a", letters=[Letter(key, value, [])])

    assert trial.producer.on(TOPICS.deadletter) == [[key]]
