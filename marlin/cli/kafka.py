"""What the commands ask a cluster: which topics it has, and how far the workers are."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from marlin.broker.cluster import connect
from marlin.broker.offsets import Offsets, read_ends
from marlin.errors import BrokerError
from marlin.settings import Settings
from marlin.topics import Topics

__all__ = ["EventsLag", "Offsets", "existing_partitions"]

_FETCH_WAIT_MS = 20


async def existing_partitions(settings: Settings) -> dict[str, int]:
    """Marlin's topics that exist, with their numbers of partitions. Creates nothing.

    Raises `ConfigurationError` without a cluster, `BrokerError` when it does not answer.
    """
    cluster = await connect(settings)
    admin = AIOKafkaAdminClient(**cluster.client_options())
    try:
        await admin.start()
        # Asking for a topic that is missing makes some brokers create it.
        wanted = Topics(settings.kafka.topic_prefix).all()
        present = set(await admin.list_topics()) & set(wanted)
        described = await admin.describe_topics(sorted(present)) if present else []
        return {topic["topic"]: len(topic["partitions"]) for topic in described}
    except KafkaError as exc:
        raise BrokerError(f"Kafka at {cluster.bootstrap_servers} did not answer: {exc}") from exc
    finally:
        await admin.close()


class EventsLag:
    """How many events the workers have yet to finish, asked from outside their group."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = Topics(settings.kafka.topic_prefix)

    async def __aenter__(self) -> Self:
        cluster = await connect(self._settings)
        partitions = (await existing_partitions(self._settings)).get(self._topics.events, 0)
        self._partitions = [TopicPartition(self._topics.events, n) for n in range(partitions)]
        # The workers' group, but assigned by hand: it reads their commits and joins nothing.
        self._consumer = AIOKafkaConsumer(
            **cluster.client_options(),
            group_id=self._topics.group,
            enable_auto_commit=False,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )
        await self._consumer.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._consumer.stop()

    async def ends(self) -> Offsets:
        """Where the events topic ends now, exclusive. Raises `BrokerError`."""
        try:
            async with asyncio.timeout(self._settings.kafka.request_timeout_s):
                return await read_ends(self._consumer, self._partitions)
        except (KafkaError, TimeoutError) as exc:
            raise BrokerError(f"the broker did not say where its topics end: {exc}") from exc

    async def behind(self, ends: Offsets) -> int:
        """How many events before `ends` no worker has committed. Raises `BrokerError`."""
        try:
            async with asyncio.timeout(self._settings.kafka.request_timeout_s):
                done = {tp: await self._consumer.committed(tp) or 0 for tp in ends}
        except (KafkaError, TimeoutError) as exc:
            raise BrokerError(f"the broker did not say how far the workers are: {exc}") from exc
        return sum(max(0, end - done[tp]) for tp, end in ends.items())
