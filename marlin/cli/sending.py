"""Sending many messages fast: record batches per partition, filled here and acknowledged whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata

from marlin.broker.cluster import Cluster, create_topics
from marlin.errors import BrokerError
from marlin.replay import Message
from marlin.settings import Settings
from marlin.topics import Topics

if TYPE_CHECKING:
    from aiokafka import BatchBuilder  # not exported when running

__all__ = ["Acknowledged", "Sender"]

_BATCH_BYTES = 256 * 1024
_BATCHES_ON_THEIR_WAY = 32
"""Bounds the memory: more are not filled before some are acknowledged."""

_LAST_WAIT_S = 2.0


@dataclass(slots=True)
class Acknowledged:
    """What the broker has confirmed."""

    messages: int = 0
    usages: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0

    def add(self, other: Acknowledged) -> None:
        """Count what `other` counted, too."""
        self.messages += other.messages
        self.usages += other.usages
        self.input_tokens += other.input_tokens
        self.cache_read_tokens += other.cache_read_tokens
        self.cache_write_tokens += other.cache_write_tokens
        self.output_tokens += other.output_tokens

    def count(self, message: Message) -> None:
        """Count one message."""
        self.messages += 1
        if message.tokens is not None:
            input_tokens, cache_reads, cache_writes, output_tokens = message.tokens
            self.usages += 1
            self.input_tokens += input_tokens
            self.cache_read_tokens += cache_reads
            self.cache_write_tokens += cache_writes
            self.output_tokens += output_tokens


class _Filling:
    """A batch being filled, and what is in it."""

    __slots__ = ("batch", "content")

    def __init__(self, batch: BatchBuilder) -> None:
        self.batch = batch
        self.content = Acknowledged()

    def add(self, key: bytes, message: Message) -> bool:
        if self.batch.append(timestamp=None, key=key, value=message.value) is None:
            return False
        self.content.count(message)
        return True


class Sender:
    """Sends messages to the events topic in the order given per run.

    `acknowledged` counts what the broker has confirmed. Creates missing topics on entry. What was
    added is only sure to arrive after a `flush`. Every method raises `BrokerError` once the
    broker has refused something for good.
    """

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings = settings
        self._topic = Topics(settings.kafka.topic_prefix).events
        self._producer = AIOKafkaProducer(
            **cluster.producer_options(), linger_ms=0, max_batch_size=_BATCH_BYTES
        )
        self._filling: dict[int, _Filling] = {}
        self._full: deque[tuple[int, _Filling]] = deque()
        self._on_their_way: set[asyncio.Future[RecordMetadata]] = set()
        self._room = asyncio.Semaphore(_BATCHES_ON_THEIR_WAY)
        self._failure: BaseException | None = None
        self.acknowledged = Acknowledged()

    async def __aenter__(self) -> Self:
        partitions = (await create_topics(self._settings))[self._topic]
        numbers = list(range(partitions))
        partition_of = DefaultPartitioner()

        @lru_cache(maxsize=65_536)
        def route(run_id: str) -> tuple[bytes, int]:
            key = run_id.encode()
            return key, partition_of(key, numbers, numbers)

        self._route = route
        await self._producer.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # It waits for what is on its way; after an error there may be nobody to answer.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WAIT_S if exc_type else None):
                await self._producer.stop()

    def add(self, message: Message) -> bool:
        """Take `message`; it leaves when its batch is full or at the next `push`.

        False: nothing more may be added before `make_room`. Not a coroutine, for speed.
        """
        key, partition = self._route(message.run_id)
        filling = self._filling.get(partition)
        if filling is None:
            filling = self._filling[partition] = _Filling(self._producer.create_batch())
        if filling.add(key, message):
            return True
        self._full.append((partition, filling))
        # A batch takes its first record whatever its size.
        filling = self._filling[partition] = _Filling(self._producer.create_batch())
        filling.add(key, message)
        return False

    async def make_room(self) -> None:
        """Let full batches leave; waits while too many are on their way."""
        while self._full:
            await self._send(*self._full.popleft())

    async def push(self) -> None:
        """Let everything that was added leave now."""
        self._full.extend(self._filling.items())
        self._filling.clear()
        await self.make_room()

    async def flush(self, *, timeout_s: float | None = None) -> None:
        """`push`, and wait until everything is acknowledged, at most `timeout_s` [s]."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.push()
                while self._on_their_way and self._failure is None:
                    await asyncio.wait(self._on_their_way, return_when=asyncio.FIRST_EXCEPTION)
        except TimeoutError as exc:
            self._failure = exc
        self._check()

    async def _send(self, partition: int, filled: _Filling) -> None:
        await self._room.acquire()
        self._check()
        try:
            sent = await self._producer.send_batch(filled.batch, self._topic, partition=partition)
        except KafkaError as exc:
            self._failure = exc
            self._check()
            raise
        self._on_their_way.add(sent)

        def acknowledge(future: asyncio.Future[RecordMetadata]) -> None:
            self._on_their_way.discard(future)
            self._room.release()
            if future.cancelled():
                return
            failure = future.exception()
            if failure is None:
                self.acknowledged.add(filled.content)
            elif self._failure is None:
                self._failure = failure

        sent.add_done_callback(acknowledge)

    def _check(self) -> None:
        if self._failure is not None:
            raise BrokerError(
                f"the broker refused events after {self.acknowledged.messages:,} were "
                f"acknowledged: {self._failure!r}; what was not acknowledged may be missing"
            ) from self._failure
