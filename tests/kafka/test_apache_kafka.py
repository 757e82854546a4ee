"""The Apache Kafka node of the tests: what it promises to those who use it."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from brokers.apache import ApacheKafka

from marlin.broker.cluster import connect, create_topics
from marlin.settings import Settings
from marlin.topics import Topics


async def _read(bootstrap_servers: str, topic: str, count: int) -> list[bytes | None]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", group_id=None
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def _send(settings: Settings, topic: str, value: bytes) -> None:
    cluster = await connect(settings)
    producer = AIOKafkaProducer(**cluster.producer_options())
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def test_it_is_a_cluster_of_its_own(
    apache_kafka: ApacheKafka, apache_settings: Settings
) -> None:
    cluster = await connect(apache_settings)

    assert cluster.cluster_id == apache_kafka.cluster_id
    assert not cluster.embedded


async def test_topics_are_not_created_by_asking(
    apache_kafka: ApacheKafka, apache_settings: Settings
) -> None:
    created = await create_topics(apache_settings)

    topics = Topics(apache_settings.kafka.topic_prefix)
    assert created == {topic: 1 if topic == topics.grid else 3 for topic in topics.all()}


async def test_data_and_address_survive_restart_and_kill(
    apache_kafka: ApacheKafka, apache_settings: Settings
) -> None:
    await create_topics(apache_settings)
    topic = Topics(apache_settings.kafka.topic_prefix).events
    address = apache_kafka.bootstrap_servers

    await _send(apache_settings, topic, b"first")
    await asyncio.to_thread(apache_kafka.restart)
    await _send(apache_settings, topic, b"second")
    await asyncio.to_thread(apache_kafka.kill)
    await asyncio.to_thread(apache_kafka.start)
    await _send(apache_settings, topic, b"third")

    assert apache_kafka.bootstrap_servers == address
    assert await _read(address, topic, 3) == [b"first", b"second", b"third"]
    assert (await connect(apache_settings)).cluster_id == apache_kafka.cluster_id
