"""What every broker must do for Marlin, the embedded one and Apache Kafka alike."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from brokers import RunningBroker

from marlin.broker.cluster import connect, create_topics
from marlin.settings import Settings
from marlin.topics import Topics


async def test_the_cluster_says_what_it_is(broker: RunningBroker, settings: Settings) -> None:
    cluster = await connect(settings)

    assert cluster.bootstrap_servers == broker.bootstrap_servers
    assert cluster.embedded == (broker.kind == "embedded")


async def test_topics_are_created_once_with_equal_partitions(settings: Settings) -> None:
    first = await create_topics(settings)
    again = await create_topics(settings)

    topics = Topics(settings.kafka.topic_prefix)
    assert first == {**dict.fromkeys(topics.by_run(), 3), topics.grid: 1}
    assert again == first


async def test_a_group_reads_all_that_was_sent_in_order_of_each_partition(
    settings: Settings,
) -> None:
    await create_topics(settings)
    topics = Topics(settings.kafka.topic_prefix)
    cluster = await connect(settings)
    producer = AIOKafkaProducer(**cluster.producer_options())
    await producer.start()
    for number in range(60):
        await producer.send(topics.events, b"%d" % number, key=b"run-%d" % (number % 7))
    await producer.stop()

    consumer = AIOKafkaConsumer(
        topics.events,
        **cluster.client_options(),
        group_id=topics.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
    )
    await consumer.start()
    try:
        seen: dict[bytes, list[int]] = {}
        async with asyncio.timeout(60):
            for _ in range(60):
                record = await consumer.getone()
                assert record.key is not None
                assert record.value is not None
                seen.setdefault(record.key, []).append(int(record.value))
        await consumer.commit()
        committed = [await consumer.committed(tp) or 0 for tp in consumer.assignment()]
    finally:
        await consumer.stop()

    assert seen == {b"run-%d" % run: list(range(run, 60, 7)) for run in range(7)}
    assert sum(committed) == 60
