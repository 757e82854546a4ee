"""Reaching a Kafka cluster: address, security, identity, topics."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code
from aiokafka.helpers import create_ssl_context

from marlin.broker.embedded import CLUSTER_ID_PREFIX
from marlin.broker.running import find_running
from marlin.errors import BrokerError, ConfigurationError
from marlin.settings import KafkaSettings, Settings
from marlin.topics import GRID_PARTITIONS, Topics

__all__ = ["Cluster", "connect", "create_topics", "resolve_bootstrap"]

_TOPIC_EXISTS = 36  # Kafka protocol error code TOPIC_ALREADY_EXISTS

DEAD_LETTER_HEADROOM_BYTES = 64 * 1024
"""What a dead letter's headers may add to the largest event [bytes]."""


GRID_COMPACTION_LAG_MS = 31 * 86_400_000
"""Records of the grid topic stay as they are for so long [ms]: longer than events are kept."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that answered."""

    bootstrap_servers: str
    cluster_id: str
    kafka: KafkaSettings = field(repr=False)

    @property
    def embedded(self) -> bool:
        """Whether this is an embedded broker: in memory, offsets restart at 0."""
        return self.cluster_id.startswith(CLUSTER_ID_PREFIX)

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments for any aiokafka client: address, security, time-out."""
        return _client_options(self.kafka, self.bootstrap_servers)

    def producer_options(self) -> dict[str, Any]:
        """Keyword arguments for a producer that neither loses nor reorders.

        On Apache Kafka it is idempotent: a failed batch fails those after it, so a partition
        never has a hole. The embedded broker has no producer ids; there, one request at a time
        keeps the order and a failure stops the process.
        """
        return {
            **self.client_options(),
            "acks": "all",
            "enable_idempotence": not self.embedded,
            "max_request_size": self.kafka.max_message_bytes + 2 * DEAD_LETTER_HEADROOM_BYTES,
        }


def resolve_bootstrap(settings: Settings) -> str | None:
    """The brokers' address: the setting, else that of a running `marlin up`, else None."""
    if settings.kafka.bootstrap_servers:
        return settings.kafka.bootstrap_servers
    running = find_running(settings.home_dir)
    return running.bootstrap_servers if running else None


async def connect(settings: Settings) -> Cluster:
    """Reach the cluster and learn its id.

    Raises `ConfigurationError` when no cluster is configured or running, `BrokerError` when it
    does not answer.
    """
    bootstrap = _required_bootstrap(settings)
    admin = await _admin(settings, bootstrap)
    try:
        described = await admin.describe_cluster()
    except KafkaError as exc:
        raise BrokerError(f"Kafka at {bootstrap} did not say its cluster id: {exc}") from exc
    finally:
        await admin.close()
    return Cluster(bootstrap, described["cluster_id"] or "unknown", settings.kafka)


async def create_topics(settings: Settings) -> dict[str, int]:
    """Create the topics that are missing; returns the partitions of each.

    Topics that exist are left as they are. Raises `ConfigurationError` when they differ in
    their number of partitions: a run's records keep their partition number from topic to topic.
    The grid topic, which is no run's, has one.
    """
    bootstrap = _required_bootstrap(settings)
    topics = Topics(settings.kafka.topic_prefix)
    admin = await _admin(settings, bootstrap)
    try:
        existing = await _partitions(admin, topics)
        partitions = existing.get(topics.events, settings.kafka.partitions)
        missing = [name for name in topics.all() if name not in existing]
        if missing:
            response = await admin.create_topics(
                [_new_topic(name, topics, partitions, settings.kafka) for name in missing]
            )
            for name, code, message in response.topic_errors:
                if code not in (0, _TOPIC_EXISTS):
                    raise BrokerError(f"topic {name} was not created: {for_code(code)} {message}")
        found = {name: _count(name, topics, partitions) for name in missing} | existing
    except KafkaError as exc:
        raise BrokerError(f"creating topics on {bootstrap} failed: {exc}") from exc
    finally:
        await admin.close()
    _check_equal_partitions(found, topics)
    return found


def _check_equal_partitions(found: dict[str, int], topics: Topics) -> None:
    by_run = {name: found[name] for name in topics.by_run()}
    if len(set(by_run.values())) > 1:
        counts = ", ".join(f"{name}: {count}" for name, count in by_run.items())
        raise ConfigurationError(
            f"the topics must have as many partitions as {topics.events}, found {counts}; "
            "recreate the others, nothing was started"
        )


async def _partitions(admin: AIOKafkaAdminClient, topics: Topics) -> dict[str, int]:
    # Only those that exist: asking for a missing topic makes some brokers create it.
    present = set(await admin.list_topics()) & set(topics.all())
    described = await admin.describe_topics(sorted(present)) if present else []
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in described
        if not topic["error_code"] and topic["partitions"]
    }


def _count(name: str, topics: Topics, partitions: int) -> int:
    return GRID_PARTITIONS if name == topics.grid else partitions


def _new_topic(name: str, topics: Topics, partitions: int, kafka: KafkaSettings) -> NewTopic:
    configs: dict[str, str] = {}
    if name == topics.runs:
        configs["cleanup.policy"] = "compact"
    elif name == topics.events:
        configs["max.message.bytes"] = str(kafka.max_message_bytes)
    elif name == topics.deadletter:
        configs["max.message.bytes"] = str(kafka.max_message_bytes + DEAD_LETTER_HEADROOM_BYTES)
    elif name == topics.grid:
        configs["cleanup.policy"] = "compact"
        # What an event may use depends on when a value was told: by one clock, the broker's, and
        # as long as an event of that time may be read again.
        configs["message.timestamp.type"] = "LogAppendTime"
        configs["min.compaction.lag.ms"] = str(GRID_COMPACTION_LAG_MS)
    count = _count(name, topics, partitions)
    return NewTopic(name, count, kafka.replication_factor, topic_configs=configs)


def _required_bootstrap(settings: Settings) -> str:
    bootstrap = resolve_bootstrap(settings)
    if bootstrap is None:
        raise ConfigurationError(
            "no Kafka cluster: start one with `marlin up`, or set "
            "MARLIN_KAFKA__BOOTSTRAP_SERVERS to host:port"
        )
    return bootstrap


async def _admin(settings: Settings, bootstrap: str) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(**_client_options(settings.kafka, bootstrap))
    try:
        await admin.start()
    except KafkaError as exc:
        await admin.close()
        raise BrokerError(
            f"Kafka at {bootstrap} cannot be reached: {exc}; is it running, and are the "
            "MARLIN_KAFKA__ security settings right?"
        ) from exc
    return admin


def _client_options(kafka: KafkaSettings, bootstrap: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": bootstrap,
        "security_protocol": kafka.security_protocol,
        "request_timeout_ms": int(kafka.request_timeout_s * 1000),
    }
    if kafka.security_protocol.startswith("SASL"):
        if kafka.sasl_username is None or kafka.sasl_password is None:
            raise ConfigurationError(
                f"security_protocol {kafka.security_protocol} needs "
                "MARLIN_KAFKA__SASL_USERNAME and MARLIN_KAFKA__SASL_PASSWORD"
            )
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value(),
        }
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(kafka)
    return options


def _ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    password = kafka.ssl_keyfile_password
    context: ssl.SSLContext = create_ssl_context(
        cafile=str(kafka.ssl_cafile) if kafka.ssl_cafile else None,
        certfile=str(kafka.ssl_certfile) if kafka.ssl_certfile else None,
        keyfile=str(kafka.ssl_keyfile) if kafka.ssl_keyfile else None,
        password=password.get_secret_value() if password else None,
    )
    return context
