"""Making a database again from the topics, beside the old one, then in its place."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
from aiokafka import TopicPartition as KafkaPartition

from marlin.broker.cluster import Cluster, connect
from marlin.broker.offsets import log_bounds
from marlin.errors import ConfigurationError, SinkError
from marlin.settings import Settings
from marlin.sinks.batch import Applied, Batch, TopicPartition
from marlin.sinks.consumer import SinkConsumer
from marlin.sinks.database import DatabaseLockedError, open_database
from marlin.sinks.discovery import find_server
from marlin.sinks.duckdb_sink import DuckDBSink
from marlin.sinks.identity import Identity, identity_of
from marlin.sinks.inventory import Holdings, Inventory, irrecoverable, take_inventory
from marlin.sinks.sink import Sink
from marlin.topics import Topics

__all__ = ["Rebuilt", "kept_path", "rebuild"]

_LOCK_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of it."""

    before: Holdings | None
    """What the old database held; None when there was none, or it could not be read."""
    after: Holdings
    kept: Path | None
    """Where the old database is now."""
    lost: tuple[str, ...]
    """What the old one held and the new one does not; empty unless forced."""


@dataclass(frozen=True, slots=True)
class _Logs:
    """The topics as they are when the rebuild starts."""

    identity: Identity
    begins: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]

    @property
    def records(self) -> int:
        return sum(end - self.begins[where] for where, end in self.ends.items())


def kept_path(database: Path) -> Path:
    """Where the old database goes."""
    return database.with_name(database.name + ".before-rebuild")


async def rebuild(
    settings: Settings,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    warn: Callable[[str], None] = lambda _text: None,
) -> Rebuilt:
    """Build `settings.database_path` anew from the carbon, commands, dead-letter and grid topics.

    They are read from their beginning to where they end when this starts. The old file stays in
    its place until the new one is whole, and is kept as `kept_path`; no sink can start meanwhile.
    `progress` is called with records read and records to read.

    Raises `SinkError`, with nothing changed, when a sink owns the database, or, unless `force`,
    when an older file was kept already, or the topics do not hold everything that the old file
    has; forced, `warn` is called with each loss before anything is done.
    """
    database = settings.database_path
    _refuse_if_owned(database)
    if kept_path(database).exists() and not force:
        raise SinkError(
            f"{kept_path(database)} is there already, from an earlier rebuild; nothing was "
            "changed. Move it away, or let --force replace it"
        )
    cluster = await connect(settings)
    logs = await _logs(cluster, Topics(settings.kafka.topic_prefix))
    with _held(database) as (inventory, damage):
        lost = [damage] if damage else []
        lost += irrecoverable(inventory, logs.identity, logs.begins, logs.ends) if inventory else []
        _tell(lost, force, warn)
        new = database.with_name(database.name + ".rebuilding")
        _remove_left_over(new)
        try:
            after = await _build(new, cluster, settings, logs, progress)
            before = inventory.holdings if inventory else None
            fewer = _fewer(before, after)
            if fewer and not lost:
                _tell(fewer, force, warn)
            kept = _swap(new, database)
        except BaseException:
            _remove(new)
            raise
    return Rebuilt(before, after, kept, tuple(lost or fewer))


def _refuse_if_owned(database: Path) -> None:
    owner = find_server(database)
    if owner:
        raise SinkError(
            f"{database} belongs to the running sink, process {owner.pid}; nothing was changed. "
            "Stop it (`marlin up` or `marlin sink`), rebuild, and start it again"
        )


async def _logs(cluster: Cluster, topics: Topics) -> _Logs:
    read = (topics.carbon, topics.commands, topics.deadletter, topics.grid)
    identity = await identity_of(cluster, (*read, topics.events))
    missing = sorted({*read, topics.events} - {topics.grid} - identity.topics.keys())
    if missing:
        raise ConfigurationError(
            f"the cluster at {cluster.bootstrap_servers} has no topics {', '.join(missing)}: "
            "nothing to rebuild from, nothing was changed; is MARLIN_KAFKA__TOPIC_PREFIX right?"
        )
    partitions = [
        KafkaPartition(topic, number)
        for topic in read
        if topic in identity.topics
        for number in identity.topics[topic].partitions
    ]
    begins, ends = await log_bounds(cluster, partitions)
    return _Logs(identity, _ours(begins), _ours(ends))


def _ours(offsets: Mapping[KafkaPartition, int]) -> dict[TopicPartition, int]:
    return {TopicPartition(*where): offset for where, offset in offsets.items()}


