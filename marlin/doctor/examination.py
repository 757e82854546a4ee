"""All checks, in the order in which one would look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from aiokafka import TopicPartition

from marlin.broker.cluster import Cluster, connect
from marlin.broker.offsets import Offsets, log_bounds
from marlin.doctor.accounts import Reconciled, reconcile
from marlin.doctor.check import Check, counted
from marlin.doctor.cluster import (
    check_broker,
    check_clock,
    check_lag,
    check_topics,
    check_workers,
    newest_record,
    read_group,
)
from marlin.doctor.configuration import check_configuration, check_factors
from marlin.doctor.database import (
    check_aborts,
    check_database,
    check_dead_letters,
    check_sink,
    read_positions,
    sink_lag,
)
from marlin.doctor.table import check_skipped, check_usage, read_table, runs_of
from marlin.errors import MarlinError
from marlin.settings import Settings
from marlin.sinks.identity import Identity, identity_of
from marlin.topics import Topics

__all__ = ["check_accounts", "examine"]


async def examine(settings: Settings, *, fast: bool = False) -> AsyncGenerator[Check]:
    """Yield each check as soon as it is made. Changes nothing; never raises `MarlinError`.

    `fast` leaves out comparing the accounts, which reads the carbon topic and the database.
    """
    yield check_configuration(settings)
    yield check_factors(datetime.now(UTC))
    async for check in _database(settings):
        yield check
    topics = Topics(settings.kafka.topic_prefix)
    try:
        cluster = await connect(settings)
        identity = await identity_of(cluster, topics.all())
    except MarlinError as exc:
        yield Check("broker", "fail", str(exc), "start it, or correct MARLIN_KAFKA__ settings")
        return
    yield check_broker(cluster)
    checked = check_topics(identity, topics)
    yield checked
    if checked.status == "ok":
        async for check in _pipeline(settings, cluster, identity, fast=fast):
            yield check


async def _database(settings: Settings) -> AsyncGenerator[Check]:
    try:
        yield await asyncio.to_thread(check_database, settings)
        if settings.database_path.exists():
            yield await asyncio.to_thread(check_aborts, settings, datetime.now(UTC))
            yield await asyncio.to_thread(check_dead_letters, settings)
    except MarlinError as exc:
        yield Check(
            "database",
            "fail",
            str(exc),
            "if the file is damaged, `marlin rebuild` makes it again from the topics",
        )


async def _pipeline(
    settings: Settings, cluster: Cluster, identity: Identity, *, fast: bool
) -> AsyncGenerator[Check]:
    topics = Topics(settings.kafka.topic_prefix)
    try:
        group = await read_group(settings, cluster, identity)
        yield check_workers(group)
        yield check_lag(group)
        bounds = await _bounds(cluster, identity, topics)
        newest = await newest_record(cluster, bounds)
        yield check_clock(
            newest.timestamp if newest else None,
            newest.timestamp_type if newest else 0,
            datetime.now(UTC),
        )
        positions = await asyncio.to_thread(read_positions, settings, identity)
        lag = sink_lag(positions, *bounds)
        yield check_sink(settings, topics, lag)
        table = await read_table(cluster, identity, topics)
        yield check_usage(table)
        yield check_skipped(table)
        if fast:
            yield Check("accounts", "skip", "not compared (--fast)")
            return
        reconciled = await reconcile(settings, cluster, identity, runs_of(table))
        yield check_accounts(
            reconciled,
            events_behind=sum(group.lag.values()),
            records_behind=sum(lag.values()),
            has_database=settings.database_path.exists(),
        )
    except MarlinError as exc:
        yield Check("pipeline", "fail", str(exc), "try again; is the broker overloaded?")


async def _bounds(cluster: Cluster, identity: Identity, topics: Topics) -> tuple[Offsets, Offsets]:
    return await log_bounds(
        cluster,
        [
            TopicPartition(topic, number)
            for topic in (topics.carbon, topics.commands, topics.deadletter)
            for number in identity.topics[topic].partitions
        ],
    )


def check_accounts(
    reconciled: Reconciled, *, events_behind: int, records_behind: int, has_database: bool
) -> Check:
    """Whether table, topic and database agree, up to where each has come."""
    what = "run table, carbon topic and database" if has_database else "run table and carbon topic"
    text = f"{what} agree" if not reconciled.differences else f"{what} differ"
    remarks = [f"{counted(reconciled.calls, 'call')} on the carbon topic"]
    if reconciled.repeated:
        remarks.append(f"{reconciled.repeated:,} records published again and dropped")
    if reconciled.unreadable:
        remarks.append(f"{reconciled.unreadable:,} unreadable records on it")
    if reconciled.removed:
        remarks.append(
            f"{counted(reconciled.removed, 'call')} removed from the ledger, whose rows are "
            "therefore not compared"
        )
    if reconciled.cut:
        remarks.append(f"{counted(reconciled.cut, 'run')} compared in part, for retention")
    if events_behind or records_behind:
        remarks.append(
            f"compared up to where each had come: {counted(events_behind, 'event')} not yet "
            f"handled, {counted(records_behind, 'record')} not yet taken in"
        )
    text = f"{text}: {'; '.join(remarks)}"
    if not reconciled.differences:
        return Check("accounts", "ok", text)
    runs = {difference.run_id for difference in reconciled.differences}
    return Check(
        "accounts",
        "fail",
        f"{text}. {counted(len(reconciled.differences), 'difference')} in "
        f"{counted(len(runs), 'run')}",
        "keep the logs; a wrong database: stop the sink and `marlin rebuild`",
        tuple(str(difference) for difference in reconciled.differences),
    )
