"""The second reader: spans in the order of their log, to numbered usage events.

Exactly once rests on three things. A span's event has the span's own offset for its `seq`, so it
has the same number however often it is read. Which spans count is a function of the log, times
included, and that function's memory is filled again, by reading back, before anything is sent
after a restart. And events of a partition are sent in order, so the worker drops every repeat as
a number below one it has seen. Where nothing comes, a span would wait for ever; so the reader
writes a record without a span, and the log says that time has passed.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Collection

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata

from marlin.broker.cluster import Cluster
from marlin.broker.offsets import log_bounds
from marlin.errors import DataError
from marlin.settings import Settings
from marlin.streams.otel.clients import group_consumer, sender
from marlin.streams.otel.link import Link
from marlin.streams.otel.memory import Memory
from marlin.streams.otel.sending import Row, Sender
from marlin.topics import Topics

__all__ = ["PRODUCER_PREFIX", "count_spans"]

_log = logging.getLogger(__name__)

PRODUCER_PREFIX = "otlp:"
"""Begins the `producer_id` of events made from spans. Their `seq` are offsets of a log: they only
rise, and what is between two of them is not lost usage."""

_POLL_MS = 500
_MOST_RECORDS = 2000
_FIRST_GENERATION = "0"


class _Held:
    """A partition of the internal topic that this reader holds."""

    def __init__(
        self, number: int, generation: str, *, start: int, since: int, memory: Memory
    ) -> None:
        self.producer_id = f"{PRODUCER_PREFIX}{number}:{generation}"
        self.generation = generation
        """Tells the log from one of the same name that was deleted: offsets begin anew."""
        self.since = since
        """Events from this offset on are sent; before it the memory is filled."""
        self.position = start - 1
        """The offset last judged."""
        self.memory = memory
        self.committed = since
        self.heard_s = 0.0
        """When a record last came, by the loop's clock [s]."""

    @property
    def next_offset(self) -> int:
        """Where a reader after this one must begin."""
        waits_from = self.memory.waits_from
        return self.position + 1 if waits_from is None else waits_from


class _Forgetting(ConsumerRebalanceListener):
    """Drops what is held at every rebalance: somebody else may read in between."""

    def __init__(self, held: dict[TopicPartition, _Held]) -> None:
        self._held = held

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._held.clear()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._held.clear()


async def count_spans(settings: Settings, cluster: Cluster) -> None:
    """Send the usage events of spans until cancelled. Raises what Kafka's clients raise."""
    names = Topics(settings.kafka.topic_prefix)
    group = names.spans_group("count")
    async with (
        sender(settings, cluster) as sending,
        group_consumer(settings, cluster, group=group) as consumer,
    ):
        counter = Counter(settings, cluster, consumer, sending, group=group)
        consumer.subscribe([names.spans], listener=_Forgetting(counter.held))
        while True:
            fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MOST_RECORDS)
            for tp, records in fetched.items():
                try:
                    await counter.count(tp, records)
                except (CommitFailedError, IllegalStateError):
                    _log.info("%s-%d was taken by another worker, which goes on with it", *tp)
                    counter.held.pop(tp, None)
            await counter.tick()


class Counter:
    """Judges spans and sends the events of those that count."""

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        consumer: AIOKafkaConsumer,
        sending: Sender,
        *,
        group: str,
    ) -> None:
        self._otel = settings.otel
        self._spans_topic = Topics(settings.kafka.topic_prefix).spans
        self._cluster = cluster
        self._consumer = consumer
        self._sending = sending
        self._group = group
        self._events_topic = Topics(settings.kafka.topic_prefix).events
        self.held: dict[TopicPartition, _Held] = {}

    async def count(
        self, tp: TopicPartition, records: list[ConsumerRecord[bytes | None, bytes | None]]
    ) -> None:
        """Handle `records` of `tp`; its position is committed when their events are durable.

        The first records of a partition just assigned only show that it has some: its memory is
        filled first, from before them.
        """
        held = self.held.get(tp)
        if held is None:
            self.held[tp] = await self._take(tp)
            return
        rows: list[Row] = []
        for record in records:
            if record.offset <= held.position:
                continue
            held.position = record.offset
            try:
                link = Link.load(record.value)
            except DataError as exc:
                # Nobody but the first reader should write to that topic.
                _log.error("%s-%d at offset %d: refused: %s", *tp, record.offset, exc)
                await self._sending.refuse(record, "decode", str(exc))
                continue
            rows += (
                (counted.link.run.encode(), counted.link.event(held.producer_id, counted.offset))
                for counted in held.memory.take(record.offset, record.timestamp, link)
                if counted.offset >= held.since
            )
        held.heard_s = asyncio.get_running_loop().time()
        await self._sending.send(self._events_topic, rows)
        if held.next_offset > held.committed:
            await self._commit(tp, held.next_offset, held.generation)
            held.committed = held.next_offset

    async def tick(self) -> None:
        """Write the time to partitions with spans that wait while nothing comes."""
        now_s = asyncio.get_running_loop().time()
        for tp, held in list(self.held.items()):
            quiet_s = now_s - held.heard_s
            if held.memory.waits_from is not None and quiet_s >= self._otel.hold_back_s:
                held.heard_s = now_s
                await self._sending.send_to(
                    self._spans_topic, tp.partition, [(b"", Link.tick().dump())]
                )

    async def _take(self, tp: TopicPartition) -> _Held:
        """Begin with a partition: seek to where its memory has to be filled from."""
        bounds = await log_bounds(self._cluster, [tp])
        begin, end = bounds[0][tp], bounds[1][tp]
        since, generation = await self._committed(tp)
        if since is None or since > end:
            # New, or made anew: its offsets say nothing about those of an older log.
            since = begin
            generation = _FIRST_GENERATION if self._cluster.embedded else uuid.uuid4().hex[:12]
            await self._commit(tp, since, generation)
        # Twice: what counts depends on the spans before it, and so do those in turn.
        start = max(begin, since - 2 * self._otel.remembered_spans)
        self._consumer.seek(tp, start)
        memory = Memory(
            self._otel.remembered_spans, hold_back_ms=round(self._otel.hold_back_s * 1000)
        )
        return _Held(tp.partition, generation, start=start, since=since, memory=memory)

    async def _committed(self, tp: TopicPartition) -> tuple[int | None, str]:
        """The group's position in `tp`, and the generation kept beside it."""
        admin = AIOKafkaAdminClient(**self._cluster.client_options())
        try:
            await admin.start()
            offsets = await admin.list_consumer_group_offsets(self._group, partitions=[tp])
        finally:
            await admin.close()
        found = offsets.get(tp)
        if found is None or found.offset < 0:
            return None, _FIRST_GENERATION
        # The embedded broker keeps no metadata; with it, all logs are gone at once.
        return found.offset, found.metadata or _FIRST_GENERATION

    async def _commit(self, tp: TopicPartition, offset: int, generation: str) -> None:
        await self._consumer.commit({tp: OffsetAndMetadata(offset, generation)})
