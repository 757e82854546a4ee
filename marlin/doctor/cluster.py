"""The cluster: topics, the workers' group, how far they are, and whether clocks agree."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from marlin.broker.cluster import Cluster
from marlin.broker.offsets import Offsets, log_bounds
from marlin.doctor.check import Check, counted, listed
from marlin.errors import BrokerError
from marlin.settings import Settings
from marlin.sinks.identity import Identity
from marlin.topics import Topics

__all__ = [
    "Group",
    "check_broker",
    "check_clock",
    "check_lag",
    "check_topics",
    "check_workers",
    "newest_record",
    "read_group",
]

_LOOK_AGAIN_S = 3.0
_LOG_APPEND_TIME = 1
_CLOCK_TOLERANCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Group:
    """The workers' consumer group."""

    state: str
    members: int
    ends: Offsets
    """Where the events topic ends, exclusive."""
    committed: Offsets
    """Where the workers go on."""
    moved: bool
    """Whether the workers committed something while they were looked at."""

    @property
    def lag(self) -> Offsets:
        """Events that no worker has committed, by partition; none where there are none."""
        behind = {tp: end - self.committed.get(tp, 0) for tp, end in self.ends.items()}
        return {tp: lag for tp, lag in behind.items() if lag > 0}


def check_broker(cluster: Cluster) -> Check:
    """The broker answered."""
    kind = "embedded: in memory, gone when it stops" if cluster.embedded else "a Kafka cluster"
    return Check(
        "broker",
        "ok",
        f"{cluster.bootstrap_servers} answers, cluster id {cluster.cluster_id} ({kind})",
    )


def check_topics(identity: Identity, topics: Topics) -> Check:
    """All topics are there, with equal numbers of partitions."""
    missing = [name for name in topics.all() if name not in identity.topics]
    if missing:
        return Check(
            "topics", "fail", f"missing: {listed(missing)}", "create them: `marlin topics create`"
        )
    counts = {name: len(identity.topics[name].partitions) for name in topics.by_run()}
    if len(set(counts.values())) > 1:
        return Check(
            "topics",
            "fail",
            "the topics differ in their number of partitions, so workers refuse to start",
            "see “More partitions” in docs/operations.md",
            tuple(f"{name}: {count}" for name, count in counts.items()),
        )
    return Check("topics", "ok", f"all there, {counted(counts[topics.events], 'partition')} each")


async def read_group(settings: Settings, cluster: Cluster, identity: Identity) -> Group:
    """Who works, and how far they are; looks a second time when they are behind.

    Raises `BrokerError`.
    """
    topics = Topics(settings.kafka.topic_prefix)
    events = [TopicPartition(topics.events, n) for n in identity.topics[topics.events].partitions]
    try:
        async with asyncio.timeout(settings.kafka.request_timeout_s + _LOOK_AGAIN_S):
            state, members = await _members(cluster, topics.group)
            committed = await _committed(cluster, topics.group, events)
            _, ends = await log_bounds(cluster, events)
            group = Group(state, members, ends, committed, moved=False)
            if not group.lag:
                return group
            await asyncio.sleep(max(_LOOK_AGAIN_S, settings.worker.commit_interval_s))
            later = await _committed(cluster, topics.group, events)
            return Group(state, members, ends, later, moved=later != committed)
    except (KafkaError, TimeoutError) as exc:
        raise BrokerError(f"the broker did not say how far the workers are: {exc!r}") from exc


async def _members(cluster: Cluster, group: str) -> tuple[str, int]:
    admin = AIOKafkaAdminClient(**cluster.client_options())
    try:
        await admin.start()
        (response,) = await admin.describe_consumer_groups([group])
        (described,) = response.to_object()["groups"]
        return described["state"], len(described["members"])
    finally:
        await admin.close()


async def _committed(cluster: Cluster, group: str, partitions: list[TopicPartition]) -> Offsets:
    # A consumer of the group that is assigned by hand reads its commits and joins nothing.
    consumer = AIOKafkaConsumer(
        **cluster.client_options(), group_id=group, enable_auto_commit=False
    )
    try:
        await consumer.start()
        return {tp: await consumer.committed(tp) or 0 for tp in partitions}
    finally:
        await consumer.stop()


def check_workers(group: Group) -> Check:
    """Somebody works."""
    if group.members:
        return Check(
            "workers", "ok", f"{counted(group.members, 'worker')} in the group ({group.state})"
        )
    waiting = sum(group.lag.values())
    if waiting:
        return Check(
            "workers",
            "fail",
            f"no worker runs, and {counted(waiting, 'event')} wait: no budget is enforced",
            "start one: `marlin worker` (or `marlin up`)",
        )
    return Check("workers", "warn", "no worker runs; no event waits", "start one: `marlin worker`")


def check_lag(group: Group) -> Check:
    """How far the workers are behind, and whether they move."""
    lag = group.lag
    details = tuple(
        f"{tp.topic}-{tp.partition}: at {group.committed.get(tp, 0)} of {group.ends[tp]}"
        for tp in sorted(lag)
    )
    if not lag:
        return Check("events lag", "ok", "every event is handled")
    text = f"{counted(sum(lag.values()), 'event')} behind on {counted(len(lag), 'partition')}"
    if group.moved:
        return Check("events lag", "ok", f"{text}, and moving", details=details)
    return Check(
        "events lag",
        "warn",
        f"{text}, and no worker commits",
        "look at the workers' logs; see “A worker that refuses” in docs/operations.md",
        details,
    )


async def newest_record(
    cluster: Cluster, bounds: tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]]
) -> Any:
    """The last record of some partition that has one, or None. Raises `BrokerError`."""
    begins, ends = bounds
    filled = [tp for tp, end in ends.items() if end > begins[tp]]
    if not filled:
        return None
    consumer = AIOKafkaConsumer(**cluster.client_options(), enable_auto_commit=False)
    try:
        async with asyncio.timeout(cluster.kafka.request_timeout_s):
            await consumer.start()
            consumer.assign(filled[:1])
            consumer.seek(filled[0], ends[filled[0]] - 1)
            return await consumer.getone(filled[0])
    except (KafkaError, TimeoutError) as exc:
        raise BrokerError(f"{filled[0].topic} could not be read: {exc!r}") from exc
    finally:
        await consumer.stop()


def check_clock(timestamp_ms: int | None, timestamp_type: int, now: datetime) -> Check:
    """Whether the newest record is from the future, which tells of clocks apart.

    Kafka keeps the time of the sender as a rule. Only topics with `LogAppendTime` tell the
    broker's, and even they tell only that this clock is behind, never that it is ahead.
    """
    if timestamp_ms is None:
        return Check("clock", "skip", "not compared: no record has a time yet")
    ahead_s = (datetime.fromtimestamp(timestamp_ms / 1000, UTC) - now).total_seconds()
    whose = "broker" if timestamp_type == _LOG_APPEND_TIME else "worker"
    if ahead_s > _CLOCK_TOLERANCE_S:
        return Check(
            "clock",
            "warn",
            f"the {whose}'s clock is {ahead_s:.1f} s ahead of this one, or more",
            "synchronise the clocks (NTP): run times and grid hours depend on them",
        )
    if timestamp_type == _LOG_APPEND_TIME:
        return Check("clock", "ok", "the broker's clock is not ahead of this one")
    return Check(
        "clock",
        "skip",
        "not compared with the broker's: the topics keep the senders' time "
        "(message.timestamp.type=CreateTime); the newest record is not from the future",
    )
