"""Which partitions are this process's, where several sinks share the topics: a consumer group.

The group only shares out. It keeps no offsets, and nothing is read through it: positions are in
the lake, together with what they cover, and the lake refuses the slower of two sinks that write
the same partition. So exactness never depends on the group being right about who is alive; it
makes such races rare.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from marlin.broker.cluster import Cluster
from marlin.topics import Topics

__all__ = ["Share"]

log = logging.getLogger(__name__)

_EMBEDDED_SESSION_TIMEOUT_S = 6.0
"""A join takes half of it on the embedded broker."""

_METADATA_AGE_MS = 5_000
"""New partitions are shared out after so long at most [ms]."""

_STAY_WAIT_S = 0.5


class Share(ConsumerRebalanceListener):
    """This process's partition numbers, as they are shared out among the sinks of a lake.

    Numbers of the carbon topic are shared out, and hold for the commands and dead letters too:
    what belongs to one source partition is on one number in each topic, thus in one process.
    A share is given up only when its reader says, by `next`, that it writes nothing of it any
    more; until then the other sinks wait, but no longer than the group's rebalance time-out.
    """

    def __init__(self, cluster: Cluster, topics: Topics, *, session_timeout_s: float) -> None:
        if cluster.embedded:
            session_timeout_s = min(session_timeout_s, _EMBEDDED_SESSION_TIMEOUT_S)
        self._topic = topics.carbon
        self._options: dict[str, Any] = {
            **cluster.client_options(),
            "group_id": topics.sink_group,
            "enable_auto_commit": False,
            "auto_offset_reset": "latest",
            "partition_assignment_strategy": (RangePartitionAssignor,),
            "session_timeout_ms": int(session_timeout_s * 1000),
            "heartbeat_interval_ms": int(session_timeout_s * 1000 / 6),
            "rebalance_timeout_ms": int(session_timeout_s * 1000),
            "metadata_max_age_ms": _METADATA_AGE_MS,
        }
        self._numbers: frozenset[int] | None = None
        self._given_up = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def is_changing(self) -> bool:
        """Whether the share is to be given up, or is another one: call `next`."""
        return self._changed.is_set()

    async def join(self) -> None:
        """Become a member. Raises `KafkaError`."""
        self._consumer = AIOKafkaConsumer(**self._options)
        try:
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise
        self._consumer.subscribe([self._topic], listener=self)

    async def leave(self) -> None:
        """Give the share up at once, for the others to take. Nothing of it may be written."""
        self._given_up.set()
        await self._consumer.stop()

    async def next(self) -> frozenset[int]:
        """Give up what was shared out before and wait for what comes; it may be nothing."""
        while True:
            self._changed.clear()
            self._given_up.set()
            if self._numbers is not None:
                return self._numbers
            await self._changed.wait()

    async def stay(self) -> None:
        """Call it every few seconds: who does not for minutes is taken for stuck, and replaced.

        Raises `KafkaError` when this process may not be a member.
        """
        with suppress(TimeoutError):  # while partitions are shared out anew it would wait
            async with asyncio.timeout(_STAY_WAIT_S):
                await self._consumer.getmany(timeout_ms=0)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """The partitions are to be shared out anew; returns when the reader let go of its own."""
        self._numbers = None
        self._given_up.clear()
        self._changed.set()
        await self._given_up.wait()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """They are shared out."""
        self._consumer.pause(*assigned)  # read by another consumer, from the lake's positions
        self._numbers = frozenset(partition.partition for partition in assigned)
        log.info("this sink reads partitions %s", sorted(self._numbers) or "none: others have all")
        self._changed.set()
