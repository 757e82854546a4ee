"""A producer that retries and repeats itself, as real ones do."""

from __future__ import annotations

import asyncio
import random

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from chaos.ledger import Ledger
from marlin.broker.cluster import connect
from marlin.errors import BrokerError
from marlin.schemas import dump
from marlin.settings import Settings
from marlin.topics import Topics

__all__ = ["Sender"]

_SLICE = 200
_RESEND_PAUSE_S = 0.5


class Sender:
    """Sends a ledger in about `seconds` [s], repeating a share of it."""

    def __init__(self, settings: Settings, ledger: Ledger, *, seconds: float, seed: int) -> None:
        self.repeated = 0
        """Records sent again, by choice or because a send failed [count]."""
        self._settings = settings
        self._ledger = ledger
        self._seconds = seconds
        self._rng = random.Random(seed)
        self._producer: AIOKafkaProducer | None = None

    async def send(self) -> None:
        """Send everything; a slice that failed is sent again until it is durable.

        Order within a run is kept; what is sent again may be durable already.
        """
        events = self._ledger.events
        pause_s = self._seconds / max(1, len(events) / _SLICE)
        loop = asyncio.get_running_loop()
        due = loop.time()
        for start in range(0, len(events), _SLICE):
            records = [(e.run_id.encode(), dump(e)) for e in events[start : start + _SLICE]]
            await self._until_durable(records)
            if self._rng.random() < 0.2:
                again = self._rng.sample(records, k=len(records) // 4)
                self.repeated += len(again)
                await self._until_durable(again)
            due += pause_s
            await asyncio.sleep(max(0.0, due - loop.time()))
        await self._disconnect()

    async def _until_durable(self, records: list[tuple[bytes, bytes]]) -> None:
        while True:
            try:
                async with asyncio.timeout(60):
                    await self._send(records)
            except (KafkaError, BrokerError, OSError, TimeoutError):
                self.repeated += len(records)
                await self._disconnect()
                await asyncio.sleep(_RESEND_PAUSE_S)
            else:
                return

    async def _send(self, records: list[tuple[bytes, bytes]]) -> None:
        topic = Topics(self._settings.kafka.topic_prefix).events
        if self._producer is None:
            options = (await connect(self._settings)).producer_options()
            self._producer = AIOKafkaProducer(**options, linger_ms=2)
            await self._producer.start()
        producer = self._producer
        await asyncio.gather(
            *[await producer.send(topic, value, key=key) for key, value in records]
        )

    async def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()
