"""The Faust app: settings, topics, table and agent put together."""

# Faust's own annotations leave type arguments open, which strict mode reports at every use.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any, cast

import faust
from aiokafka import AIOKafkaProducer
from faust.types import Message
from yarl import URL

from marlin.broker.cluster import Cluster
from marlin.estimation import Estimator
from marlin.settings import KafkaSettings, Settings, WorkerSettings
from marlin.streams.grid_reader import GridReader
from marlin.streams.identity import log_has
from marlin.streams.meter import Meter
from marlin.streams.partition import Partition
from marlin.streams.publisher import Publisher
from marlin.streams.table import RunTable
from marlin.streams.transport import Consumer
from marlin.topics import Topics

__all__ = ["MarlinApp", "create_app"]

MAX_RECORD_BATCH_BYTES = 900_000
"""Largest record batch written [bytes]; brokers refuse those above 1 MiB by default."""

_EMBEDDED_SESSION_TIMEOUT_S = 6.0
# The embedded broker's group join takes half the session time-out.

_VERIFY_INTERVAL_S = 1.0
_ESCALATION_INTERVAL_S = 0.5


class _Untouched(faust.Schema[Any, Any]):
    """Hands a batch to the agent as the transport made it."""

    def loads_key(self, app: Any, message: Message, **options: Any) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Message, **options: Any) -> Any:
        return message.value


class MarlinApp(faust.App):
    """The worker's app, with what the batching transport asks of it."""

    batch_records: int
    fetch_max_wait_ms: int
    run_table: RunTable
    publisher: Publisher


def create_app(
    settings: Settings,
    cluster: Cluster,
    *,
    partitions: int,
    estimator: Estimator,
    grid: GridReader | None = None,
) -> MarlinApp:
    """The app of one worker; `partitions` is what the events topic has.

    With `grid`, `estimator` must have its values as the source of hours.

    Nothing is connected before `start`.
    """
    worker, topics = settings.worker, Topics(settings.kafka.topic_prefix)
    settings.home_dir.mkdir(parents=True, exist_ok=True)
    app = MarlinApp(
        topics.group,
        broker=[URL(f"marlin://{host}") for host in cluster.bootstrap_servers.split(",")],
        datadir=str(settings.home_dir / "faust"),
        **_faust_options(settings, cluster, partitions),
    )
    app.batch_records = worker.batch_records
    app.fetch_max_wait_ms = worker.fetch_max_wait_ms
    app.run_table = RunTable(
        app,
        name="runs",
        partitions=partitions,
        changelog_topic=app.topic(topics.runs, schema=_Untouched(), partitions=partitions),
        new_partition=lambda number: Partition(
            topics.events, number, estimator=estimator, grid=None if grid is None else grid.values
        ),
    )
    app.tables.add(app.run_table)
    app.publisher = Publisher(
        AIOKafkaProducer(
            **cluster.producer_options(), linger_ms=0, max_batch_size=MAX_RECORD_BATCH_BYTES
        ),
        topics,
        in_flight=worker.batches_in_flight,
        failed=lambda exc: _crash(app, exc),
    )
    meter = Meter(
        app.run_table,
        app.publisher,
        log_has=partial(log_has, cluster.client_options()),
        max_event_bytes=worker.max_event_bytes,
        continue_recreated=worker.on_recreated_topic == "continue",
        ready_for=None if grid is None else grid.ready_for,
    )
    _add_agent(app, meter, topics.events)
    _add_verification(app, meter, topics.events)
    _add_expiry(app, meter, worker)
    _add_escalation(app, meter, topics.events, deadline_s=worker.abort_deadline_s)
    return app


def _add_verification(app: MarlinApp, meter: Meter, topic: str) -> None:
    async def verify_logs() -> None:
        if app.rebalancing or app.in_recovery:
            return
        try:
            await meter.verify(cast(Consumer, app.consumer), topic)
        except Exception as exc:
            await app.crash(exc)
            raise

    app.timer(_VERIFY_INTERVAL_S)(verify_logs)


def _add_expiry(app: MarlinApp, meter: Meter, worker: WorkerSettings) -> None:
    # Finished runs are queued in the order they leave; idle ones are looked for in the whole
    # table, therefore ten times in their period.
    turns = max(1, round(worker.idle_run_expiry_s / 10 / worker.expiry_interval_s))
    turn = count(1)

    async def expire_runs() -> None:
        if app.rebalancing or app.in_recovery:
            return
        idle_s = worker.idle_run_expiry_s if next(turn) % turns == 0 else None
        await meter.expire(finished_s=worker.finished_run_grace_s, idle_s=idle_s)

    app.timer(worker.expiry_interval_s)(expire_runs)


def _add_escalation(app: MarlinApp, meter: Meter, topic: str, *, deadline_s: float) -> None:
    async def escalate_aborts() -> None:
        if app.rebalancing or app.in_recovery:
            return
        await meter.escalate(cast(Consumer, app.consumer), topic, deadline_s=deadline_s)

    app.timer(_ESCALATION_INTERVAL_S)(escalate_aborts)


def _add_agent(app: MarlinApp, meter: Meter, topic: str) -> None:
    async def meter_events(stream: Any) -> None:
        try:
            # Acknowledged by the publisher, when everything is durable.
            async for event in stream.noack().events():
                await meter.handle(event, cast(Consumer, app.consumer))
        except Exception as exc:
            await app.crash(exc)
            raise

    app.agent(app.topic(topic, schema=_Untouched()), name="meter")(meter_events)


def _faust_options(settings: Settings, cluster: Cluster, partitions: int) -> dict[str, Any]:
    worker = settings.worker
    session_s = _EMBEDDED_SESSION_TIMEOUT_S if cluster.embedded else worker.session_timeout_s
    return {
        "topic_partitions": partitions,
        "topic_disable_leader": True,
        "topic_allow_declare": False,  # `create_topics` has done it
        "broker_session_timeout": session_s,
        "broker_heartbeat_interval": session_s / 6,
        "broker_rebalance_timeout": session_s,
        "broker_commit_interval": worker.commit_interval_s,
        "broker_credentials": _credentials(settings.kafka, cluster),
        "consumer_auto_offset_reset": "earliest",
        "producer_request_timeout": settings.kafka.request_timeout_s,
        "table_standby_replicas": worker.standby_replicas,
        "stream_buffer_maxsize": worker.buffered_batches,
        "stream_wait_empty": True,
        "stream_recovery_delay": 0.0,
        # The embedded broker reports end offsets that are too low (`marlin.broker.offsets`), so
        # what was read back may lie beyond them.
        "recovery_consistency_check": not cluster.embedded,
        "web_enabled": False,
    }


def _credentials(kafka: KafkaSettings, cluster: Cluster) -> Any:
    context = cluster.client_options().get("ssl_context")
    if kafka.security_protocol.startswith("SASL"):
        assert kafka.sasl_password is not None  # client_options has refused this
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value(),
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None


def _crash(app: MarlinApp, exc: BaseException) -> None:
    if not app.should_stop:
        app.add_future(app.crash(exc))
