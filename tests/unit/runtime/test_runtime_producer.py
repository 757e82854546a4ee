"""The buffer and its pump, against a Kafka producer that fails and stalls on demand."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError
from aiokafka.partitioner import DefaultPartitioner
from events import started, usage
from hypothesis import given
from hypothesis import strategies as st

from marlin.runtime.producer import EventProducer, partition_of
from marlin.schemas import EVENT, Event, Usage

PARTITIONS = 3


class FakeBatch:
    def __init__(self, room: int) -> None:
        self.room = room
        self.records: list[tuple[bytes, bytes]] = []

    def append(self, *, timestamp: int | None, key: bytes, value: bytes) -> object | None:
        if len(self.records) == self.room:
            return None
        self.records.append((key, value))
        return object()


class FakeKafka:
    """Keeps what is sent. `fails` and `loses_answer` count down; `gate` holds every send."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.partitions: dict[int, list[Event]] = {}
        self.fails: set[int] = set()
        self.loses_answer: set[int] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches = 0

    def create_batch(self) -> FakeBatch:
        return FakeBatch(self.room)

    async def send_batch(
        self, batch: FakeBatch, topic: str, *, partition: int
    ) -> asyncio.Future[None]:
        await self.gate.wait()
        self.batches += 1
        if partition in self.fails:
            raise KafkaTimeoutError
        for key, value in batch.records:
            event = EVENT.validate_json(value)
            assert key == event.run_id.encode()
            self.partitions.setdefault(partition, []).append(event)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if partition in self.loses_answer:
            answer.set_exception(KafkaTimeoutError())
        else:
            answer.set_result(None)
        return answer

    def sent(self, run_id: str = "run-1") -> list[Event]:
        events = self.partitions.get(partition_of(run_id, PARTITIONS), [])
        return [event for event in events if event.run_id == run_id]

    def seqs(self, run_id: str = "run-1") -> list[int]:
        return [event.seq for event in self.sent(run_id) if isinstance(event, Usage)]


async def no_start(_: int) -> None:
    raise AssertionError("no run started")


@asynccontextmanager
async def pumping(
    producer: EventProducer, kafka: FakeKafka, before_start: Any = no_start
) -> AsyncGenerator[asyncio.Task[None]]:
    task = asyncio.create_task(
        producer.pump(cast(AIOKafkaProducer, kafka), "events", PARTITIONS, before_start)
    )
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def drained(producer: EventProducer) -> bool:
    async with asyncio.timeout(10):
        return await asyncio.wrap_future(producer.drained())


@given(st.text(min_size=1, max_size=256), st.integers(1, 1024))
def test_a_runs_partition_is_kafkas_default(run_id: str, partitions: int) -> None:
    expected = DefaultPartitioner()(run_id.encode(), list(range(partitions)), [])

    assert partition_of(run_id, partitions) == expected


async def test_events_arrive_in_order_in_their_partition_across_batches() -> None:
    producer, kafka = EventProducer(1000), FakeKafka(room=7)
    for seq in range(50):
        for run_id in ("run-1", "run-2", "run-3"):
            producer.emit(usage(run_id, seq))

    async with pumping(producer, kafka):
        assert await drained(producer)

    for run_id in ("run-1", "run-2", "run-3"):
        assert kafka.seqs(run_id) == list(range(50))
    assert producer.undelivered == 0


