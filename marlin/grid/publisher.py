"""The publisher: asks a provider once for everybody, and tells what is new on the grid topic."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from marlin.broker.cluster import Cluster, connect, create_topics
from marlin.broker.offsets import log_bounds
from marlin.errors import BrokerError, ConfigurationError, GridError
from marlin.grid.provider import GridProvider, GridValue, hour_of
from marlin.grid.revisions import Told
from marlin.grid.static import StaticGrid
from marlin.schemas import GridRecord, dump
from marlin.settings import GridSettings, Settings
from marlin.topics import Topics

__all__ = ["GridPublisher", "open_publisher", "run_publisher"]

_log = logging.getLogger(__name__)

_HOUR = timedelta(hours=1)
_POLL_MS = 200
_FETCH_WAIT_MS = 50
_JITTER = 0.1
"""Publishers that were started together do not ask together for ever."""


class GridPublisher:
    """Tells on the grid topic what `provider` says of the configured zones.

    Any number may run: each reads the topic before it asks and before it tells. Two that tell the
    same at the same moment do no harm, readers keep the first.
    """

    def __init__(
        self,
        provider: GridProvider,
        cluster: Cluster,
        topic: str,
        settings: GridSettings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Raises `ConfigurationError` without zones, and for a provider whose values no footprint
        may be counted with."""
        if (provider.signal, provider.basis) != ("average", "lifecycle"):
            raise ConfigurationError(
                f"{provider.name} tells {provider.signal} {provider.basis} intensities; only "
                "average life-cycle ones are published, nothing was"
            )
        if not settings.zones:
            raise ConfigurationError(
                "no grid zones: set MARLIN_GRID__ZONES, for instance to DE,US-MIDA-PJM"
            )
        self._provider = provider
        self._cluster = cluster
        self._partition = TopicPartition(topic, 0)
        self._settings = settings
        self._now = now
        self._told = Told()

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[None]:
        """Reach Kafka and read the topic; `publish` works inside of the block."""
        self._producer = AIOKafkaProducer(**self._cluster.producer_options())
        self._consumer = AIOKafkaConsumer(
            **self._cluster.client_options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )
        try:
            await self._producer.start()
            await self._consumer.start()
            self._consumer.assign([self._partition])
            await self._consumer.seek_to_beginning(self._partition)
            await self._catch_up()
            yield
        except KafkaError as exc:
            raise BrokerError(
                f"Kafka at {self._cluster.bootstrap_servers} failed: {exc!r}; start again, what "
                "was published stays"
            ) from exc
        finally:
            await self._producer.stop()
            await self._consumer.stop()

    async def publish(self) -> list[GridRecord]:
        """Ask for every zone once and tell what is new; returns what was told.

        A zone whose source fails is left for the next time, with a warning.
        """
        await self._catch_up()
        values: list[GridValue] = []
        for zone in self._settings.zones:
            if not self._is_fresh(zone):
                values += await self._values(zone)
        await self._catch_up()  # another publisher may have been faster
        records = self._told.news(values)
        await self._tell(records)
        oldest = hour_of(self._now()) - timedelta(hours=self._settings.history_hours + 24)
        self._told.forget_before(oldest)
        return records

    async def run(self, stop: asyncio.Event) -> None:
        """Publish every `poll_interval_s` until `stop` is set."""
        while not stop.is_set():
            for record in await self.publish():
                _log.info(
                    "%s %s: %g g/kWh (%s, revision %d)",
                    *(record.zone, f"{record.hour:%Y-%m-%dT%HZ}", record.intensity_g_per_kwh),
                    *(record.estimate, record.revision),
                )
            wait_s = self._settings.poll_interval_s * random.uniform(1 - _JITTER, 1 + _JITTER)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait_s)

    def _is_fresh(self, zone: str) -> bool:
        """Whether somebody has just told of this zone."""
        at = self._told.fetched_at(zone)
        half = timedelta(seconds=self._settings.poll_interval_s / 2)
        return at is not None and self._now() - half < at <= self._now()

    async def _values(self, zone: str) -> Sequence[GridValue]:
        hour = hour_of(self._now())
        found: list[GridValue] = []
        try:
            found += await self._provider.history(
                zone, hour - timedelta(hours=self._settings.history_hours), hour + _HOUR
            )
            if self._settings.forecast_hours:
                known = {value.hour for value in found}
                until = hour + timedelta(hours=self._settings.forecast_hours)
                ahead = await self._provider.forecast(zone, until)
                found += [value for value in ahead if value.hour not in known]
        except GridError as exc:
            _log.warning("zone %s: %s; asking again later", zone, exc)
        return found

    async def _tell(self, records: Sequence[GridRecord]) -> None:
        topic, number = self._partition
        sent = [
            await self._producer.send(topic, dump(record), key=record.key, partition=number)
            for record in records
        ]
        await asyncio.gather(*sent)
        for record in records:
            self._told.take(record)

    async def _catch_up(self) -> None:
        """Read what is on the topic by now."""
        _, ends = await log_bounds(self._cluster, [self._partition])
        async with asyncio.timeout(self._cluster.kafka.request_timeout_s):
            while await self._consumer.position(self._partition) < ends[self._partition]:
                fetched = await self._consumer.getmany(self._partition, timeout_ms=_POLL_MS)
                for record in fetched.get(self._partition, ()):
                    with suppress(ValidationError):  # readers say so, each once
                        self._told.take(GridRecord.model_validate_json(record.value or b""))


@asynccontextmanager
async def open_publisher(
    settings: Settings, provider: GridProvider
) -> AsyncGenerator[GridPublisher]:
    """A publisher on the configured cluster that has read its topic; raises as `run_publisher`."""
    if isinstance(provider, StaticGrid):
        raise ConfigurationError(
            "no provider of hourly average life-cycle intensities is configured: set "
            "MARLIN_GRID__PROVIDER, for instance to electricitymaps; nothing was published"
        )
    cluster = await connect(settings)
    topic = Topics(settings.kafka.topic_prefix).grid
    publisher = GridPublisher(provider, cluster, topic, settings.grid)
    await create_topics(settings)
    async with publisher.connected():
        yield publisher


async def run_publisher(
    settings: Settings,
    provider: GridProvider,
    *,
    stop: asyncio.Event,
    ready: asyncio.Event | None = None,
) -> None:
    """Publish what `provider` says until `stop` is set; sets `ready` when the topic was read.

    Raises `ConfigurationError` for settings or a provider that do not fit, `BrokerError` when
    Kafka fails.
    """
    async with open_publisher(settings, provider) as publisher:
        if ready is not None:
            ready.set()
        await publisher.run(stop)
