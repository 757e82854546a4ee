"""The grid topic as a worker reads it: all of it at the start, then as it comes."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import ValidationError

from marlin.broker.cluster import Cluster
from marlin.errors import StateError
from marlin.schemas import GridRecord
from marlin.streams.grid import VISIBLE_AFTER, HourlyValues

__all__ = ["GridReader"]

_log = logging.getLogger(__name__)

_POLL_MS = 200
_FETCH_WAIT_MS = 500
_EMBEDDED_FETCH_WAIT_MS = 50
# The embedded broker does not wake a waiting fetch.

_PATIENCE_S = 60.0


class GridReader:
    """Follows the grid topic into `values`."""

    def __init__(self, cluster: Cluster, topic: str, values: HourlyValues) -> None:
        self._cluster = cluster
        self._partition = TopicPartition(topic, 0)
        self.values = values
        self._complete = asyncio.Condition()
        self._complete_ms = 0

    async def run(self) -> None:
        """Read until cancelled. Raises what Kafka's client raises when it cannot go on."""
        consumer = AIOKafkaConsumer(
            **self._cluster.client_options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=(
                _EMBEDDED_FETCH_WAIT_MS if self._cluster.embedded else _FETCH_WAIT_MS
            ),
        )
        await consumer.start()
        try:
            consumer.assign([self._partition])
            await consumer.seek_to_beginning(self._partition)
            while True:
                await self._read(consumer)
        finally:
            await consumer.stop()

    async def ready_for(self, sent_ms: int) -> None:
        """Wait until everything is read that events sent by `sent_ms` [ms] may use.

        Events from the future wait for what came until now, not for their own time. Raises
        `StateError` when the topic cannot be read that far.
        """
        until_ms = min(sent_ms, int(time.time() * 1000)) - VISIBLE_AFTER.total_seconds() * 1000
        if self._complete_ms >= until_ms:
            return
        try:
            async with asyncio.timeout(_PATIENCE_S), self._complete:
                await self._complete.wait_for(lambda: self._complete_ms >= until_ms)
        except TimeoutError as exc:
            raise StateError(
                f"{self._partition.topic} could not be read for {_PATIENCE_S:g} s, so nobody knows "
                "which hourly intensities these events are counted with; the worker stops, "
                "nothing is lost, start it again"
            ) from exc

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        fetched = await consumer.getmany(self._partition, timeout_ms=_POLL_MS)
        for record in fetched.get(self._partition, ()):
            self._add(record.value, record.timestamp, record.offset)
        # When the broker last said where the log ends, not when it was last asked: a broker that
        # is away says nothing.
        said_ms: int | None = cast(Any, consumer).last_poll_timestamp(self._partition)
        end = consumer.highwater(self._partition)
        if said_ms and end is not None and await consumer.position(self._partition) >= end:
            async with self._complete:
                self._complete_ms = said_ms
                self._complete.notify_all()

    def _add(self, value: bytes | None, published_ms: int, offset: int) -> None:
        try:
            record = GridRecord.model_validate_json(value or b"")
        except ValidationError as exc:
            _log.warning("%s-%d at offset %d is no intensity: %s", *self._partition, offset, exc)
            return
        self.values.add(record, published_ms)
