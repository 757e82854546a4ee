"""Faust's transport, in batches: each partition's fetched records become one message.

Stock Faust spends 75 to 230 µs of Python on every record: a message, an event, a future, an
acknowledgement. Here a message holds up to `batch_records` records of one partition, and its
offset is that of the last one; agents, tables, rebalancing, commits and recovery stay Faust's.

Everything that touches Faust's internals is in this file and in `table.py`, for exactly the
version pinned in `pyproject.toml`; a contract test fails when they change.
"""

# Faust's own annotations leave type arguments open, which strict mode reports at every use.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, cast

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.threads import WorkerThread
from mode.utils.futures import notify

from marlin.broker.records import as_is

__all__ = ["Batch", "BatchingApp", "Consumer", "Transport"]

Record = ConsumerRecord[bytes | None, bytes | None]

_LONGEST_FETCH_S = 0.25


class BatchingApp(Protocol):
    """What the transport asks of the app besides what Faust's does."""

    batch_records: int
    """Most records in one message."""
    fetch_max_wait_ms: int
    """Longest the broker may hold an empty fetch [ms]."""


class Batch(NamedTuple):
    """Records of one partition in offset order, and the epoch in which they were fetched."""

    records: list[Record]
    epoch: int


class _Delivery:
    """A batch that was handed out: its last offset, and whether it was acknowledged."""

    __slots__ = ("acked", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.acked = False


class _Message(ConsumerMessage):
    delivery: _Delivery | None = None


class _Daemon(WorkerThread):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Faust leaves the thread running when it is stopped while it starts, and the process would
        # wait for it for ever. What must be durable does not depend on it.
        self.daemon = True


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    Worker = _Daemon

    def __init__(self, consumer: Any, *, loop: asyncio.AbstractEventLoop, beacon: Any) -> None:
        # A loop of the same kind as the worker's: uvloop, which reads sockets in C.
        super().__init__(consumer, loop=loop, beacon=beacon, thread_loop=type(loop)())
        self._close_thread_loop_on_stop = True

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer: Any = super()._create_worker_consumer(transport)
        # Faust fixes this at 1,500 ms; a broker that does not wake waiting fetches then answers
        # that late.
        consumer._fetch_max_wait_ms = cast(BatchingApp, self.app).fetch_max_wait_ms
        consumer._key_deserializer = as_is
        return consumer

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's periodic check for a stuck partition; it only logs.

        It asserts a position, which a partition just assigned or reset does not have until the
        broker has answered; the failed assertion would end the worker.
        """
        kafka: Any = self._ensure_consumer()
        subscription = kafka._subscription.subscription
        assignment = subscription and subscription.assignment
        state = assignment and assignment.state_value(TopicPartition(*tp))
        if state is not None and state.has_valid_position:
            super().verify_event_path(now, tp)

    async def seek_in_thread(self, tp: TP, offset: int) -> None:
        await self.call_thread(self._seek_now, tp, offset)

    async def _seek_now(self, tp: TP, offset: int) -> None:
        self._ensure_consumer().seek(TopicPartition(*tp), offset)


class Consumer(driver.Consumer):
    """Delivers batches, and commits the acknowledged prefix of what it delivered."""

    _thread: _ConsumerThread  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Stock Faust expands every offset inside a batch at each commit, and falls behind.
        self._deliveries: dict[TP, deque[_Delivery]] = defaultdict(deque)
        # Raised by everything after which the next records fetched may not continue the last:
        # seeks, rebalances, dropped fetches. One number for all partitions is enough: raising
        # it needlessly only makes the guard ask once more.
        self._epoch = 0
        # No seek while a fetch is under way, so that a fetch is wholly before or after it.
        self._fetching = asyncio.Lock()
        self._fetched_epoch = 0
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- fetching

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Yield what was fetched as messages, round robin over the partitions."""
        records, active = await self._wait_next_records(timeout)
        if not records or self.should_stop:
            return
        epoch = self._fetched_epoch
        generation = self.app.consumer_generation_id
        for tp, chunk in self._chunks(records):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                # A rebalance. The rest of this fetch is read again after it.
                self._epoch += 1
                return
            if active is not None and tp not in active:
                self._epoch += 1
                continue
            # Faust drops messages below the offset it read last and fills "gaps" above it. The
            # guard in the agent does both, with knowledge of what was handled.
            self._read_offset[tp] = chunk[-1].offset
            yield tp, self._batch_message(tp, Batch(chunk, epoch))

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        async with self._fetching:
            # A copy: a rebalance empties Faust's set, and aiokafka takes an empty one for all
            # partitions. What it then fetched would be dropped as not active.
            active = set(active_partitions or ())
            if not active:
                return {}
            self._fetched_epoch = self._epoch
            # Not the second that Faust asks for: a seek waits for this.
            return await super()._getmany(active, min(timeout, _LONGEST_FETCH_S))

    def _chunks(self, records: Mapping[Any, list[Record]]) -> Iterator[tuple[TP, list[Record]]]:
        size = cast(BatchingApp, self.app).batch_records
        waiting = [(ensure_TP(tp), fetched) for tp, fetched in records.items() if fetched]
        start = 0
        while waiting:
            for tp, fetched in waiting:
                yield tp, fetched[start : start + size]
            start += size
            waiting = [(tp, fetched) for tp, fetched in waiting if len(fetched) > start]

    def _batch_message(self, tp: TP, batch: Batch) -> _Message:
        last = batch.records[-1]
        message = _Message(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            None,
            None,
            cast(Any, batch),
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
        if self.app.topics.acks_enabled_for(tp.topic):
            message.delivery = _Delivery(last.offset)
            self._deliveries[tp].append(message.delivery)
        return message

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: the bounded queue holds the fetch loop back. Stock Faust would drop the
        partition from the fetch and, with all dropped, sleep a whole second."""

    # -- acknowledging

    def ack(self, message: Any) -> bool:
        """Take the acknowledgement of a batch; it is committed once all before it are."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        if message.delivery is not None:
            message.delivery.acked = True
        self._n_acked += 1
        notify(self._waiting_for_ack)
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (
            tp
            for tp in list(self._deliveries)
            if topics is None or tp in topics or tp.topic in topics
        )

    def _new_offset(self, tp: TP) -> int | None:
        deliveries = self._deliveries[tp]
        offset = None
        while deliveries and deliveries[0].acked:
            offset = deliveries.popleft().offset + 1
        return offset

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: see `getmany`."""

    # -- seeking

    async def seek_batches(self, tp: TP, offset: int) -> int | None:
        """Seek to `offset` and return an epoch: batches of that epoch were fetched after it.

        None when the partition has just been taken away: nothing was sought.
        """
        async with self._fetching:
            try:
                await self._thread.seek_in_thread(tp, offset)
            except IllegalStateError:
                return None
            self._forget([tp])
            return self._epoch

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Seek before recovery. A fetch under way could take the records sought away from it,
        while a rebalance has them dropped, and recovery would wait for them for ever."""
        async with self._fetching:
            await super().seek_wait(partitions)

    async def seek(self, partition: TP, offset: int) -> None:
        """Seek, as Faust asks for it."""
        await self.seek_batches(partition, offset)

    async def perform_seek(self) -> None:
        """Seek every partition to its committed offset, or to its start."""
        async with self._fetching:
            await super().perform_seek()
            for tp in self.assignment():
                # aiokafka leaves partitions without a committed offset where they are, beyond
                # what was fetched and dropped; it would wait there for the next event.
                if self.app.topics.acks_enabled_for(tp.topic) and not self._read_offset[tp]:
                    await self._thread.seek_in_thread(tp, 0)
        self._forget(list(self._deliveries))

    def stop_flow(self) -> None:
        """Stop delivering; what is queued will be dropped."""
        super().stop_flow()
        self._epoch += 1

    def resume_flow(self) -> None:
        """Deliver again; Faust has emptied the queues."""
        super().resume_flow()
        self._epoch += 1

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what was delivered of the partitions that leave."""
        await super().on_partitions_revoked(revoked)
        self._forget(revoked)

    def _forget(self, tps: Iterable[TP]) -> None:
        # Later acknowledgements of these find nothing to mark: they are delivered again.
        for tp in tps:
            self._deliveries.pop(tp, None)
        self._epoch += 1


class Transport(driver.Transport):
    """`marlin://host:port`: Faust's aiokafka transport with the batching consumer."""

    Consumer: ClassVar[Any] = Consumer