async def test_events_emitted_by_threads_while_it_pumps_all_arrive() -> None:
    producer, kafka = EventProducer(10_000), FakeKafka()

    def emit(run_id: str) -> None:
        for seq in range(500):
            producer.emit(usage(run_id, seq))

    async with pumping(producer, kafka):
        threads = [threading.Thread(target=emit, args=(f"run-{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert await drained(producer)

    assert all(kafka.seqs(f"run-{n}") == list(range(500)) for n in range(4))


async def test_what_arrives_during_a_send_goes_out_together() -> None:
    producer, kafka = EventProducer(1000), FakeKafka()
    kafka.gate.clear()
    async with pumping(producer, kafka):
        producer.emit(usage(seq=0))
        await asyncio.sleep(0.01)
        for seq in range(1, 100):
            producer.emit(usage(seq=seq))
        kafka.gate.set()
        assert await drained(producer)

    assert kafka.batches == 2


async def test_a_failed_partition_is_sent_again_by_the_next_pump_the_others_are_not() -> None:
    producer, kafka = EventProducer(1000), FakeKafka()
    runs = {partition_of(f"run-{n}", PARTITIONS): f"run-{n}" for n in range(20)}
    assert len(runs) == PARTITIONS
    for seq in range(3):
        for run_id in runs.values():
            producer.emit(usage(run_id, seq))

    kafka.fails = {1}
    async with pumping(producer, kafka) as pump:
        with pytest.raises(KafkaTimeoutError):
            await pump
    assert producer.undelivered == 3
    producer.emit(usage(runs[1], 3))
    kafka.fails = set()
    async with pumping(producer, kafka):
        assert await drained(producer)

    assert kafka.seqs(runs[0]) == kafka.seqs(runs[2]) == [0, 1, 2]
    assert kafka.seqs(runs[1]) == [0, 1, 2, 3]


async def test_a_lost_answer_repeats_events_in_order_never_loses_them() -> None:
    producer, kafka = EventProducer(1000), FakeKafka()
    number = partition_of("run-1", PARTITIONS)
    kafka.loses_answer = {number}
    for seq in range(3):
        producer.emit(usage(seq=seq))
    async with pumping(producer, kafka) as pump:
        with pytest.raises(KafkaTimeoutError):
            await pump
    kafka.loses_answer = set()
    async with pumping(producer, kafka):
        assert await drained(producer)

    assert kafka.seqs() == [0, 1, 2, 0, 1, 2]


async def test_a_pump_stopped_in_the_middle_keeps_what_it_had() -> None:
    producer, kafka = EventProducer(1000), FakeKafka()
    kafka.gate.clear()
    for seq in range(3):
        producer.emit(usage(seq=seq))
    async with pumping(producer, kafka):
        await asyncio.sleep(0.01)
    kafka.gate.set()
    async with pumping(producer, kafka):
        assert await drained(producer)

    assert kafka.seqs() == [0, 1, 2]


async def test_a_runs_partition_is_followed_before_its_start_is_sent() -> None:
    producer, kafka = EventProducer(1000), FakeKafka()
    followed: list[tuple[int, int]] = []

    async def follow(partition: int) -> None:
        await asyncio.sleep(0.01)
        followed.append((partition, kafka.batches))

    producer.emit(started())
    producer.emit(usage())
    async with pumping(producer, kafka, follow):
        assert await drained(producer)

    assert followed == [(partition_of("run-1", PARTITIONS), 0)]
    assert [event.type for event in kafka.sent()] == ["run.started", "usage"]


async def test_a_full_buffer_drops_new_usage_counts_it_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    producer, kafka = EventProducer(3), FakeKafka()

    with caplog.at_level(logging.ERROR, "marlin.runtime"):
        for seq in range(10):
            producer.emit(usage(seq=seq))
    producer.emit(started())

    async def follow(_: int) -> None:
        """Nothing to follow here."""

    async with pumping(producer, kafka, follow):
        assert await drained(producer)

    assert producer.dropped == 7
    assert len(caplog.records) == 1
    assert kafka.seqs() == [0, 1, 2]
    # Lifecycle events have room that usage cannot take.
    assert kafka.sent()[-1].type == "run.started"


async def test_the_buffer_is_bounded_for_lifecycle_events_too() -> None:
    producer = EventProducer(3)
    for _ in range(10):
        producer.emit(started())

    assert producer.undelivered == 6
    assert producer.dropped == 4


async def test_nothing_to_send_is_drained_at_once() -> None:
    assert EventProducer(1).drained().result(0) is True


async def test_nobody_waits_for_a_broker_that_is_away_until_something_arrives() -> None:
    producer, kafka = EventProducer(1000), FakeKafka()
    producer.emit(usage(seq=0))
    waiting = producer.drained()

    producer.set_away(True)

    assert waiting.result(0) is False
    assert producer.drained().result(0) is False
    async with pumping(producer, kafka):
        while producer.undelivered:
            await asyncio.sleep(0)
        kafka.gate.clear()
        producer.emit(usage(seq=1))
        # One delivery shows that the broker is back: waiting makes sense again.
        waiting = producer.drained()
        assert not waiting.done()
        kafka.gate.set()
        assert await asyncio.wrap_future(waiting)


async def test_a_waiter_that_gave_up_is_left_alone() -> None:
    producer, kafka = EventProducer(1000), FakeKafka()
    producer.emit(usage())
    producer.drained().cancel()

    async with pumping(producer, kafka):
        assert await drained(producer)
