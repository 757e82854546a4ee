"""The AsyncAPI document: whole, true to the topics, with examples that fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from validity import is_valid

from marlin.broker.cluster import DEAD_LETTER_HEADROOM_BYTES, GRID_COMPACTION_LAG_MS
from marlin.schemas.asyncapi import asyncapi_document
from marlin.schemas.generate import FAMILIES
from marlin.settings import KafkaSettings
from marlin.topics import GRID_PARTITIONS, Topics

DOCUMENT = asyncapi_document()


def references(node: Any) -> Iterator[str]:
    match node:
        case dict():
            for name, value in node.items():  # pyright: ignore[reportUnknownVariableType]
                if name == "$ref":
                    yield value
                else:
                    yield from references(value)
        case list():
            for value in node:  # pyright: ignore[reportUnknownVariableType]
                yield from references(value)
        case _:
            pass


def resolve(reference: str) -> Any:
    assert reference.startswith("#/")
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_every_reference_resolves() -> None:
    found = list(references(DOCUMENT))

    assert len(found) > 20
    for reference in found:
        assert resolve(reference)


def test_every_topic_but_the_internal_one_is_a_channel() -> None:
    topics = Topics()
    addresses = [channel["address"] for channel in DOCUMENT["channels"].values()]

    assert sorted(addresses) == sorted(set(topics.all()) - {topics.runs})


def test_kafka_bindings_are_the_topics_we_create() -> None:
    kafka = KafkaSettings()
    limits: dict[str, Any] = {}
    for channel in DOCUMENT["channels"].values():
        binding = channel["bindings"]["kafka"]
        assert binding["topic"] == channel["address"]
        alone = channel["address"] == Topics().grid
        assert binding["partitions"] == (GRID_PARTITIONS if alone else kafka.partitions)
        assert binding["replicas"] == kafka.replication_factor
        limits[channel["address"]] = binding.get("topicConfiguration")

    topics = Topics()
    assert limits == {
        topics.events: {"max.message.bytes": kafka.max_message_bytes},
        topics.carbon: None,
        topics.commands: None,
        topics.deadletter: {
            "max.message.bytes": kafka.max_message_bytes + DEAD_LETTER_HEADROOM_BYTES
        },
        topics.grid: {
            "cleanup.policy": ["compact"],
            "min.compaction.lag.ms": GRID_COMPACTION_LAG_MS,
            "message.timestamp.type": "LogAppendTime",
        },
    }


def test_the_worker_receives_events_and_sends_the_rest() -> None:
    actions = {
        operation["channel"]["$ref"].rpartition("/")[2]: operation["action"]
        for operation in DOCUMENT["operations"].values()
    }

    assert actions == {
        "events": "receive",
        "carbon": "send",
        "commands": "send",
        "deadletter": "send",
        "grid": "send",
    }


def test_operations_list_the_messages_of_their_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        channel = resolve(operation["channel"]["$ref"])
        listed = [resolve(message["$ref"]) for message in operation["messages"]]
        assert listed == list(channel["messages"].values())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_a_message_with_an_example_that_fits(family: str) -> None:
    messages = [m for m in DOCUMENT["components"]["messages"].values() if m["name"] == family]

    (message,) = messages
    assert message["bindings"]["kafka"]["key"]["type"] == "string"
    # The document is its own resolution scope, so a pointer into it stands for the payload.
    schema = {"$ref": message["payload"]["$ref"], "components": DOCUMENT["components"]}
    (example,) = message["examples"]
    assert example["payload"]["type"] == family
    assert is_valid(schema, example["payload"])
    assert not is_valid(schema, {**example["payload"], "surprise": 1})


def test_dead_letters_carry_bytes_and_headers() -> None:
    message = DOCUMENT["components"]["messages"]["deadLetter"]

    assert message["contentType"] == "application/octet-stream"
    (example,) = message["examples"]
    assert is_valid(resolve(message["headers"]["$ref"]), example["headers"])
