"""The listener's positions and handlers, against a consumer that only remembers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from marlin.runtime.listener import REMEMBERED_RUNS, CommandListener
from marlin.schemas import Command, dump

TOPIC = "commands"


@dataclass
class FakeRecord:
    topic: str
    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = None


@dataclass
class FakeConsumer:
    """A log per partition; reads from where it was sought."""

    logs: dict[int, list[bytes | None]] = field(default_factory=dict[int, list[bytes | None]])
    keys: dict[int, list[bytes | None]] = field(default_factory=dict[int, list[bytes | None]])
    """Keys of the records; none where none is given."""
    positions: dict[int, int] = field(default_factory=dict[int, int])

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: len(self.logs.get(place.partition, [])) for place in places}

    def assign(self, places: list[TopicPartition]) -> None:
        self.positions = {place.partition: -1 for place in places}

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.positions[place.partition] = offset

    async def getmany(self, *, timeout_ms: int) -> dict[TopicPartition, list[FakeRecord]]:
        await asyncio.sleep(0)
        found: dict[TopicPartition, list[FakeRecord]] = {}
        for partition, start in self.positions.items():
            values = self.logs.get(partition, [])
            keys = self.keys.get(partition) or [None] * len(values)
            self.positions[partition] = len(values)
            if values[start:]:
                found[TopicPartition(TOPIC, partition)] = [
                    FakeRecord(TOPIC, partition, n, values[n], keys[n])
                    for n in range(start, len(values))
                ]
        return found


def command(run_id: str, number: int = 0) -> Command:
    return Command(
        command_id=f"{run_id}-{number}",
        run_id=run_id,
        action="abort",
        reason="operator",
        issued_at=datetime(2026, 3, 1, tzinfo=UTC),
    )


async def listen(listener: CommandListener, consumer: FakeConsumer) -> None:
    """Let it read all there is."""
    task = asyncio.create_task(listener.listen(cast(AIOKafkaConsumer, consumer)))
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def attach(
    listener: CommandListener, consumer: FakeConsumer, cluster_id: str = "one", partitions: int = 2
) -> None:
    await listener.attach(cast(AIOKafkaConsumer, consumer), TOPIC, partitions, cluster_id)


async def test_only_commands_after_connecting_reach_the_runs_they_are_for() -> None:
    listener, heard = CommandListener(), list[Command]()
    consumer = FakeConsumer({1: [dump(command("run-1", 0))]})
    await attach(listener, consumer)
    listener.register("run-1", heard.append)

    consumer.logs[1] += [dump(command("run-2")), dump(command("run-1", 1))]
    await listen(listener, consumer)

    assert heard == [command("run-1", 1)]


async def test_every_partition_is_read_whatever_runs_there_are_when_it_connects() -> None:
    listener, heard = CommandListener(), list[Command]()
    consumer = FakeConsumer()
    await attach(listener, consumer, partitions=3)
    for partition in range(3):
        consumer.logs[partition] = [dump(command("run-1", partition))]
    listener.register("run-1", heard.append)

    await listen(listener, consumer)

    assert heard == [command("run-1", partition) for partition in range(3)]


async def test_commands_with_the_key_of_others_are_not_even_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener, heard, consumer = CommandListener(), list[Command](), FakeConsumer()
    await attach(listener, consumer)
    listener.register("run-1", heard.append)
    consumer.logs[0] = [b"not json", dump(command("run-1", 1)), dump(command("run-1", 2))]
    consumer.keys[0] = [b"run-2", b"\xff", b"run-1"]

    with caplog.at_level(logging.WARNING, "marlin.runtime"):
        await listen(listener, consumer)

    assert heard == [command("run-1", 2)]
    assert caplog.messages == []


async def test_partitions_that_were_added_are_read_from_their_start() -> None:
    listener, heard = CommandListener(), list[Command]()
    logs: dict[int, list[bytes | None]] = {0: [b"{}"], 1: [dump(command("run-1"))]}
    await attach(listener, FakeConsumer(logs), partitions=1)
    listener.register("run-1", heard.append)

    second = FakeConsumer(logs)
    await attach(listener, second, partitions=2)
    await listen(listener, second)

    assert heard == [command("run-1")]


async def test_a_forked_childs_listener_tells_the_same_runs_from_where_it_connects() -> None:
    listener, heard = CommandListener(), list[Command]()
    consumer = FakeConsumer({0: [dump(command("run-1", 0))]})
    listener.register("run-1", heard.append)

    childs = listener.renewed()
    await attach(childs, consumer)
    consumer.logs[0].append(dump(command("run-1", 1)))
    await listen(childs, consumer)

    assert heard == [command("run-1", 1)]


async def test_a_new_connection_goes_on_where_the_last_one_was() -> None:
    listener, heard = CommandListener(), list[Command]()
    logs: dict[int, list[bytes | None]] = {0: []}
    first = FakeConsumer(logs)
    await attach(listener, first)
    listener.register("run-1", heard.append)
    logs[0].append(dump(command("run-1", 0)))
    await listen(listener, first)
    logs[0].append(dump(command("run-1", 1)))

    second = FakeConsumer(logs)
    await attach(listener, second)
    await listen(listener, second)

    assert heard == [command("run-1", 0), command("run-1", 1)]


async def test_on_another_cluster_it_reads_from_the_start() -> None:
    listener, heard = CommandListener(), list[Command]()
    first = FakeConsumer({0: [b"{}"] * 5})
    await attach(listener, first)
    listener.register("run-1", heard.append)

    second = FakeConsumer({0: [dump(command("run-1"))]})
    await attach(listener, second, "two")
    await listen(listener, second)

    assert heard == [command("run-1")]


@pytest.mark.parametrize("value", [None, b"", b"not json", b"[]", b'{"type": "command"}', b"\xff"])
async def test_what_is_no_command_is_logged_and_the_next_is_heard(
    value: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    listener, heard, consumer = CommandListener(), list[Command](), FakeConsumer()
    await attach(listener, consumer)
    listener.register("run-1", heard.append)
    consumer.logs[0] = [value, dump(command("run-1"))]

    with caplog.at_level(logging.WARNING, "marlin.runtime"):
        await listen(listener, consumer)

    assert heard == [command("run-1")]
    assert "command at commands-0-0 is not valid and ignored" in caplog.text


async def test_ended_runs_are_remembered_for_a_while() -> None:
    listener, consumer, heard = CommandListener(), FakeConsumer(), list[str]()

    def hear(got: Command) -> None:
        heard.append(got.run_id)

    await attach(listener, consumer)
    for number in range(REMEMBERED_RUNS + 1):
        listener.register(f"run-{number}", hear)
        listener.retire(f"run-{number}", hear)

    consumer.logs[0] = [dump(command("run-0")), dump(command("run-1"))]
    await listen(listener, consumer)

    assert heard == ["run-1"]


async def test_two_runs_under_one_id_are_both_told() -> None:
    listener, consumer = CommandListener(), FakeConsumer()
    first, second = list[Command](), list[Command]()
    await attach(listener, consumer)
    listener.register("run-1", first.append)
    listener.register("run-1", second.append)
    consumer.logs[0] = [dump(command("run-1"))]

    await listen(listener, consumer)

    assert first == second == [command("run-1")]