@contextmanager
def _held(database: Path) -> Generator[tuple[Inventory | None, str | None]]:
    """The old database, if any, held so that no sink opens it; or why it cannot be read."""
    if not database.exists():
        yield None, None
        return
    connection: duckdb.DuckDBPyConnection | None = None
    inventory, damage = None, None
    try:
        if _log_of(database).exists():
            # What a crash left in the log belongs into the file, before the file moves.
            open_database(database, wait_s=_LOCK_WAIT_S).close()
        connection = open_database(database, read_only=True, wait_s=_LOCK_WAIT_S)
        inventory = take_inventory(connection)
    except DatabaseLockedError:
        raise
    except SinkError as exc:
        damage = f"what {database} holds is unknown: {exc}"
    try:
        yield inventory, damage
    finally:
        if connection is not None:
            connection.close()


def _tell(lost: Iterable[str], force: bool, warn: Callable[[str], None]) -> None:
    told = list(lost)
    if told and not force:
        raise SinkError(
            "the topics no longer hold everything that the database has: "
            + "; ".join(told)
            + ". Nothing was changed; with --force it is rebuilt without that"
        )
    for text in told:
        warn(text)


async def _build(
    new: Path,
    cluster: Cluster,
    settings: Settings,
    logs: _Logs,
    progress: Callable[[int, int], None],
) -> Holdings:
    sink = await asyncio.to_thread(DuckDBSink, new, limits=settings.sink)
    try:
        watched = _Watched(sink, logs, progress)
        stop = asyncio.Event()
        stop.set()  # from the start: then it reads what the topics hold, and ends
        await SinkConsumer(cluster, settings, watched).run(stop)
        watched.check()
        return (await asyncio.to_thread(take_inventory, sink.cursor())).holdings
    finally:
        await asyncio.to_thread(sink.close)


class _Watched:
    """A sink that tells how far it is."""

    def __init__(self, sink: Sink, logs: _Logs, progress: Callable[[int, int], None]) -> None:
        self._sink = sink
        self._logs = logs
        self._progress = progress
        self._reached = dict(logs.begins)

    def bind(self, identity: Identity) -> dict[TopicPartition, int]:
        if not identity.is_same_logs(self._logs.identity):
            raise SinkError("the topics were recreated during the rebuild; nothing was changed")
        return self._sink.bind(identity)

    def apply(self, batch: Batch) -> Applied:
        applied = self._sink.apply(batch)
        self._reached |= batch.next_offsets
        done = sum(
            min(self._reached[where], end) - self._logs.begins[where]
            for where, end in self._logs.ends.items()
        )
        self._progress(done, self._logs.records)
        return applied

    def close(self) -> None:
        self._sink.close()

    def check(self) -> None:
        """Raise `SinkError` unless everything was read."""
        behind = [
            f"{where.topic}-{where.partition} (at {self._reached[where]} of {end})"
            for where, end in self._logs.ends.items()
            if self._reached[where] < end
        ]
        if behind:
            raise SinkError(
                f"the topics could not be read to their ends: {', '.join(behind)}; nothing was "
                "changed, try again"
            )


def _fewer(before: Holdings | None, after: Holdings) -> list[str]:
    """Where the new database has less than the old one. Measures are left out: they may be
    estimates of another factor set."""
    if before is None:
        return []
    old, new = before.to_dict(), after.to_dict()
    return [
        f"the topics give {new[name]:,} {name}, the database has {old[name]:,}"
        for name in ("events", "runs", "commands", "input_tokens", "output_tokens")
        if new[name] < old[name]
    ]


def _remove_left_over(new: Path) -> None:
    """Remove what a rebuild that was killed left behind; refuses while another one runs."""
    if new.exists():
        try:
            open_database(new).close()
        except DatabaseLockedError:
            raise
        except SinkError:
            pass  # half a file
        _remove(new)


def _remove(database: Path) -> None:
    database.unlink(missing_ok=True)
    _log_of(database).unlink(missing_ok=True)


def _log_of(database: Path) -> Path:
    return database.with_name(database.name + ".wal")


def _swap(new: Path, database: Path) -> Path | None:
    """Put `new` in the place of `database`, which there is at every moment; keep the old one."""
    kept = kept_path(database)
    try:
        if not database.exists():
            os.link(new, database)  # not replace: fails if a sink has made one meanwhile
            new.unlink()
            return None
        kept.unlink(missing_ok=True)
        os.link(database, kept)
        if _log_of(database).exists():  # of a damaged file, as it could not be read
            _log_of(database).replace(_log_of(kept))
        shutil.copymode(database, new)
        new.replace(database)
    except OSError as exc:
        raise SinkError(
            f"the rebuilt database could not be put in the place of {database}: {exc}; the old "
            "one is as it was"
        ) from exc
    return kept
