"""Reading the carbon, commands, dead-letter and grid topics into a sink.

A DuckDB file is owned by one process, so that reads every partition, from the positions in the
database, and there is no consumer group. A lake may have several sinks: they share the partitions
(`marlin.sinks.share`), and whoever is given some reads on from the positions in the lake.

While one batch is written the next one is read, and no more: what is
in memory is bounded by two batches, and a slow disk slows the reading down.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from marlin.broker.cluster import Cluster
from marlin.broker.offsets import log_bounds
from marlin.errors import BrokerError, SinkConflictError
from marlin.settings import Settings, SinkSettings
from marlin.sinks.batch import Applied, Batch, TopicPartition
from marlin.sinks.decode import Record, decode
from marlin.sinks.duckdb_sink import SinkOutOfMemoryError
from marlin.sinks.identity import Identity, identify
from marlin.sinks.share import Share
from marlin.sinks.sink import Sink
from marlin.topics import Topics

__all__ = ["MAX_BATCH_BYTES", "SinkConsumer"]

log = logging.getLogger(__name__)

MAX_BATCH_BYTES = 128 * 1024 * 1024
"""A batch ends at this size even with few records: dead letters may be megabytes each."""

_FETCH_WAIT_MS = 50
"""Longest the broker holds an empty fetch: some brokers do not wake it when records come."""

_PARTITION_FETCH_BYTES = 4 * 1024 * 1024
_WRITING_POLL_S = 0.02
_IDENTIFY_EVERY_S = 5.0
_TOPICS_WAIT_S = 0.5
_DRAIN_IDLE_S = 10.0
_END_OFFSETS_WAIT_S = 10.0
_MEMORY_TRIES = 6
_BIND_TRIES = 12
_BIND_PAUSE_MAX_S = 2.0


class SinkConsumer:
    """Reads into `sink` until told to stop. One `run` at a time.

    `on_memory` is called when DuckDB has no memory for a batch, before it is tried again.
    `shared`: other processes write to the same storage; read a share of the partitions only.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        sink: Sink,
        *,
        on_memory: Callable[[], None] = lambda: None,
        shared: bool = False,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._sink = sink
        self._on_memory = on_memory
        self._topics = Topics(settings.kafka.topic_prefix)
        topics = self._topics
        self._read = (topics.carbon, topics.commands, topics.deadletter, topics.grid)
        # Clusters of before have no grid topic; it is read from when it comes.
        self._needed = {topics.events, *self._read} - {topics.grid}
        self._identity = Identity(cluster.cluster_id)
        self._identified_s = 0.0
        self._writing: asyncio.Task[Applied] | None = None
        self._share = self._new_share() if shared else None
        self._numbers: frozenset[int] = frozenset()
        self.conflicts = 0
        """Batches that another sink was faster with; they were read again where still ours."""
        self.total = Applied()
        """What was taken in since the start."""

    async def run(
        self, stop: asyncio.Event, *, drain: bool = True, ready: asyncio.Event | None = None
    ) -> None:
        """Read until `stop`; then, with `drain`, up to the ends the topics had at that moment.

        Sets `ready` when reading begins. Everything read is stored when it returns. Raises
        `SinkError` when the sink refuses a batch, `BrokerError` when the cluster is not there at
        the start; one that goes away later is waited for.
        """
        self._client = AIOKafkaClient(**self._cluster.client_options())
        self._consumer = AIOKafkaConsumer(
            **self._cluster.client_options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
        )
        try:
            await self._client.bootstrap()
            await self._consumer.start()
            if await self._wait_for_topics(stop) and await self._start_reading(stop):
                if ready:
                    ready.set()
                await self._read_until(stop)
                if drain:
                    await self._drain()
            await self._written()
        except KafkaError as exc:
            raise BrokerError(
                f"reading from Kafka at {self._cluster.bootstrap_servers} failed: {exc!r}; what "
                "was stored stays, reading goes on from there at the next start"
            ) from exc
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._writing:
            with suppress(Exception):  # told by run() already, or cancelled with it
                await self._writing
        if self._share:
            await self._share.leave()
        await self._consumer.stop()
        await self._client.close()

    async def _wait_for_topics(self, stop: asyncio.Event) -> bool:
        """Until the topics exist; False when stopped before."""
        wanted = {self._topics.events, *self._read}
        told = False
        while True:
            self._identity = await identify(self._cluster, self._client, wanted)
            self._identified_s = time.monotonic()
            missing = self._needed - self._identity.topics.keys()
            if not missing:
                return True
            if not told:
                log.warning("waiting for topics %s: `marlin topics create`", sorted(missing))
                told = True
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _TOPICS_WAIT_S)
            if stop.is_set():
                return False

    def _new_share(self) -> Share:
        timeout_s = self._settings.sink.session_timeout_s
        return Share(self._cluster, self._topics, session_timeout_s=timeout_s)

    async def _start_reading(self, stop: asyncio.Event) -> bool:
        """Begin, with a share where partitions are shared; False when stopped before."""
        if self._share:
            await self._share.join()
            return await self._begin_next_share(stop)
        await self._begin()
        return True

    async def _begin_next_share(self, stop: asyncio.Event | None) -> bool:
        """Store what is being written, give the partitions up, and begin with those that come.

        False when none came for a while after `stop` (None: it is set). What was read and is not
        being written is dropped: whoever gets the partition reads it again.
        """
        await self._written()
        self._consumer.assign([])
        if not await self._next_share(stop):
            return False
        await self._begin()
        return True

    async def _next_share(self, stop: asyncio.Event | None) -> bool:
        assert self._share is not None
        following = asyncio.ensure_future(self._share.next())
        stopping = asyncio.ensure_future(stop.wait()) if stop else None
        try:
            if stopping:
                await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({following}, timeout=_DRAIN_IDLE_S)
            if following.done():
                self._numbers = following.result()
            return following.done()
        finally:
            following.cancel()
            if stopping:
                stopping.cancel()

    async def _begin(self) -> None:
        """Start reading the topics as they are now, where the sink left them."""
        await self._assign(await self._bind())

    async def _bind(self) -> dict[TopicPartition, int]:
        for pause_s in (min(0.05 * 2**tried, _BIND_PAUSE_MAX_S) for tried in range(_BIND_TRIES)):
            try:
                return await asyncio.to_thread(self._sink.bind, self._identity)
            except SinkConflictError as exc:
                log.info("%s; binding again", exc)
                await asyncio.sleep(random.uniform(0, pause_s))
        return await asyncio.to_thread(self._sink.bind, self._identity)

    def _is_mine(self, number: int) -> bool:
        """Whether to read that partition of each topic. All topics should have as many; where
        one has more, those of it go to whoever has the number they are congruent to."""
        if self._share is None:
            return True
        shared_out = len(self._identity.topics[self._topics.carbon].partitions)
        return number % shared_out in self._numbers

    async def _assign(self, positions: dict[TopicPartition, int]) -> None:
        partitions = [
            KafkaPartition(topic, number)
            for topic in self._read
            if topic in self._identity.topics
            for number in self._identity.topics[topic].partitions
            if self._is_mine(number)
        ]
        if not partitions:
            self._consumer.assign([])  # other sinks have them all
            return
        begins, ends = await log_bounds(self._cluster, partitions)
        self._consumer.assign(partitions)
        for partition in partitions:
            known = positions.get(TopicPartition(partition.topic, partition.partition))
            begin, end = begins[partition], ends[partition]
            self._consumer.seek(partition, _start(partition, known, begin, end))

    async def _read_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._take(await self._collect(stop))
            if self._is_share_changing() and not await self._begin_next_share(stop):
                return
            if time.monotonic() - self._identified_s >= _IDENTIFY_EVERY_S:
                await self._follow_changes()

    def _is_share_changing(self) -> bool:
        return self._share is not None and self._share.is_changing

    async def _drain(self) -> None:
        """Read up to the ends as they are now; gives up when nothing comes any more.

        Partitions that go to another sink meanwhile are left to that one.
        """
        partitions = list(self._consumer.assignment())
        if not partitions:
            return
        try:
            _, ends = await asyncio.wait_for(
                log_bounds(self._cluster, partitions), _END_OFFSETS_WAIT_S
            )
        except (BrokerError, KafkaError, TimeoutError) as exc:
            log.warning("the broker is gone (%r): stopping with what was read", exc)
            return
        idle_since = time.monotonic()
        while behind := await self._behind(ends):
            chunks = await self._collect(None)
            await self._take(chunks)
            if self._is_share_changing() and not await self._begin_next_share(None):
                return
            if chunks:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > _DRAIN_IDLE_S:
                log.warning("stopping before the end of %s: nothing comes", behind)
                return

    async def _behind(self, ends: dict[KafkaPartition, int]) -> list[KafkaPartition]:
        """Which partitions are still to be read up to `ends`; none when all of it is stored."""
        while True:
            held = self._consumer.assignment() & ends.keys()
            behind = [tp for tp in held if await self._position(tp) < ends[tp]]
            if behind or await self._written():
                return behind
            await self._begin()

    async def _position(self, partition: KafkaPartition) -> int:
        position: int = await self._consumer.position(partition)
        return position

    async def _collect(self, stop: asyncio.Event | None) -> list[Sequence[Record]]:
        """Records of about one batch: full, or as old as a record may get. Empty when idle.

        While the batch before is still being written, this one goes on growing: the busier the
        sink, the larger its batches, and the less a record costs.
        """
        limits = self._settings.sink
        chunks: list[Sequence[Record]] = []
        count = size = 0
        began = time.monotonic()
        wait_s = limits.flush_interval_s
        while count < limits.batch_records and size < MAX_BATCH_BYTES:
            left_s = max(began + wait_s - time.monotonic(), _WRITING_POLL_S if chunks else 0.0)
            fetched = await self._fetch(int(left_s * 1000), limits.batch_records - count)
            if fetched and not chunks:
                began = time.monotonic()
            for records in fetched:
                chunks.append(records)
                count += len(records)
                size += sum([len(record.value or b"") for record in records])
            if (stop is not None and stop.is_set()) or self._is_share_changing():
                break
            waited_s = time.monotonic() - began
            if waited_s < wait_s or (chunks and self._is_writing()):
                continue
            if not _fills(count, waited_s, limits):
                break
            wait_s = limits.full_batch_wait_s
        return chunks

    def _is_writing(self) -> bool:
        return self._writing is not None and not self._writing.done()

    async def _fetch(self, wait_ms: int, most: int) -> list[Sequence[Record]]:
        try:
            fetched: dict[Any, list[Any]] = await self._consumer.getmany(
                timeout_ms=wait_ms, max_records=most
            )
        except OffsetOutOfRangeError:
            # Removed by retention, or another log under the same name; the ids tell which.
            await self._follow_changes(again=True)
            return []
        return list(fetched.values())

    async def _take(self, chunks: list[Sequence[Record]]) -> None:
        """Decode a batch while the one before is written, then start writing it.

        Without a batch: see how the one before ended. Else what it failed with would wait for the
        next record, which may never come.
        """
        if self._is_share_changing():
            return
        if not chunks:
            if self._writing and self._writing.done() and not await self._written():
                await self._begin()
            return
        batch = await asyncio.to_thread(decode, chunks, self._topics, datetime.now(UTC))
        if await self._written():
            self._writing = asyncio.create_task(self._write(batch))
        else:
            await self._begin()

    async def _written(self) -> bool:
        """Wait for the batch that is being written; raises what it raised.

        False when another sink was faster: nothing of it is stored. Begin again then, without
        what was read after it.
        """
        if self._writing:
            writing, self._writing = self._writing, None
            try:
                self.total += await writing
            except SinkConflictError as exc:
                self.conflicts += 1
                log.warning("%s; reading on from the positions as they are now", exc)
                return False
        return True

    async def _write(self, batch: Batch) -> Applied:
        for pause_s in (0.1 * 2**tried for tried in range(_MEMORY_TRIES)):
            try:
                return await asyncio.to_thread(self._sink.apply, batch)
            except SinkOutOfMemoryError as exc:
                log.warning("%s; it is tried again when queries have given memory back", exc)
                self._on_memory()
                await asyncio.sleep(pause_s)
        return await asyncio.to_thread(self._sink.apply, batch)

    async def _follow_changes(self, *, again: bool = False) -> None:
        """Notice new partitions, and topics or a cluster that were recreated."""
        self._identified_s = time.monotonic()
        if self._share:
            await self._share.stay()
        wanted = {self._topics.events, *self._read}
        try:
            identity = await identify(self._cluster, self._client, wanted)
        except BrokerError as exc:
            log.warning("%s; asking again", exc)
            return
        missing = self._needed - identity.topics.keys()
        if missing or (identity == self._identity and not again):
            return  # a deleted topic is waited for
        await self._written()  # or not: it begins anew either way
        if not identity.is_same_logs(self._identity):
            log.warning("topics were recreated: reading them from their beginning")
        self._identity = identity
        await self._begin()


def _fills(count: int, waited_s: float, limits: SinkSettings) -> bool:
    """Whether a batch that took `waited_s` to get `count` records is worth waiting for."""
    left_s = limits.full_batch_wait_s - waited_s
    return left_s > 0 and count * limits.full_batch_wait_s >= limits.batch_records * waited_s


def _start(partition: KafkaPartition, known: int | None, begin: int, end: int) -> int:
    """Where to read on, given what the log still holds."""
    if known is None:
        return begin
    if known < begin:
        log.error("%s: %d records were removed before they were read", partition, begin - known)
        return begin
    if known > end:
        log.error("%s: the log ends at %d, before position %d", partition, end, known)
        return end
    return known
