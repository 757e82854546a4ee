"""The worker process: the app from start to stop."""

# Faust's own annotations leave type arguments open, which strict mode reports at every use.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from aiokafka.errors import KafkaError

from marlin.broker.cluster import Cluster, connect, create_topics
from marlin.errors import BrokerError, MarlinError, StateError
from marlin.estimation import Estimator, default_estimator
from marlin.settings import Settings
from marlin.streams.app import MarlinApp, create_app
from marlin.streams.grid import HourlyValues
from marlin.streams.grid_reader import GridReader
from marlin.streams.otel.service import read_spans
from marlin.topics import Topics

__all__ = ["run_worker"]

_log = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 8.0
_RECOVERY_STALL_S = 30.0


async def run_worker(
    settings: Settings, *, stop: asyncio.Event, ready: asyncio.Event | None = None
) -> None:
    """Meter events until `stop` is set; `ready` is set once partitions are being read.

    On `stop` what was fetched is finished, published and committed. Raises `MarlinError` when
    the worker cannot go on: nothing uncommitted is lost, start it again.
    """
    cluster = await connect(settings)
    partitions = (await create_topics(settings))[Topics(settings.kafka.topic_prefix).events]
    grid = _grid(settings, cluster)
    estimator = Estimator(grid=grid.values) if grid else default_estimator()
    app = create_app(settings, cluster, partitions=partitions, estimator=estimator, grid=grid)
    if ready is not None:
        app.on_rebalance_complete.connect(_setter(ready), weak=False)
    await app.publisher.start()
    # Starting takes as long as recovery does; stopping must not wait for it.
    starting = asyncio.create_task(app.start())
    try:
        await _first_of(
            stop.wait(),
            app.wait_for_stopped(),
            _failed(starting),
            _stalled(app),
            read_spans(settings, cluster),
            _follow(grid),
        )
    finally:
        await _shut_down(app)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    if app.crash_reason is not None:
        raise _as_marlin_error(app.crash_reason)


def _grid(settings: Settings, cluster: Cluster) -> GridReader | None:
    """Where hourly intensities come from, if events are to be joined with them."""
    if not settings.grid.joins:
        return None
    values = HourlyValues(keep=timedelta(days=settings.grid.keep_days))
    return GridReader(cluster, Topics(settings.kafka.topic_prefix).grid, values)


async def _follow(grid: GridReader | None) -> None:
    """Read the grid topic until cancelled; only wait where there is none to read."""
    await (grid.run() if grid else asyncio.Event().wait())


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Until one of them is done; an error of it is raised as a `MarlinError`."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        error = task.exception()
        if error is not None:
            raise _as_marlin_error(error)


async def _failed(starting: asyncio.Task[None]) -> None:
    """Raise what `starting` raises, if it does."""
    await starting
    await asyncio.Event().wait()


async def _stalled(app: MarlinApp) -> None:
    """Raise `StateError` when recovery stands still.

    Faust can wait for ever for a changelog record that a rebalance made it drop. Started again,
    a worker recovers from what is durable.
    """
    loop = asyncio.get_running_loop()
    known, since = -1, loop.time()
    while True:
        await asyncio.sleep(1.0)
        if not app.in_recovery or app.run_table.recovered != known:
            known, since = app.run_table.recovered, loop.time()
        elif loop.time() - since > _RECOVERY_STALL_S:
            raise StateError(
                f"recovery has not moved for {_RECOVERY_STALL_S:g} s; the worker stops, nothing "
                "is lost, start it again"
            )


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
