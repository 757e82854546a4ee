"""Kafka clients and topics of the two readers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from marlin.broker.cluster import Cluster
from marlin.errors import BrokerError
from marlin.settings import Settings
from marlin.streams.otel.sending import BATCH_BYTES, Sender
from marlin.topics import Topics

__all__ = ["Fetched", "group_consumer", "prepare", "sender"]

Fetched = dict[TopicPartition, list[ConsumerRecord[bytes | None, bytes | None]]]

_TOPIC_EXISTS = 36  # Kafka protocol error code TOPIC_ALREADY_EXISTS
_FETCH_WAIT_MS = 100
"""Longest the broker may hold an empty fetch [ms]. Spans come seconds late anyway."""

_METADATA_AGE_MS = 3000
# A topic that was just made may have no partitions yet when the group divides them, and only
# newer metadata makes it divide them again.

_STOP_TIMEOUT_S = 8.0
# A consumer that is joining its group leaves only when it has joined, which can take as long as
# a member that was killed is waited for.

_EMBEDDED_SESSION_TIMEOUT_MS = 6000
# The embedded broker's group join takes half the session time-out.

_RETENTION_H = 72
"""How long the internal topic keeps spans [h]. Less than the week for which Kafka keeps the
position of a group that is away: one that finds its position gone must not find old spans."""


async def prepare(settings: Settings, cluster: Cluster) -> None:
    """Create the topics of spans that are missing. Raises `BrokerError` when Kafka refuses."""
    kafka, internal = settings.kafka, Topics(settings.kafka.topic_prefix).spans
    hour_ms = 3_600_000
    kept = {
        "retention.ms": str(_RETENTION_H * hour_ms),
        "segment.ms": str(6 * hour_ms),
        # The broker's own clock: one for all who write to it.
        "message.timestamp.type": "LogAppendTime",
    }
    admin = AIOKafkaAdminClient(**cluster.client_options())
    try:
        await admin.start()
        present = set(await admin.list_topics())
        missing = [name for name in (*settings.otel.topics, internal) if name not in present]
        if not missing:
            return
        response = await admin.create_topics(
            [
                NewTopic(
                    *(name, kafka.partitions, kafka.replication_factor),
                    topic_configs=kept if name == internal else {},
                )
                for name in missing
            ]
        )
        for name, code, message in response.topic_errors:
            if code not in (0, _TOPIC_EXISTS):
                raise BrokerError(f"topic {name} was not created: {for_code(code)} {message}")
    finally:
        await admin.close()


@asynccontextmanager
async def group_consumer(
    settings: Settings, cluster: Cluster, *, group: str
) -> AsyncGenerator[AIOKafkaConsumer]:
    """A member of `group` that commits only when told. It leaves the group after the block."""
    session_ms = int(settings.worker.session_timeout_s * 1000)
    if cluster.embedded:
        session_ms = _EMBEDDED_SESSION_TIMEOUT_MS
    consumer = AIOKafkaConsumer(
        **cluster.client_options(),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        metadata_max_age_ms=_METADATA_AGE_MS,
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=session_ms // 6,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await _stop(consumer)


@asynccontextmanager
async def sender(settings: Settings, cluster: Cluster) -> AsyncGenerator[Sender]:
    """A sender, connected while the block runs."""
    producer = AIOKafkaProducer(
        **cluster.producer_options(), linger_ms=0, max_batch_size=BATCH_BYTES
    )
    try:
        await producer.start()
        yield Sender(
            producer,
            deadletter_topic=Topics(settings.kafka.topic_prefix).deadletter,
            max_letter_bytes=settings.kafka.max_message_bytes,
        )
    finally:
        await _stop(producer)


async def _stop(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    # Nothing rests on a clean end: what is not committed is read again.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await client.stop()
