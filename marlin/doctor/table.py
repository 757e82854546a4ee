"""The run table, read back from its changelog: what it holds, what producers lost, what was
skipped."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from marlin.broker.cluster import Cluster
from marlin.broker.reading import read_log
from marlin.doctor.check import Check, counted, listed
from marlin.estimation import default_estimator
from marlin.sinks.identity import Identity
from marlin.streams.partition import Partition
from marlin.streams.run import Run
from marlin.topics import Topics

__all__ = ["check_skipped", "check_usage", "read_table", "runs_of"]


async def read_table(cluster: Cluster, identity: Identity, topics: Topics) -> list[Partition]:
    """Every partition of the table, as a worker that starts now would recover it.

    Raises `BrokerError`.
    """
    numbers = identity.topics[topics.runs].partitions
    estimator = default_estimator()
    table = {n: Partition(topics.events, n, estimator=estimator) for n in numbers}
    now = datetime.now(UTC)
    async for records in read_log(cluster, topics.runs, numbers):
        partition = table[records[0].partition]
        for record in records:
            partition.recover(record.key or b"", record.value, now=now)
    return list(table.values())


def runs_of(table: Iterable[Partition]) -> dict[str, Run]:
    """All runs in the table."""
    return {run_id: run for partition in table for run_id, run in partition.runs.items()}


def check_usage(table: Iterable[Partition]) -> Check:
    """What producers sent twice, and what of theirs never came."""
    runs = runs_of(table)
    duplicates = sum(run.duplicates for run in runs.values())
    lost = {run_id: run.lost for run_id, run in runs.items() if run.lost}
    text = (
        f"{counted(len(runs), 'run')} in the table; {counted(duplicates, 'repeated event')} "
        f"dropped; {counted(sum(lost.values()), 'usage event')} lost by producers"
    )
    if not lost:
        return Check("usage", "ok", text)
    most = sorted(lost, key=lambda run_id: (-lost[run_id], run_id))
    return Check(
        "usage",
        "warn",
        text,
        "runtimes ended, or dropped events, before Kafka had them: their runs are under-counted",
        tuple(f"run {run_id}: {lost[run_id]} lost" for run_id in most[:20]),
    )


def check_skipped(table: Iterable[Partition]) -> Check:
    """Offsets that retention removed before a worker read them."""
    skipped = [p for p in table if p.skipped]
    if not skipped:
        return Check("skipped events", "ok", "every offset of the events topic was read")
    total = sum(p.skipped for p in skipped)
    return Check(
        "skipped events",
        "warn",
        f"{counted(total, 'offset')} of the events topic were removed before a worker read them "
        f"({listed([p.source for p in skipped])})",
        "keep events longer than workers may be down: see “Retention” in docs/operations.md",
        tuple(f"{p.source}: {p.skipped} skipped" for p in skipped),
    )
