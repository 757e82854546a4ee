"""What the worker runs beside its metering to read OpenTelemetry spans."""

from __future__ import annotations

import asyncio

from marlin.broker.cluster import Cluster
from marlin.errors import ConfigurationError
from marlin.settings import Settings

__all__ = ["read_spans"]


async def read_spans(settings: Settings, cluster: Cluster) -> None:
    """Turn spans into usage events until cancelled; only wait where that is switched off.

    However it ends, what is not committed is read again and counts once. Raises
    `ConfigurationError` when the extra `otel` is not installed, `BrokerError` or what Kafka's
    clients raise when Kafka refuses.
    """
    if not settings.otel.enabled:
        await asyncio.Event().wait()
    try:
        from marlin.streams.otel.clients import prepare
        from marlin.streams.otel.counting import count_spans
        from marlin.streams.otel.splitting import split_spans
    except ImportError as exc:
        raise ConfigurationError(
            f"MARLIN_OTEL__ENABLED is set, but {exc.name} is not installed: `pip install "
            "'marlin-carbon[pipeline,otel]'`; the worker stops, no span was read"
        ) from exc
    await prepare(settings, cluster)
    readers = [
        asyncio.create_task(split_spans(settings, cluster), name="split-spans"),
        asyncio.create_task(count_spans(settings, cluster), name="count-spans"),
    ]
    try:
        await asyncio.gather(*readers)
    finally:
        for reader in readers:
            # Cancelled twice, it would leave its clients open.
            if not reader.cancelling():
                reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
