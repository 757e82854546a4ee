"""The first reader: what the Collector wrote, to one record per span."""

from __future__ import annotations

import asyncio
import logging

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, UnsupportedCodecError

from marlin.broker.cluster import Cluster
from marlin.errors import ConfigurationError, DataError
from marlin.schemas.deadletter import Step
from marlin.settings import Settings
from marlin.streams.otel.clients import group_consumer, sender
from marlin.streams.otel.sending import Sender
from marlin.streams.otel.split import Split, split
from marlin.topics import Topics

__all__ = ["split_spans"]

_log = logging.getLogger(__name__)

_POLL_MS = 500
_MOST_RECORDS = 20
"""Records taken at once [count]; each may be a whole export of a megabyte."""


async def split_spans(settings: Settings, cluster: Cluster) -> None:
    """Read spans until cancelled.

    A position is committed once everything before it is durable; after a crash some is written
    again, and the second reader knows it by its ids. Raises what Kafka's clients raise.
    """
    names = Topics(settings.kafka.topic_prefix)
    async with (
        sender(settings, cluster) as sending,
        group_consumer(settings, cluster, group=names.spans_group("split")) as consumer,
    ):
        consumer.subscribe(settings.otel.topics)
        while True:
            try:
                fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MOST_RECORDS)
            except UnsupportedCodecError as exc:
                raise ConfigurationError(
                    f"{', '.join(settings.otel.topics)}: {exc}; set the exporter's compression to "
                    "gzip, or `pip install cramjam`; the worker stops, nothing was skipped"
                ) from exc
            for tp, records in fetched.items():
                for record in records:
                    await _forward(record, sending, names.spans, settings)
                await _commit(consumer, tp, records[-1].offset + 1)


async def _forward(
    record: ConsumerRecord[bytes | None, bytes | None],
    sending: Sender,
    topic: str,
    settings: Settings,
) -> None:
    step: Step = "validate"
    try:
        if record.value is None:
            raise DataError("expected OTLP traces, found no value (a tombstone)")
        # In a thread: a large export takes a tenth of a second, and the worker meters meanwhile.
        found = await asyncio.to_thread(
            split,
            record.value,
            run_id_attributes=settings.otel.run_id_attributes,
            received_ms=record.timestamp,
        )
    except DataError as exc:
        found, step = Split(problem=str(exc)), "decode"
    await sending.send(topic, [(link.key, link.dump()) for link in found.links])
    if found.problem:
        where = (record.topic, record.partition, record.offset)
        _log.warning("%s-%d at offset %d: refused: %s", *where, found.problem)
        await sending.refuse(record, step, found.problem)


async def _commit(consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int) -> None:
    try:
        await consumer.commit({tp: offset})
    except (CommitFailedError, IllegalStateError):
        _log.info("%s-%d was taken by another worker, which reads some of it again", *tp)
