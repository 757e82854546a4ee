"""Commands in: one consumer per process that reads the commands of the runs it has."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from pydantic import ValidationError

from marlin.schemas import Command

__all__ = ["CommandHandler", "CommandListener"]

log = logging.getLogger("marlin.runtime")

REMEMBERED_RUNS = 1000
"""Finished runs whose late commands are still answered [count]."""

POLL_MS = 1000
"""Longest a poll waits before it looks at newly followed partitions [ms]."""

CommandHandler = Callable[[Command], None]


class CommandListener:
    """Hands the commands topic's records to the runs they are for.

    Without a consumer group: every process reads for itself, and starting to read takes one
    request. Only partitions that one of its runs has had are read, each from where it ended
    when the first of these runs began. Repeats are passed on; runs drop them by `command_id`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handlers: dict[str, list[CommandHandler]] = {}
        self._ended: deque[tuple[str, CommandHandler]] = deque()
        self._positions: dict[int, int] = {}
        """Next offset to read, by partition."""
        self._cluster_id: str | None = None
        self._topic = ""
        self._consumer: AIOKafkaConsumer | None = None

    def register(self, run_id: str, handler: CommandHandler) -> None:
        """Call `handler` with each command for `run_id`, in the link's thread."""
        with self._lock:
            self._handlers.setdefault(run_id, []).append(handler)

    def retire(self, run_id: str, handler: CommandHandler) -> None:
        """The run has ended: its handler is forgotten after `REMEMBERED_RUNS` others ended."""
        with self._lock:
            self._ended.append((run_id, handler))
            while len(self._ended) > REMEMBERED_RUNS:
                self._forget(*self._ended.popleft())

    def attach(self, consumer: AIOKafkaConsumer, topic: str, cluster_id: str) -> None:
        """Read by `consumer` from now on, a started one; continues where the last one was.

        On another cluster the positions mean nothing: what it holds is then read from the start.
        """
        if cluster_id != self._cluster_id:
            self._positions = dict.fromkeys(self._positions, 0)
        self._cluster_id, self._topic, self._consumer = cluster_id, topic, consumer
        self._assign(consumer)

    async def follow(self, partition: int) -> None:
        """See to it that commands sent to `partition` after this returns are read."""
        consumer = self._consumer
        if consumer is None or partition in self._positions:
            return
        at = TopicPartition(self._topic, partition)
        ends: dict[TopicPartition, int] = await consumer.end_offsets([at])
        self._positions[partition] = ends[at]
        self._assign(consumer)

    async def listen(self, consumer: AIOKafkaConsumer) -> None:
        """Pass on commands until cancelled. Raises aiokafka's error when the cluster refuses."""
        while True:
            batches = await consumer.getmany(timeout_ms=POLL_MS)
            for at, records in batches.items():
                self._positions[at.partition] = records[-1].offset + 1
                for record in records:
                    self._pass_on(record)

    def _assign(self, consumer: AIOKafkaConsumer) -> None:
        # Assigning forgets positions; both happen before the loop gets back to fetching.
        places = {TopicPartition(self._topic, p): at for p, at in self._positions.items()}
        if not places:
            return
        consumer.assign(list(places))
        for place, offset in places.items():
            consumer.seek(place, offset)

    def _pass_on(self, record: ConsumerRecord[bytes | None, bytes | None]) -> None:
        try:
            command = Command.model_validate_json(record.value or b"")
        except ValidationError as exc:
            log.warning(
                "command at %s-%d-%d is not valid and ignored: %s",
                *(record.topic, record.partition, record.offset, exc),
            )
            return
        with self._lock:
            handlers = list(self._handlers.get(command.run_id, ()))
        for handler in handlers:
            handler(command)

    def _forget(self, run_id: str, handler: CommandHandler) -> None:
        handlers = self._handlers[run_id]
        handlers.remove(handler)
        if not handlers:
            del self._handlers[run_id]
