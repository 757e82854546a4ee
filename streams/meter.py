"""The meter agent: batches of events in, carbon records, commands and table rows out."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from weakref import WeakSet

from faust.types import TP

from marlin.errors import StateError
from marlin.streams.guard import Guard, Verdict
from marlin.streams.partition import Fingerprint, Outcome, Partition
from marlin.streams.publisher import Publisher
from marlin.streams.table import RunTable
from marlin.streams.transport import Batch, Consumer

__all__ = ["Meter"]

_log = logging.getLogger(__name__)


class Meter:
    """Handles every batch of the events topic that this worker is given.

    An error in here would make Faust restart the agent *after* the failed batch, and commits
    would stop there while later work went on. Per-record errors are dead letters; anything else
    ends the worker, and its supervisor starts it again at the last durable position.

    `ready_for` is awaited before a batch is handled, with the newest time of its records [ms].
    """

    def __init__(
        self,
        table: RunTable,
        publisher: Publisher,
        *,
        log_has: Callable[[TP, Fingerprint | None], Awaitable[bool]],
        max_event_bytes: int,
        continue_recreated: bool = False,
        ready_for: Callable[[int], Awaitable[None]] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._table = table
        self._publisher = publisher
        self._log_has = log_has
        self._max_event_bytes = max_event_bytes
        self._continue_recreated = continue_recreated
        self._ready_for = ready_for
        self._now = now
        self._verified = WeakSet[Partition]()
        self._verifying = asyncio.Lock()
        self._guards = defaultdict[int, Guard](Guard)

    async def handle(self, event: Any, consumer: Consumer) -> None:
        """Handle one message of the batching transport; acknowledges it when it is durable."""
        tp: TP = event.message.tp
        batch = cast(Batch, event.value)
        if self._ready_for is not None:
            await self._ready_for(max(record.timestamp for record in batch.records))
        partition = self._table.partition(tp.partition)
        await self._verify(partition, tp, consumer)
        if not await self._continues(partition, tp, batch, consumer):
            event.ack()
            return
        outcome = partition.apply(
            batch.records, now=self._now(), max_event_bytes=self._max_event_bytes
        )
        if outcome.letters:
            _log.warning(
                "%d records of %s-%d refused, see the dead-letter topic",
                len(outcome.letters),
                tp.topic,
                tp.partition,
            )
        await self._publish(tp.partition, outcome, event.ack)

    async def expire(self, *, finished_s: float, idle_s: float | None) -> int:
        """Let runs leave that finished `finished_s` [s] ago, or were idle for `idle_s` [s].

        Returns how many left.
        """
        now, gone = self._now(), 0
        for number, partition in list(self._table.partitions_held.items()):
            outcome = partition.expire(
                finished_before=now - timedelta(seconds=finished_s),
                idle_before=None if idle_s is None else now - timedelta(seconds=idle_s),
            )
            if outcome.rows:
                gone += len(outcome.rows)
                await self._publish(number, outcome, lambda: None)
        return gone

    async def escalate(self, consumer: Consumer, topic: str, *, deadline_s: float) -> int:
        """Tell operators of runs whose abort was not acknowledged within `deadline_s` [s].

        Returns how many there are. An acknowledgement may lie in the log unread: of a partition
        that is behind, only the time that its handled records reach counts as passed.
        """
        now, told = self._now(), 0
        for number, partition in list(self._table.partitions_held.items()):
            tp = TP(topic, number)
            if tp not in consumer.assignment():
                continue
            seen_until = _seen_until(partition, consumer.highwater(tp), now)
            if seen_until is None:
                continue
            outcome = partition.escalate(
                commanded_until=seen_until - timedelta(seconds=deadline_s), now=now
            )
            if outcome.rows:
                told += len(outcome.rows)
                await self._publish(number, outcome, lambda: None)
        if told:
            _log.warning("%d aborts were not acknowledged within %g s; escalated", told, deadline_s)
        return told

    async def _publish(self, number: int, outcome: Outcome, ack: Callable[[], object]) -> None:
        generation = self._table.app.consumer_generation_id

        def done(offset: int) -> None:
            self._table.written(number, offset, generation)
            ack()

        await self._publisher.publish(number, outcome, done)

    async def verify(self, consumer: Consumer, topic: str) -> None:
        """Check the logs of partitions just recovered, though nothing may come of them.

        A recreated topic that is just as long as the old one would else wait for its next event
        to be noticed.
        """
        for number, partition in list(self._table.partitions_held.items()):
            tp = TP(topic, number)
            if partition not in self._verified and tp in consumer.assignment():
                await self._verify(partition, tp, consumer)

    async def _verify(self, partition: Partition, tp: TP, consumer: Consumer) -> None:
        """Once per partition recovered: is the log still the one its position speaks of?"""
        async with self._verifying:
            if partition in self._verified:
                return
            if not await self._log_has(tp, partition.fingerprint):
                if not self._continue_recreated:
                    raise StateError(
                        f"{tp.topic}-{tp.partition} was recreated: it does not hold the record "
                        f"last handled, at offset {partition.position}. The worker stops, nothing "
                        "was changed. To count the new topic from its start, set "
                        "MARLIN_WORKER__ON_RECREATED_TOPIC=continue"
                    )
                _log.warning("%s-%d was recreated; going on from its start", *tp)
                partition.continue_recreated()
                await self._seek(tp, 0, consumer)
            self._verified.add(partition)

    async def _continues(
        self, partition: Partition, tp: TP, batch: Batch, consumer: Consumer
    ) -> bool:
        guard = self._guards[tp.partition]
        expected, first = partition.position + 1, batch.records[0].offset
        verdict = guard.check(expected=expected, first=first, epoch=batch.epoch)
        if verdict is Verdict.SEEK:
            _log.info("%s-%d: expected offset %d, got %d: read again", *tp, expected, first)
            await self._seek(tp, expected, consumer)
            return False
        if verdict is Verdict.HANDLE and first > expected:
            partition.skipped += first - expected
            _log.error(
                "%s-%d: offsets %d to %d are gone (retention, compaction or a transaction "
                "marker) and were never read; going on at %d",
                *(*tp, expected, first - 1, first),
            )
        return verdict is Verdict.HANDLE

    async def _seek(self, tp: TP, offset: int, consumer: Consumer) -> None:
        epoch = await consumer.seek_batches(tp, offset)
        if epoch is not None:
            self._guards[tp.partition].sought(offset, epoch)


def _seen_until(partition: Partition, end: int | None, now: datetime) -> datetime | None:
    """The time up to which all that was sent to the partition has been handled; None: none.

    `end` is the offset that its log's next record will have, as far as known.
    """
    if end is not None and partition.position + 1 >= end:
        return now
    if partition.fingerprint is None:
        return None
    return datetime.fromtimestamp(partition.fingerprint.timestamp_ms / 1000, UTC)
