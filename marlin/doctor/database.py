"""The database and the sink that owns it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition

from marlin.doctor.check import Check, counted, listed
from marlin.query import query
from marlin.settings import Settings
from marlin.sinks.discovery import find_server
from marlin.sinks.identity import Identity
from marlin.sinks.migrations import known_migrations
from marlin.topics import Topics

__all__ = [
    "check_aborts",
    "check_database",
    "check_dead_letters",
    "check_sink",
    "read_positions",
    "sink_lag",
]

_ABORT_GRACE_S = 30.0
"""A runtime that lives acknowledges an abort within seconds [s]."""

_POSITIONS = """
SELECT s.topic, p.partition, p.next_offset FROM positions AS p JOIN sources AS s USING (source_id)
WHERE p.kind = 'read' AND s.cluster_id = $cluster
    AND s.source_id IN (SELECT max(source_id) FROM sources WHERE cluster_id = $cluster
        GROUP BY topic)
"""

_ABORTS = """
SELECT c.run_id, c.issued_at FROM commands AS c LEFT JOIN runs AS r USING (run_id)
WHERE c.action = 'abort' AND c.outcome IS NULL AND r.finished_at IS NULL
ORDER BY c.issued_at, c.run_id
"""


def _rows(settings: Settings, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
    return query(sql, params, settings=settings).rows


def check_database(settings: Settings) -> Check:
    """Its size and schema. Raises `SinkError` when it cannot be queried."""
    path = settings.database_path
    if not path.exists():
        return Check(
            "database",
            "warn",
            f"there is no database at {path}",
            "start the sink: `marlin sink`; one that was lost: `marlin rebuild`",
        )
    ((version, events),) = _rows(
        settings,
        "SELECT (SELECT max(version) FROM schema_versions), (SELECT count(*) FROM events)",
    )
    newest = known_migrations()[-1].version
    text = (
        f"{path}: {_size(path)}, {counted(events, 'event')}, schema version {version} "
        f"(this Marlin's: {newest})"
    )
    if version > newest:
        return Check("database", "fail", text, "a newer Marlin wrote it: upgrade this one")
    if version < newest:
        return Check("database", "warn", text, "the sink upgrades it when it is started again")
    return Check("database", "ok", text)


def _size(path: Path) -> str:
    log = path.with_name(path.name + ".wal")
    size = path.stat().st_size + (log.stat().st_size if log.exists() else 0)
    return f"{size / 2**20:,.1f} MiB"


def read_positions(settings: Settings, identity: Identity) -> dict[TopicPartition, int]:
    """How far the sink has read each topic of this cluster. Raises `SinkError`."""
    if not settings.database_path.exists():
        return {}
    rows = _rows(settings, _POSITIONS, {"cluster": identity.cluster_id})
    return {TopicPartition(topic, partition): offset for topic, partition, offset in rows}


def sink_lag(
    positions: Mapping[TopicPartition, int],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """Records that the sink has yet to take in, by partition; none where there are none."""
    behind = {tp: end - max(positions.get(tp, 0), begins[tp]) for tp, end in ends.items()}
    return {tp: lag for tp, lag in behind.items() if lag > 0}


def check_sink(settings: Settings, topics: Topics, lag: Mapping[TopicPartition, int]) -> Check:
    """Whether a sink runs and how far it is behind."""
    owner = find_server(settings.database_path)
    carbon = sum(behind for tp, behind in lag.items() if tp.topic == topics.carbon)
    behind = sum(lag.values())
    text = (
        f"{counted(behind, 'record')} to take in ({carbon:,} of them carbon)"
        if behind
        else "everything is taken in"
    )
    details = tuple(f"{tp.topic}-{tp.partition}: {lag[tp]} behind" for tp in sorted(lag))
    if owner:
        return Check("sink", "ok", f"runs (process {owner.pid}); {text}", details=details)
    return Check("sink", "warn", f"does not run here; {text}", "start it: `marlin sink`", details)


def check_aborts(settings: Settings, now: datetime) -> Check:
    """Runs that were told to stop and did not answer. Raises `SinkError`."""
    waiting = _rows(settings, _ABORTS)
    late = [row for row in waiting if (now - row[1]).total_seconds() > _ABORT_GRACE_S]
    if late:
        return Check(
            "aborts",
            "warn",
            f"{counted(len(late), 'abort')} not acknowledged after {_ABORT_GRACE_S:g} s, of runs "
            + listed([run_id for run_id, _ in late]),
            "look whether these runs still work: their runtime is gone, or does not listen",
            tuple(f"run {run_id}: told at {at:%Y-%m-%d %H:%M:%S} UTC" for run_id, at in late[:20]),
        )
    text = f"{counted(len(waiting), 'abort')} on the way" if waiting else "all are acknowledged"
    return Check("aborts", "ok", text)


def check_dead_letters(settings: Settings) -> Check:
    """Records that were refused, by the step that refused them. Raises `SinkError`."""
    rows = _rows(
        settings,
        "SELECT step, count(*), max(refused_at) FROM dead_letters GROUP BY step ORDER BY 1",
    )
    if not rows:
        return Check("dead letters", "ok", "no record was refused")
    steps = ", ".join(f"{step}: {count:,}" for step, count, _ in rows)
    newest = max(at for *_, at in rows)
    return Check(
        "dead letters",
        "warn",
        f"{counted(sum(row[1] for row in rows), 'record')} refused ({steps}), the latest at "
        f"{newest:%Y-%m-%d %H:%M:%S} UTC",
        'see why: `marlin sql "SELECT step, reason, count(*) FROM dead_letters GROUP BY ALL"`',
    )
