"""Events out: a bounded buffer that any thread fills, and a pump that empties it into Kafka."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from marlin.schemas import Event, RunStarted, Usage, dump

if TYPE_CHECKING:
    from aiokafka import BatchBuilder  # a name of our stubs only

__all__ = ["EventProducer", "partition_of"]

log = logging.getLogger("marlin.runtime")

CHUNK_EVENTS = 1000
"""Most events taken at once; what arrives while they are sent goes out together next."""

LIFECYCLE_SHARE = 2
"""Lifecycle events are taken until the buffer holds this many times its capacity: a run whose
start or end is missing costs the pipeline more than a call that is missing from a run."""

BeforeStart = Callable[[int], Awaitable[None]]
"""Awaited with a run's partition before its `run.started` is sent."""


def partition_of(run_id: str, partitions: int) -> int:
    """The partition of a run: Kafka's default partitioner (murmur2) on its UTF-8 key."""
    return int(murmur2(run_id.encode()) & 0x7FFFFFFF) % partitions


class EventProducer:
    """Buffers events and sends them: in order, each at least once, acknowledged by all replicas.

    Order holds per partition because one batch at a time is under way to each. A batch whose
    answer was lost is sent again; readers drop repeats by `(producer_id, run_id, seq)`.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._buffer: deque[Event] = deque()
        self._sending: list[Event] = []
        """Taken from the buffer, not yet known to be in Kafka."""
        self._accepted = 0
        self._delivered = 0
        self._away = False
        self._waiters: list[tuple[int, Future[bool]]] = []
        self._wake: Callable[[], object] | None = None
        self.dropped = 0
        """Events refused because the buffer was full [count]."""

    @property
    def undelivered(self) -> int:
        """Events accepted and not yet known to be in Kafka [count]."""
        with self._lock:
            return self._accepted - self._delivered

    def emit(self, event: Event) -> None:
        """Buffer `event`. Returns at once; where there is no room drops it, counted and logged."""
        limit = self._capacity if isinstance(event, Usage) else self._capacity * LIFECYCLE_SHARE
        with self._lock:
            if len(self._buffer) < limit:
                self._buffer.append(event)
                self._accepted += 1
                wake, self._wake = self._wake, None
                if wake is not None:
                    wake()
                return
            self.dropped += 1
            first = self.dropped == 1
        if first:
            log.error(
                "the event buffer is full (%d events) and Kafka is away: further events are "
                "dropped; runs go on, local totals and budgets stay exact",
                self._capacity,
            )

    def drained(self) -> Future[bool]:
        """Done with True when everything emitted before this call is in Kafka, with False when
        the broker is or goes away. Cancel it when no longer waiting."""
        waiter: Future[bool] = Future()
        with self._lock:
            if self._delivered >= self._accepted:
                waiter.set_result(True)
            elif self._away:
                waiter.set_result(False)
            else:
                self._waiters.append((self._accepted, waiter))
        return waiter

    def set_away(self, away: bool) -> None:
        """Say that the broker is away (nobody waits for it any more) or back."""
        with self._lock:
            self._away = away
            waiters, self._waiters = (self._waiters, []) if away else ([], self._waiters)
        _settle([waiter for _, waiter in waiters], False)

    async def pump(
        self, kafka: AIOKafkaProducer, topic: str, partitions: int, before_start: BeforeStart
    ) -> None:
        """Send what is buffered until cancelled. One pump at a time.

        Raises aiokafka's error when the cluster refuses or is gone; what was not delivered stays
        and a later pump sends it again, in the same order.
        """
        while True:
            await self._fill()
            by_partition: dict[int, list[Event]] = {}
            for event in self._sending:
                by_partition.setdefault(partition_of(event.run_id, partitions), []).append(event)
            for partition, events in by_partition.items():
                if any(isinstance(event, RunStarted) for event in events):
                    await before_start(partition)
            outcomes = await asyncio.gather(
                *(_send(kafka, topic, number, events) for number, events in by_partition.items()),
                return_exceptions=True,
            )
            self._account(list(by_partition.values()), outcomes)

    async def _fill(self) -> None:
        """Take the next events, waiting until there are some."""
        if self._sending:
            return
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        while True:
            woken.clear()
            with self._lock:
                while self._buffer and len(self._sending) < CHUNK_EVENTS:
                    self._sending.append(self._buffer.popleft())
                if self._sending:
                    return
                # Set only while asleep: waking a loop costs a system call, and an agent pays it.
                self._wake = partial(loop.call_soon_threadsafe, woken.set)
            try:
                await woken.wait()
            finally:
                with self._lock:
                    self._wake = None

    def _account(
        self, sent: Sequence[list[Event]], outcomes: Sequence[BaseException | None]
    ) -> None:
        failed = [outcome for outcome in outcomes if outcome is not None]
        with self._lock:
            # A partition's events fail together; across partitions their order means nothing.
            self._sending = [
                event
                for events, outcome in zip(sent, outcomes, strict=True)
                if outcome is not None
                for event in events
            ]
            self._delivered += sum(map(len, sent)) - len(self._sending)
            self._away = self._away and bool(failed)
            done = [one for target, one in self._waiters if target <= self._delivered]
            self._waiters = [pair for pair in self._waiters if pair[0] > self._delivered]
        _settle(done, True)
        if failed:
            raise failed[0]


def _settle(waiters: Sequence[Future[bool]], value: bool) -> None:
    for waiter in waiters:
        # One that gave up is cancelled, and must not be set.
        if waiter.set_running_or_notify_cancel():
            waiter.set_result(value)


async def _send(
    kafka: AIOKafkaProducer, topic: str, partition: int, events: Sequence[Event]
) -> None:
    batch = kafka.create_batch()
    for event in events:
        if not _append(batch, event):
            await (await kafka.send_batch(batch, topic, partition=partition))
            batch = kafka.create_batch()
            _append(batch, event)
    await (await kafka.send_batch(batch, topic, partition=partition))


def _append(batch: BatchBuilder, event: Event) -> bool:
    key, value = event.run_id.encode(), dump(event)
    return batch.append(timestamp=None, key=key, value=value) is not None
