"""Which cluster and which topics these are: ids that change when something is recreated.

aiokafka asks for metadata up to version 5, which knows no topic ids (version 10, KIP-516), so the
request is declared here.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from marlin.broker.cluster import Cluster
from marlin.errors import BrokerError

__all__ = ["Identity", "TopicIdentity", "identify", "identity_of"]

_NO_ID = uuid.UUID(int=0)


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """A topic as it exists now."""

    topic_id: str | None
    """Changes when the topic is deleted and created again; None where the broker has no ids."""
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """A cluster and those of the asked topics that exist."""

    cluster_id: str
    topics: dict[str, TopicIdentity] = field(default_factory=dict[str, TopicIdentity])

    def is_same_logs(self, other: Identity) -> bool:
        """Whether offsets of one mean the same in the other; they may differ in partitions."""
        return self.cluster_id == other.cluster_id and all(
            self.topics[topic].topic_id == other.topics[topic].topic_id
            for topic in self.topics.keys() & other.topics.keys()
        )


class _Uuid(AbstractType[uuid.UUID]):
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestV10(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", _Uuid),
                ("topic", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[MetadataRequest_v5 | _MetadataRequestV10]):
    """Metadata of all topics: some brokers create a topic that is asked for by name."""

    API_KEY = 3

    def build(self, request_struct_class: type[RequestStruct]) -> Any:
        if request_struct_class is _MetadataRequestV10:
            return request_struct_class(None, False, False, False, {})
        return request_struct_class(None, False)


async def identify(cluster: Cluster, client: AIOKafkaClient, topics: Iterable[str]) -> Identity:
    """Ask the cluster who it is and which of `topics` it has, without creating any.

    `client` must have been bootstrapped. Brokers older than Apache Kafka 2.8 tell no topic ids.
    Raises `BrokerError` when nobody answers.
    """
    try:
        response: Any = await client.send(client.get_random_node(), _MetadataRequest())
    except KafkaError as exc:
        raise BrokerError(
            f"Kafka at {cluster.bootstrap_servers} did not say its topics: {exc!r}"
        ) from exc
    told: dict[str, Any] = response.to_object()
    wanted = set(topics)
    found: dict[str, TopicIdentity] = {}
    for topic in told["topics"]:
        if topic["topic"] in wanted and not topic["error_code"]:
            topic_id = topic.get("topic_id", _NO_ID)
            numbers = sorted(partition["partition"] for partition in topic["partitions"])
            found[topic["topic"]] = TopicIdentity(
                None if topic_id == _NO_ID else str(topic_id), tuple(numbers)
            )
    return Identity(told["cluster_id"] or cluster.cluster_id, found)


async def identity_of(cluster: Cluster, topics: Iterable[str]) -> Identity:
    """As `identify`, with a connection of its own. Raises `BrokerError` when nobody answers."""
    client = AIOKafkaClient(**cluster.client_options())
    try:
        await client.bootstrap()
        return await identify(cluster, client, topics)
    except KafkaError as exc:
        raise BrokerError(f"Kafka at {cluster.bootstrap_servers} went away: {exc!r}") from exc
    finally:
        await client.close()
