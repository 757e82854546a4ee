"""The worker process: the app from start to stop."""

# Faust's own annotations leave type arguments open, which strict mode reports at every use.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaError

from marlin.broker.cluster import connect, create_topics
from marlin.errors import BrokerError, MarlinError, StateError
from marlin.estimation import default_estimator
from marlin.settings import Settings
from marlin.streams.app import MarlinApp, create_app
from marlin.topics import Topics

__all__ = ["run_worker"]

_log = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 8.0


async def run_worker(
    settings: Settings, *, stop: asyncio.Event, ready: asyncio.Event | None = None
) -> None:
    """Meter events until `stop` is set; `ready` is set once partitions are being read.

    On `stop` what was fetched is finished, published and committed. Raises `MarlinError` when
    the worker cannot go on: nothing uncommitted is lost, start it again.
    """
    cluster = await connect(settings)
    partitions = (await create_topics(settings))[Topics(settings.kafka.topic_prefix).events]
    app = create_app(settings, cluster, partitions=partitions, estimator=default_estimator())
    if ready is not None:
        app.on_rebalance_complete.connect(_setter(ready), weak=False)
    await app.publisher.start()
    try:
        await app.start()
        await _stopped_or_crashed(app, stop)
    finally:
        await _shut_down(app)
    if app.crash_reason is not None:
        raise _as_marlin_error(app.crash_reason)


async def _stopped_or_crashed(app: MarlinApp, stop: asyncio.Event) -> None:
    waiting: list[asyncio.Task[Any]] = [
        asyncio.create_task(stop.wait()),
        asyncio.create_task(app.wait_for_stopped()),
    ]
    _, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


async def _shut_down(app: MarlinApp) -> None:
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await app.stop()
            await app.publisher.stop()
    except TimeoutError:
        _log.error(
            "the worker did not stop within %g s and is abandoned; what was not committed is "
            "handled again by the next one",
            _STOP_TIMEOUT_S,
        )


def _setter(ready: asyncio.Event) -> Callable[..., None]:
    def set_ready(*_args: object, **_kwargs: object) -> None:
        ready.set()

    return set_ready


def _as_marlin_error(reason: BaseException) -> MarlinError:
    if isinstance(reason, MarlinError):
        return reason
    kind = BrokerError if isinstance(reason, KafkaError) else StateError
    error = kind(f"the worker stopped on an error it cannot handle: {reason!r}; start it again")
    error.__cause__ = reason
    return error
