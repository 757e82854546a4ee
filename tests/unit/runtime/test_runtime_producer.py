"""The buffer and its pump, against a Kafka producer that fails and stalls on demand."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError
from aiokafka.partitioner import DefaultPartitioner
from events import started
from events import usage as usage_event
from hypothesis import given
from hypothesis import strategies as st
from runtime_doubles import Emitted

from marlin.runtime.outgoing import Announcement, OutgoingEvent
from marlin.runtime.producer import EventProducer, partition_of
from marlin.runtime.spill import SpillFile, SpillFolder
from marlin.schemas import EVENT, Event, Usage, dump
from marlin.settings import Settings

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


def usage(run_id: str = "run-1", seq: int = 0) -> OutgoingEvent:
    return Emitted(run_id, dump(usage_event(run_id, seq)))


@asynccontextmanager
async def pumping(producer: EventProducer, kafka: FakeKafka) -> AsyncGenerator[asyncio.Task[None]]:
    task = asyncio.create_task(producer.pump(cast(AIOKafkaProducer, kafka), "events", PARTITIONS))
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


async def test_a_full_buffer_drops_new_usage_counts_it_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    producer, kafka = EventProducer(3), FakeKafka()

    with caplog.at_level(logging.ERROR, "marlin.runtime"):
        for seq in range(10):
            producer.emit(usage(seq=seq))
    producer.emit(Announcement(started()))

    async with pumping(producer, kafka):
        assert await drained(producer)

    assert producer.dropped == 7
    assert len(caplog.records) == 1
    assert kafka.seqs() == [0, 1, 2]
    # Lifecycle events have room that usage cannot take.
    assert kafka.sent()[-1].type == "run.started"


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


async def test_whoever_waits_for_an_event_that_cannot_be_sent_waits_no_more() -> None:
    producer, kafka = EventProducer(1000), FakeKafka()
    async with pumping(producer, kafka):
        producer.emit(Emitted("run-1", error=ValueError("no")))
        assert await drained(producer)

    assert (producer.dropped, producer.undelivered) == (1, 0)


def on_disk(home: Path, capacity: int = 1000, **options: float) -> EventProducer:
    return EventProducer(capacity, SpillFolder(Settings(home=home)), **options)


async def test_what_waits_too_long_goes_to_disk_and_from_there_to_kafka(tmp_path: Path) -> None:
    producer, kafka = on_disk(tmp_path, spill_after_s=0.01), FakeKafka()
    kafka.gate.clear()
    async with pumping(producer, kafka):
        for seq in range(5):
            producer.emit(usage(seq=seq))
            await asyncio.sleep(0.02)
            producer.secure()
        assert producer.backlog.spilled == 5
        kafka.gate.set()
        assert await drained(producer)

    assert kafka.seqs() == [0, 1, 2, 3, 4]
    assert producer.backlog.spilled == 0


async def test_what_moves_stays_in_memory_unless_there_is_much_of_it(tmp_path: Path) -> None:
    producer = on_disk(tmp_path, 10, spill_after_s=3600.0)
    for seq in range(5):
        producer.emit(usage(seq=seq))
        producer.secure()
    assert producer.backlog.spilled == 0

    producer.emit(usage(seq=5))
    producer.secure()
    assert producer.backlog.spilled == 6

    producer.emit(usage(seq=6))
    producer.set_away(True)
    producer.secure()
    assert producer.backlog.spilled == 7
    async with pumping(producer, kafka := FakeKafka()):
        while producer.undelivered:
            await asyncio.sleep(0)
    assert kafka.seqs() == list(range(7))
    producer.backlog.close()


def leave_behind(home: Path, run_id: str, count: int) -> Path:
    dead = on_disk(home, count)
    for seq in range(count):
        dead.emit(usage(run_id, seq))
    dead.set_away(True)
    dead.secure()
    file = dead.backlog.spill_file
    assert file is not None
    dead.backlog.abandon()
    return file.path


@asynccontextmanager
async def delivering_leftovers(
    producer: EventProducer, kafka: FakeKafka
) -> AsyncGenerator[asyncio.Task[None]]:
    task = asyncio.create_task(
        producer.deliver_leftovers(cast(AIOKafkaProducer, kafka), "events", PARTITIONS)
    )
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_gone(*paths: Path) -> None:
    async with asyncio.timeout(10):
        while any(path.exists() for path in paths):
            await asyncio.sleep(0)


async def test_what_others_left_is_delivered_while_our_own_goes_on(tmp_path: Path) -> None:
    left = [leave_behind(tmp_path, "run-2", 2500), leave_behind(tmp_path, "run-3", 3)]
    producer, kafka = on_disk(tmp_path), FakeKafka(room=100)
    async with pumping(producer, kafka), delivering_leftovers(producer, kafka):
        producer.emit(usage("run-1", 0))
        assert await drained(producer)
        await until_gone(*left)

    assert kafka.seqs("run-1") == [0]
    assert kafka.seqs("run-2") == list(range(2500))
    assert kafka.seqs("run-3") == [0, 1, 2]


async def test_what_could_not_be_delivered_stays_for_the_next(tmp_path: Path) -> None:
    left = leave_behind(tmp_path, "run-1", 2500)
    producer, kafka = on_disk(tmp_path), FakeKafka()
    kafka.fails = {partition_of("run-1", PARTITIONS)}
    async with delivering_leftovers(producer, kafka) as task:
        with pytest.raises(KafkaTimeoutError):
            await task
    assert kafka.seqs() == []

    kafka.fails = set()
    async with delivering_leftovers(producer, kafka):
        await until_gone(left)

    assert kafka.seqs() == list(range(2500))


async def test_a_torn_end_is_told_and_the_rest_delivered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = leave_behind(tmp_path, "run-1", 3)
    os.truncate(left, left.stat().st_size - 1)
    producer, kafka = on_disk(tmp_path), FakeKafka()

    with caplog.at_level(logging.WARNING, "marlin.runtime"):
        async with delivering_leftovers(producer, kafka):
            await until_gone(left)

    assert kafka.seqs() == [0, 1]
    assert "are no whole record" in caplog.text


async def test_a_folder_that_cannot_be_read_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left = leave_behind(tmp_path, "run-1", 3)

    def unreadable(_: Path) -> SpillFile:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(SpillFile, "adopt", unreadable)
        async with delivering_leftovers(on_disk(tmp_path), FakeKafka()) as task:
            while not caplog.messages:
                await asyncio.sleep(0)
            assert not task.done()

    assert left.exists()
    assert "were not read, they stay there" in caplog.text
