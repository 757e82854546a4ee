"""Is a topic still the one that was read before? A recreated one starts again at offset 0, and
everything below the old position would be skipped in silence."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP

from marlin.broker.offsets import read_ends
from marlin.errors import StateError
from marlin.streams.partition import Fingerprint

__all__ = ["log_has"]

_READ_TIMEOUT_S = 15.0
_FETCH_WAIT_MS = 20


async def log_has(client_options: dict[str, Any], tp: TP, fingerprint: Fingerprint | None) -> bool:
    """Whether the log of `tp` holds the record that `fingerprint` was taken of.

    True also where nothing can be compared: nothing was read yet, or retention or compaction
    has taken the record. Raises `StateError` when the record cannot be read.
    """
    if fingerprint is None:
        return True
    partition = TopicPartition(*tp)
    consumer = AIOKafkaConsumer(
        **client_options, enable_auto_commit=False, fetch_max_wait_ms=_FETCH_WAIT_MS
    )
    await consumer.start()
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            if (await read_ends(consumer, [partition]))[partition] <= fingerprint.offset:
                return False
            if (await consumer.beginning_offsets([partition]))[partition] > fingerprint.offset:
                return True
            consumer.seek(partition, fingerprint.offset)
            record = await consumer.getone(partition)
    except TimeoutError as exc:
        raise StateError(
            f"{tp.topic}-{tp.partition} at offset {fingerprint.offset} could not be read within "
            f"{_READ_TIMEOUT_S:g} s, so nobody knows if the topic was recreated; the worker stops"
        ) from exc
    finally:
        await consumer.stop()
    return record.offset != fingerprint.offset or Fingerprint.of(record) == fingerprint
