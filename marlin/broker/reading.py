"""Reading a topic from its beginning to where it ends now, without joining any group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from marlin.broker.cluster import Cluster
from marlin.broker.offsets import read_ends
from marlin.errors import BrokerError

__all__ = ["Record", "read_log"]

Record = ConsumerRecord[bytes | None, bytes | None]

_FETCH_WAIT_MS = 20
_POLL_MS = 200
_PARTITION_FETCH_BYTES = 4 * 1024 * 1024


async def read_log(
    cluster: Cluster, topic: str, partitions: Collection[int]
) -> AsyncGenerator[list[Record]]:
    """Yield the records of `topic`, some of one partition at a time, each partition in order.

    Those that are there at the start are given, perhaps a few more. Raises `BrokerError` when
    the broker stops answering.
    """
    consumer = AIOKafkaConsumer(
        **cluster.client_options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
    )
    patience_s = cluster.kafka.request_timeout_s
    try:
        async with asyncio.timeout(patience_s):
            await consumer.start()
            wanted = [TopicPartition(topic, number) for number in partitions]
            begins = await consumer.beginning_offsets(wanted)
            ends = await read_ends(consumer, wanted)
        # Not assigned anew: an aiokafka consumer that is stopped right after that never stops.
        for tp in wanted:
            if begins[tp] < ends[tp]:
                consumer.seek(tp, begins[tp])
        at, moved_s = begins, time.monotonic()
        while any(at[tp] < ends[tp] for tp in wanted):
            for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                yield records
            # Not the offsets of records: compaction may have removed those at the end.
            now_at = {tp: await consumer.position(tp) for tp in wanted}
            if now_at != at:
                at, moved_s = now_at, time.monotonic()
            elif time.monotonic() - moved_s > patience_s:
                raise TimeoutError(f"nothing came for {patience_s:g} s")
    except (KafkaError, TimeoutError) as exc:
        raise BrokerError(
            f"{topic} at {cluster.bootstrap_servers} could not be read to its end: {exc!r}"
        ) from exc
    finally:
        await consumer.stop()
