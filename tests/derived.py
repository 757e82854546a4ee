"""Records as the worker derives them, sent to the sink's topics without a worker."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from marlin.broker.cluster import connect, create_topics
from marlin.settings import Settings
from marlin.sinks import conformance as made
from marlin.sinks.conformance import Recorded

__all__ = ["publish", "usages"]


async def publish(settings: Settings, records: Sequence[Recorded]) -> None:
    """Send made-up records of the sink's topics, under this test's topic prefix."""
    await create_topics(settings)
    prefix = settings.kafka.topic_prefix
    producer = AIOKafkaProducer(**(await connect(settings)).producer_options(), linger_ms=5)
    await producer.start()
    try:
        for record in records:
            await producer.send(
                prefix + record.topic,
                record.value,
                key=record.key,
                partition=record.partition,
                headers=[(name, value or b"") for name, value in record.headers],
            )
        await producer.flush()
    finally:
        await producer.stop()


def usages(first: int, past: int) -> list[Recorded]:
    """Carbon records of the source offsets from `first` up to, not including, `past`; as many
    input tokens each, and spread over three partitions."""
    return [made.carbon(n, partition=n % 3, input_tokens=n) for n in range(first, past)]
