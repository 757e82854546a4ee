"""Where logs begin and end, told rightly by every broker."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from marlin.broker.cluster import Cluster
from marlin.errors import BrokerError

__all__ = ["Offsets", "log_bounds", "read_ends"]

Offsets = dict[TopicPartition, int]

_FETCH_WAIT_MS = 20


async def read_ends(consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]) -> Offsets:
    """Where `partitions` end now, exclusive. Assigns them to `consumer` and moves it.

    Not `end_offsets` alone: the embedded broker answers with the start of the last batch plus
    one. What a fetch says is right, and it says it for an empty one as well.
    """
    wanted = list(partitions)
    reported = await consumer.end_offsets(wanted)
    # Assigned anew, it forgets what earlier fetches said.
    consumer.assign(wanted)
    for tp, offset in reported.items():
        consumer.seek(tp, offset)
    ends: Offsets = {}
    while len(ends) < len(wanted):
        await consumer.getmany(timeout_ms=_FETCH_WAIT_MS)
        for tp in wanted:
            highwater = consumer.highwater(tp)
            if highwater is not None:
                ends[tp] = highwater
    return ends


async def log_bounds(
    cluster: Cluster, partitions: Collection[TopicPartition]
) -> tuple[Offsets, Offsets]:
    """Where `partitions` begin, and where they end, exclusive. Raises `BrokerError`."""
    consumer = AIOKafkaConsumer(
        **cluster.client_options(),
        group_id=None,
        enable_auto_commit=False,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    try:
        async with asyncio.timeout(cluster.kafka.request_timeout_s):
            await consumer.start()
            begins = await consumer.beginning_offsets(list(partitions))
            return begins, await read_ends(consumer, partitions)
    except (KafkaError, TimeoutError) as exc:
        raise BrokerError(
            f"Kafka at {cluster.bootstrap_servers} did not say where its topics begin and end: "
            f"{exc!r}"
        ) from exc
    finally:
        await consumer.stop()
