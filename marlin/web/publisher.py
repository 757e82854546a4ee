"""Events into Kafka for all requests of a process: one producer, found again when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import Future
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from marlin.broker.cluster import Cluster, connect, create_topics, resolve_bootstrap
from marlin.errors import BrokerError, ConfigurationError
from marlin.schemas import Event, dump
from marlin.settings import Settings
from marlin.topics import Topics

__all__ = ["Publisher"]

log = logging.getLogger("marlin.web")

_RETRY_S = 2.0
_STOP_TIMEOUT_S = 5.0
_BATCH_BYTES = 256 * 1024


class Publisher:
    """Publishes inside its `async with` block, on the loop that entered it.

    Entering creates missing topics. It raises `ConfigurationError` where no cluster is configured
    or its topics contradict each other; a cluster that does not answer is looked for again until
    it does.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = Topics(settings.kafka.topic_prefix).events
        self._timeout_s = settings.gateway.request_timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._bootstrap: str | None = None
        self._lost = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._connect()
        self._reconnecting = asyncio.create_task(self._reconnect())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reconnecting.cancel()
        await asyncio.gather(self._reconnecting, return_exceptions=True)
        if self._producer is not None:
            await _stop(self._producer)

    async def publish(self, events: Sequence[Event]) -> None:
        """Return once all replicas have every event, those of a run in the order given.

        Raises `BrokerError` when that took longer than `request_timeout_s` or Kafka refused. Some
        may have arrived then, or may still: send all of them again, readers drop what they have.
        """
        if not events:
            return
        producer = self._producer
        if producer is None:
            raise BrokerError("Kafka cannot be reached; nothing was sent, send it again")
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(producer, events)
        except (KafkaError, TimeoutError) as exc:
            log.warning("events were not confirmed by Kafka: %s", exc or type(exc).__name__)
            self._give_up(producer, passing=isinstance(exc, TimeoutError) or exc.retriable)
            raise BrokerError(
                f"Kafka did not confirm the events within {self._timeout_s:g} s: "
                f"{exc or type(exc).__name__}; send them again"
            ) from exc

    async def reachable(self) -> bool:
        """Whether Kafka answers now. Requests that ask at the same time share one question."""
        producer = self._producer
        if producer is None:
            return False
        try:
            async with asyncio.timeout(self._timeout_s):
                answered = await producer.client.force_metadata_update()
        except (KafkaError, TimeoutError):
            answered = False
        if not answered:
            self._give_up(producer, passing=True)
        return answered

    async def _send(self, producer: AIOKafkaProducer, events: Sequence[Event]) -> None:
        sent: list[Future[RecordMetadata]] = []
        try:
            for event in events:
                key = event.run_id.encode()
                sent.append(await producer.send(self._topic, dump(event), key=key))
            await asyncio.gather(*sent)
        finally:
            for one in sent:
                # Nobody waits for the others once one failed; asyncio would report them.
                if not one.cancel() and not one.cancelled():
                    one.exception()

    def _give_up(self, producer: AIOKafkaProducer, *, passing: bool) -> None:
        """Have the producer replaced, unless it will recover by itself.

        It outlives a broker that is away. It does not outlive an error that ends its sending
        (a lost sequence), nor a `marlin up` that was started again at another address.
        """
        moved = resolve_bootstrap(self._settings) not in (None, self._bootstrap)
        if self._producer is producer and (moved or not passing):
            self._lost.set()

    async def _reconnect(self) -> None:
        while True:
            await self._lost.wait()
            old, self._producer = self._producer, None
            if old is not None:
                await _stop(old)
            await asyncio.sleep(_RETRY_S)
            try:
                await self._connect()
            except ConfigurationError as exc:
                # The cluster of `marlin up` may be gone for a while.
                log.warning("Kafka is still looked for: %s", exc)

    async def _connect(self) -> None:
        try:
            cluster = await connect(self._settings)
            await create_topics(self._settings)
            producer = await self._started(cluster)
        except (BrokerError, KafkaError, OSError) as exc:
            log.warning("Kafka cannot be reached, requests are refused until it can: %s", exc)
            self._lost.set()
            return
        self._producer, self._bootstrap = producer, cluster.bootstrap_servers
        self._lost.clear()

    async def _started(self, cluster: Cluster) -> AIOKafkaProducer:
        options = cluster.producer_options()
        options["request_timeout_ms"] = int(self._timeout_s * 1000)
        producer = AIOKafkaProducer(**options, max_batch_size=_BATCH_BYTES)
        try:
            await producer.start()
        except BaseException:
            await _stop(producer)
            raise
        return producer


async def _stop(producer: AIOKafkaProducer) -> None:
    # Stopping waits for answers that a dead broker never gives. Whoever sent what is left has
    # been told to send it again.
    with contextlib.suppress(TimeoutError, KafkaError):
        await asyncio.wait_for(producer.stop(), _STOP_TIMEOUT_S)
