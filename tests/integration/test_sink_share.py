"""Several consumers share the partitions of one store: nothing twice, nothing left out.

The store here is in memory and refuses the slower of two writers, as a lake does; the lake itself
is in `test_lake_fleet.py`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from derived import publish, usages
from pipeline import eventually

from marlin.broker.cluster import connect
from marlin.errors import SinkConflictError
from marlin.settings import Settings
from marlin.sinks.batch import Applied, Batch, TopicPartition
from marlin.sinks.consumer import SinkConsumer
from marlin.sinks.identity import Identity


class Store:
    """What several sinks write together."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.positions: dict[TopicPartition, int] = {}
        self.events: Counter[str] = Counter()
        self.binds = 0


class Contender:
    """A sink of the store. Loses a race as a lake's does: by the positions it last knew."""

    def __init__(self, store: Store, *, bind_conflicts: int = 0) -> None:
        self.store = store
        self.wrote: set[int] = set()
        self._known: dict[TopicPartition, int] = {}
        self._bind_conflicts = bind_conflicts

    def bind(self, identity: Identity) -> dict[TopicPartition, int]:
        with self.store.lock:
            self.store.binds += 1
            if self._bind_conflicts:
                self._bind_conflicts -= 1
                raise SinkConflictError("another sink added the sources")
            self._known = dict(self.store.positions)
        return dict(self._known)

    def apply(self, batch: Batch) -> Applied:
        with self.store.lock:
            for where in batch.next_offsets:
                if self.store.positions.get(where, 0) != self._known.get(where, 0):
                    raise SinkConflictError(f"{where} was taken in by another sink")
            self.store.positions |= batch.next_offsets
            self._known |= batch.next_offsets
            events = batch.usages["event_id"].to_pylist()
            self.store.events.update(events)
            self.wrote |= {where.partition for where in batch.next_offsets}
        return Applied(events=len(events))

    def close(self) -> None:
        """Nothing is held."""


class Running:
    """A consumer in a task of this test."""

    def __init__(self, settings: Settings, sink: Contender) -> None:
        self.settings, self.sink = settings, sink
        self.stop, self.ready = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        self.consumer = SinkConsumer(
            await connect(self.settings), self.settings, self.sink, shared=True
        )
        await self.consumer.run(self.stop, ready=self.ready)


@asynccontextmanager
async def running(settings: Settings, sink: Contender) -> AsyncGenerator[Running]:
    """A consumer that has its share; stopped, drained, after the block."""
    one = Running(settings, sink)
    task = asyncio.create_task(one.run())
    async with asyncio.timeout(60):
        while not one.ready.is_set():
            await asyncio.wait({task}, timeout=0.05)
            assert not task.done(), task
    try:
        yield one
    finally:
        one.stop.set()
        async with asyncio.timeout(60):
            await task


async def test_partitions_are_shared_and_come_back(settings: Settings) -> None:
    store = Store()
    await publish(settings, usages(0, 3000))
    async with running(settings, Contender(store)) as first:
        await eventually(lambda: _holds(store, 3000))
        assert first.sink.wrote == {0, 1, 2}
        async with running(settings, Contender(store)) as second:
            first.sink.wrote.clear()
            await publish(settings, usages(3000, 6000))
            await eventually(lambda: _holds(store, 6000))
            assert sorted([*first.sink.wrote, *second.sink.wrote]) == [0, 1, 2]
            assert first.sink.wrote
            assert second.sink.wrote
        await publish(settings, usages(6000, 7000))
        await eventually(lambda: _holds(store, 7000))
    assert set(store.events.values()) == {1}
    assert sum(store.positions.values()) == 7000


async def test_more_sinks_than_partitions_leave_some_idle(settings: Settings) -> None:
    one = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 1})})
    store = Store()
    records = [record for record in usages(0, 1800) if record.partition == 0]
    await publish(one, records[:300])
    async with running(one, Contender(store)) as first, running(one, Contender(store)) as second:
        await eventually(lambda: _holds(store, 300))
        first.sink.wrote.clear()
        second.sink.wrote.clear()
        await publish(one, records[300:])
        await eventually(lambda: _holds(store, 600))
        assert [*first.sink.wrote, *second.sink.wrote] == [0]
    assert set(store.events.values()) == {1}


async def test_a_lost_race_is_read_again_from_the_winners_position(settings: Settings) -> None:
    store = Store()
    await publish(settings, usages(0, 900))
    async with running(settings, Contender(store, bind_conflicts=3)) as one:
        await eventually(lambda: _holds(store, 900))
        assert store.binds == 4
        carbon = next(where for where in store.positions if where.partition == 0)
        # A zombie takes in ten records of a partition that is not its own any more.
        with store.lock:
            store.positions[carbon] += 10
            store.events.update(f"zombie-{n}" for n in range(10))
        await publish(settings, usages(900, 1800))
        await eventually(lambda: _holds(store, 1800))
        assert one.consumer.conflicts >= 1
    assert set(store.events.values()) == {1}
    assert store.positions[carbon] == 600


async def test_a_race_lost_with_the_last_batch_is_noticed_without_another(
    settings: Settings,
) -> None:
    store = Store()
    await publish(settings, usages(0, 900))
    async with running(settings, Contender(store)) as one:
        await eventually(lambda: _holds(store, 900))
        carbon = next(where for where in store.positions if where.partition == 0)
        with store.lock:  # another sink's position, one record before this one's
            store.positions[carbon] -= 1
            del store.events["event-0-897"]
        await publish(settings, usages(900, 901))
        await eventually(lambda: _holds(store, 901), within_s=60)
        assert one.consumer.conflicts == 1
    assert set(store.events.values()) == {1}
    assert store.positions[carbon] == 301


async def _holds(store: Store, events: int) -> bool:
    return store.events.total() >= events
