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
"""How long a poll waits for a command [ms]; one that comes ends it at once."""

CommandHandler = Callable[[Command], None]


class CommandListener:
    """Hands the commands topic's records to the runs they are for.

    Without a consumer group: every process reads for itself, all partitions, from where they
    ended when it connected. To take up a partition only when a run needs it would cost that run
    its milliseconds: a broker answers a connection's requests one after the other, so the new
    fetch would wait behind the one under way. Commands for the runs of others are told by their
    key and dropped unread. Repeats are passed on; runs drop them by `command_id`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handlers: dict[str, list[CommandHandler]] = {}
        self._ended: deque[tuple[str, CommandHandler]] = deque()
        self._positions: dict[int, int] = {}
        """Next offset to read, by partition."""
        self._cluster_id: str | None = None

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

    def renewed(self) -> CommandListener:
        """One for the same runs in a forked child; it has yet to be attached."""
        listener = CommandListener()
        listener._handlers = {run_id: list(some) for run_id, some in self._handlers.items()}
        listener._ended = deque(self._ended)
        return listener

    async def attach(
        self, consumer: AIOKafkaConsumer, topic: str, partitions: int, cluster_id: str
    ) -> None:
        """Read by `consumer` from now on, a started one; continues where the last one was.

        Commands sent after this returns are read. On another cluster the positions mean nothing:
        what it holds is then read from the start.
        """
        places = [TopicPartition(topic, number) for number in range(partitions)]
        if self._cluster_id is None:
            ends: dict[TopicPartition, int] = await consumer.end_offsets(places)
            self._positions = {place.partition: ends[place] for place in places}
        elif cluster_id != self._cluster_id:
            self._positions = {}
        self._cluster_id = cluster_id
        # Assigning forgets positions; both happen before the loop gets to fetching.
        consumer.assign(places)
        for place in places:
            consumer.seek(place, self._positions.get(place.partition, 0))

    async def listen(self, consumer: AIOKafkaConsumer) -> None:
        """Pass on commands until cancelled. Raises aiokafka's error when the cluster refuses."""
        while True:
            batches = await consumer.getmany(timeout_ms=POLL_MS)
            for at, records in batches.items():
                self._positions[at.partition] = records[-1].offset + 1
                for record in records:
                    self._pass_on(record)

    def _pass_on(self, record: ConsumerRecord[bytes | None, bytes | None]) -> None:
        with self._lock:
            # A record without a key may be for anyone.
            if record.key and record.key.decode(errors="replace") not in self._handlers:
                return
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
