"""The AsyncAPI 3 document: topics, keys, partitions, and who sends what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from marlin import __version__
from marlin.broker.cluster import DEAD_LETTER_HEADROOM_BYTES, GRID_COMPACTION_LAG_MS
from marlin.schemas import examples
from marlin.schemas.base import Contract
from marlin.schemas.grid import GridRecord
from marlin.schemas.json_schema import as_json, header_example, header_schema, json_schema
from marlin.settings import KafkaSettings
from marlin.topics import GRID_PARTITIONS, Topics

__all__ = ["asyncapi_document"]

_KAFKA_BINDING = "0.5.0"

_PARTITIONS = (
    "Keyed by run_id (UTF-8) and partitioned by murmur2, Kafka's default: a run's records stay in "
    "order in one partition. Records derived from them go to the same partition number of their "
    "own topic, so every topic has as many partitions as the events topic."
)


@dataclass(frozen=True, slots=True)
class _Channel:
    """A topic, and an example of every record it carries. None: the dead letter."""

    name: str
    address: str
    description: str
    records: tuple[Contract | None, ...]
    topic_settings: dict[str, Any]
    partitions: int | None = None
    """Its own number; None: as many as the events topic, on which its runs are."""


def _channels() -> tuple[_Channel, ...]:
    topics, kafka = Topics(), KafkaSettings()
    return (
        _Channel(
            "events",
            topics.events,
            "A run's whole life as its runtime reports it. Anything else is dead-lettered.",
            (
                examples.USAGE,
                examples.RUN_STARTED,
                examples.RUN_FINISHED,
                examples.ABORT_ACKNOWLEDGED,
            ),
            {"max.message.bytes": kafka.max_message_bytes},
        ),
        _Channel(
            "carbon",
            topics.carbon,
            "One derived record per accepted event. At least once: within a source partition, a "
            "record whose source offset is not above the highest seen is a duplicate.",
            (examples.CARBON, examples.LIFECYCLE),
            {},
        ),
        _Channel(
            "commands",
            topics.commands,
            "What runtimes must do. At least once: keep the first of each command_id.",
            (examples.COMMAND,),
            {},
        ),
        _Channel(
            "deadletter",
            topics.deadletter,
            "Refused records: key and value as they were, the reason in the headers.",
            (None,),
            {"max.message.bytes": kafka.max_message_bytes + DEAD_LETTER_HEADROOM_BYTES},
        ),
        _Channel(
            "grid",
            topics.grid,
            "Carbon intensity by grid zone and hour, from whoever fetches it. At least once: keep "
            "the first of each zone, hour and revision. One partition, in the order told.",
            (examples.GRID,),
            {
                "cleanup.policy": ["compact"],
                "min.compaction.lag.ms": GRID_COMPACTION_LAG_MS,
                "message.timestamp.type": "LogAppendTime",
            },
            GRID_PARTITIONS,
        ),
    )


def asyncapi_document() -> dict[str, Any]:
    """The document, seen from the worker: it receives events and sends all the rest."""
    channels = _channels()
    messages = {
        _message_name(record): _message(record)
        for channel in channels
        for record in channel.records
    }
    return {
        "asyncapi": "3.0.0",
        "id": "urn:marlin:pipeline",
        "info": {
            "title": "Marlin",
            "version": __version__,
            "description": "Carbon metering and budgets for AI agents, over Kafka. " + _PARTITIONS,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {channel.name: _channel(channel) for channel in channels},
        "operations": {
            f"{_action(channel)}{channel.name.capitalize()}": {
                "action": _action(channel),
                "channel": {"$ref": f"#/channels/{channel.name}"},
                "messages": [
                    {"$ref": f"#/channels/{channel.name}/messages/{_message_name(record)}"}
                    for record in channel.records
                ],
            }
            for channel in channels
        },
        "components": {
            "messages": messages,
            "schemas": _schemas(channels),
            "securitySchemes": {
                "plain": {"type": "plain"},
                "scramSha256": {"type": "scramSha256"},
                "scramSha512": {"type": "scramSha512"},
            },
        },
    }


def _action(channel: _Channel) -> str:
    return "receive" if channel.name == "events" else "send"


def _servers() -> dict[str, Any]:
    variables = {"host": {"description": "host:port of a broker: MARLIN_KAFKA__BOOTSTRAP_SERVERS"}}
    server = {"host": "{host}", "variables": variables}
    schemes = ("plain", "scramSha256", "scramSha512")
    return {
        "kafka": {**server, "protocol": "kafka"},
        "kafka-secure": {
            **server,
            "protocol": "kafka-secure",
            "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in schemes],
        },
    }


def _channel(channel: _Channel) -> dict[str, Any]:
    kafka = KafkaSettings()
    binding: dict[str, Any] = {
        "topic": channel.address,
        "partitions": channel.partitions or kafka.partitions,
        "replicas": kafka.replication_factor,
        "bindingVersion": _KAFKA_BINDING,
    }
    if channel.topic_settings:
        binding["topicConfiguration"] = channel.topic_settings
    return {
        "address": channel.address,
        "description": f"{channel.description} {'' if channel.partitions else _PARTITIONS}".strip(),
        "messages": {
            name: {"$ref": f"#/components/messages/{name}"}
            for name in map(_message_name, channel.records)
        },
        "bindings": {"kafka": binding},
    }


def _message_name(record: Contract | None) -> str:
    if record is None:
        return "deadLetter"
    name = type(record).__name__
    return name[0].lower() + name[1:]


def _message(record: Contract | None) -> dict[str, Any]:
    told = "zone|hour|revision" if isinstance(record, GridRecord) else "run_id"
    key = {"type": "string", "description": f"{told}, UTF-8"}
    if record is None:
        return {
            "name": "deadletter",
            "summary": "A refused record.",
            "contentType": "application/octet-stream",
            "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
            "payload": {"description": "The refused value, byte for byte."},
            "bindings": {
                "kafka": {
                    "key": {"description": "The refused key, byte for byte."},
                    "bindingVersion": _KAFKA_BINDING,
                }
            },
            "examples": [
                {
                    "name": "negativeTokens",
                    "headers": header_example(examples.DEAD_LETTER),
                    "payload": {"type": "usage", "input_tokens": -1},
                }
            ],
        }
    payload = as_json(record)
    return {
        "name": payload["type"],
        "summary": (type(record).__doc__ or "").strip().splitlines()[0],
        "payload": {"$ref": f"#/components/schemas/{type(record).__name__}"},
        "bindings": {"kafka": {"key": key, "bindingVersion": _KAFKA_BINDING}},
        "examples": [{"name": _message_name(record), "payload": payload}],
    }


def _schemas(channels: tuple[_Channel, ...]) -> dict[str, Any]:
    schemas: dict[str, Any] = {"DeadLetterHeaders": header_schema()}
    for channel in channels:
        for record in channel.records:
            if record is not None:
                schema = json_schema(type(record), ref_template="#/components/schemas/{model}")
                schemas |= schema.pop("$defs", {})
                schemas[type(record).__name__] = schema
    return dict(sorted(schemas.items()))
