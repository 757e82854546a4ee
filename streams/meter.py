"""The meter agent: batches of events in, carbon records, commands and table rows out."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from faust.types import TP

from marlin.streams.guard import Guard, Verdict
from marlin.streams.partition import Partition
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
    """

    def __init__(
        self,
        table: RunTable,
        publisher: Publisher,
        *,
        max_event_bytes: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._table = table
        self._publisher = publisher
        self._max_event_bytes = max_event_bytes
        self._now = now
        self._guards = defaultdict[int, Guard](Guard)

    async def handle(self, event: Any, consumer: Consumer) -> None:
        """Handle one message of the batching transport; acknowledges it when it is durable."""
        tp: TP = event.message.tp
        batch = cast(Batch, event.value)
        partition = self._table.partition(tp.partition)
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
        await self._publisher.publish(tp.partition, outcome, event.ack)

    async def _continues(
        self, partition: Partition, tp: TP, batch: Batch, consumer: Consumer
    ) -> bool:
        guard = self._guards[tp.partition]
        expected, first = partition.position + 1, batch.records[0].offset
        verdict = guard.check(expected=expected, first=first, epoch=batch.epoch)
        if verdict is Verdict.SEEK:
            _log.info("%s-%d: expected offset %d, got %d: read again", *tp, expected, first)
            guard.sought(expected, await consumer.seek_batches(tp, expected))
            return False
        if verdict is Verdict.HANDLE and first > expected:
            partition.skipped += first - expected
            _log.error(
                "%s-%d: offsets %d to %d are gone (retention, compaction or a transaction "
                "marker) and were never read; going on at %d",
                *(*tp, expected, first - 1, first),
            )
        return verdict is Verdict.HANDLE
