"""Events out: any thread emits, a pump in the background sends them to Kafka."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from marlin.runtime.backlog import CHUNK_EVENTS, Backlog
from marlin.runtime.outgoing import OutgoingEvent
from marlin.runtime.spill import Record, SpillFile, SpillFolder

if TYPE_CHECKING:
    from aiokafka import BatchBuilder  # a name of our stubs only

__all__ = ["EventProducer", "partition_of"]

log = logging.getLogger("marlin.runtime")

LOOK_FOR_LEFTOVERS_S = 5.0
"""How often files of processes that have ended are looked for [s]."""


def partition_of(run_id: str, partitions: int) -> int:
    """The partition of a run: Kafka's default partitioner (murmur2) on its UTF-8 key."""
    return _partition_of(run_id.encode(), partitions)


class EventProducer:
    """Takes events and sends them: in order, each at least once, acknowledged by all replicas.

    Order holds per partition because one batch at a time is under way to each. A batch whose
    answer was lost is sent again; readers drop repeats by `(producer_id, run_id, seq)`.
    """

    def __init__(
        self, capacity: int, folder: SpillFolder | None = None, *, spill_after_s: float = 1.0
    ) -> None:
        """Keeps `capacity` events in memory. When none got through for `spill_after_s` [s], or
        the broker is away, they go to a file in `folder`."""
        self._folder = folder
        self._spill_after_s = spill_after_s
        self.backlog = Backlog(capacity, folder.create if folder else None)
        self._lock = threading.Lock()
        self._away = False
        self._moved_s = time.monotonic()
        """When something was last delivered, or nothing waited."""
        self._waiters: list[tuple[int, Future[bool]]] = []

    @property
    def dropped(self) -> int:
        """Events that are lost: no room for them, or unreadable [count]."""
        return self.backlog.refused + self.backlog.lost

    @property
    def undelivered(self) -> int:
        """Events accepted and not yet known to be in Kafka [count]."""
        return self.backlog.accepted - self.backlog.settled

    def emit(self, event: OutgoingEvent) -> None:
        """Take `event`. Returns at once; where there is no room drops it, counted and logged."""
        self.backlog.add(event)

    def drained(self) -> Future[bool]:
        """Done with True when everything emitted before this call is in Kafka, with False when
        the broker is or goes away. Cancel it when no longer waiting."""
        waiter: Future[bool] = Future()
        with self._lock:
            if not self.undelivered:
                waiter.set_result(True)
            elif self._away:
                waiter.set_result(False)
            else:
                self._waiters.append((self.backlog.accepted, waiter))
        return waiter

    def set_away(self, away: bool) -> None:
        """Say that the broker is away (nobody waits for it any more) or back."""
        with self._lock:
            self._away = away
            waiters, self._waiters = (self._waiters, []) if away else ([], self._waiters)
        _settle([waiter for _, waiter in waiters], False)

    def secure(self) -> None:
        """Write to disk what should not wait in memory. Called several times a second, in the
        thread of the pump."""
        now_s = time.monotonic()
        if not self.undelivered:
            self._moved_s = now_s
        elif self._away or self.backlog.crowded or now_s - self._moved_s >= self._spill_after_s:
            self.backlog.secure()

    async def pump(self, kafka: AIOKafkaProducer, topic: str, partitions: int) -> None:
        """Send what was emitted until cancelled. One pump at a time.

        Raises aiokafka's error when the cluster refuses or is gone; what was not delivered stays
        and a later pump sends it again, in the same order.
        """
        while True:
            chunk = await self._next()
            failed, error = await _send_all(kafka, topic, partitions, chunk)
            self.backlog.settle(failed)
            if len(failed) < len(chunk):
                self._moved_s = time.monotonic()
            if not failed:
                self.set_away(False)
            self._tell_waiters()
            if error is not None:
                raise error

    async def deliver_leftovers(self, kafka: AIOKafkaProducer, topic: str, partitions: int) -> None:
        """Send what processes that have ended left behind; look again from time to time.

        Until cancelled. Raises aiokafka's error; what was not delivered stays in its file.
        """
        while self._folder is not None:
            try:
                for file in self._folder.leftovers():
                    await _deliver(file, kafka, topic, partitions)
            except OSError as exc:
                log.warning("events left on disk were not read, they stay there: %s", exc)
            await asyncio.sleep(LOOK_FOR_LEFTOVERS_S)

    async def _next(self) -> list[Record]:
        """The next events, waiting until there are some."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        while not (chunk := self.backlog.take()):
            woken.clear()
            self._tell_waiters()  # events that were lost are waited for no more
            try:
                if self.backlog.wake_by(partial(loop.call_soon_threadsafe, woken.set)):
                    await woken.wait()
            finally:
                self.backlog.wake_by(None)
        return chunk

    def _tell_waiters(self) -> None:
        settled = self.backlog.settled
        with self._lock:
            done = [one for target, one in self._waiters if target <= settled]
            self._waiters = [pair for pair in self._waiters if pair[0] > settled]
        _settle(done, True)


async def _deliver(file: SpillFile, kafka: AIOKafkaProducer, topic: str, partitions: int) -> None:
    sent = 0
    try:
        while True:
            records, end = file.read(CHUNK_EVENTS)
            if not records:
                break
            _, error = await _send_all(kafka, topic, partitions, records)
            if error is not None:
                raise error
            file.advance(end, len(records))
            sent += len(records)
        if file.end > file.position:
            log.warning(
                "%s ends in %d bytes that are no whole record (its process was killed while it "
                "wrote, or the disk is damaged); they are ignored",
                *(file.path, file.end - file.position),
            )
            file.clear()
        if sent:
            log.info("sent %d events that a process before this one could not", sent)
    finally:
        file.close()


def _settle(waiters: Sequence[Future[bool]], value: bool) -> None:
    for waiter in waiters:
        # One that gave up is cancelled, and must not be set.
        if waiter.set_running_or_notify_cancel():
            waiter.set_result(value)


async def _send_all(
    kafka: AIOKafkaProducer, topic: str, partitions: int, records: Sequence[Record]
) -> tuple[list[Record], BaseException | None]:
    """Send `records`; what was not acknowledged, in order, and why."""
    by_partition: dict[int, list[Record]] = {}
    for record in records:
        by_partition.setdefault(_partition_of(record.key, partitions), []).append(record)
    outcomes = await asyncio.gather(
        *(_send(kafka, topic, number, some) for number, some in by_partition.items()),
        return_exceptions=True,
    )
    # A partition's events fail together; across partitions their order means nothing.
    failed = [
        record
        for some, outcome in zip(by_partition.values(), outcomes, strict=True)
        if outcome is not None
        for record in some
    ]
    return failed, next((error for error in outcomes if error is not None), None)


async def _send(
    kafka: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Record]
) -> None:
    batch = kafka.create_batch()
    for record in records:
        if not _append(batch, record):
            await (await kafka.send_batch(batch, topic, partition=partition))
            batch = kafka.create_batch()
            _append(batch, record)
    await (await kafka.send_batch(batch, topic, partition=partition))


def _append(batch: BatchBuilder, record: Record) -> bool:
    return batch.append(timestamp=None, key=record.key, value=record.value) is not None


def _partition_of(key: bytes, partitions: int) -> int:
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
