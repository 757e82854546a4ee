"""Reading the accounts that `marlin.reconcile` compares: table, carbon topic, database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from pydantic import TypeAdapter, ValidationError

from marlin.broker.cluster import Cluster
from marlin.broker.offsets import log_bounds
from marlin.broker.reading import Record, read_log
from marlin.errors import QueryError
from marlin.query import query
from marlin.reconcile import Account, Difference, Lives, Log, Seen, Sums, compare
from marlin.schemas import Carbon, CarbonRecord, SourcePosition
from marlin.settings import Settings
from marlin.sinks.identity import Identity
from marlin.streams.run import Run
from marlin.topics import Topics

__all__ = ["CarbonReader", "Reconciled", "Snapshot", "read_snapshot", "reconcile"]

_COUNTS = tuple(Sums.__slots__)
_TOKENS = ", ".join(f"sum({name})::BIGINT" for name in _COUNTS[1:])

# Sources that the carbon topic, as it exists now, can have brought. A name may have been several
# topics; where carbon was recreated as well, what came from the older ones is on no topic.
_OF_THIS_CLUSTER = """
    s.cluster_id = $cluster AND (s.topic_id IS NULL OR s.topic_id = $events_id
        OR (SELECT count(*) FROM sources WHERE cluster_id = $cluster AND topic = $carbon) <= 1)
"""

# One statement, hence one snapshot: all of it is of the same moment between two batches.
_SNAPSHOT = f"""
SELECT 'events' AS account, run_id, agent_id, count(*), {_TOKENS} FROM events GROUP BY ALL
UNION ALL SELECT 'runs', run_id, NULL, {", ".join(_COUNTS)} FROM runs
UNION ALL SELECT 'agents', run_id, agent_id, {", ".join(_COUNTS)} FROM agents
UNION ALL SELECT 'hourly', NULL, NULL, sum(calls)::BIGINT, {_TOKENS} FROM hourly
UNION ALL SELECT 'applied', s.topic, NULL, p.partition, max(p.next_offset), 0, 0, 0, 0
    FROM positions AS p JOIN sources AS s USING (source_id)
    WHERE p.kind = 'applied' AND {_OF_THIS_CLUSTER} GROUP BY s.topic, p.partition
"""

# Events are never changed, so a range of positions gives the same whenever it is asked.
_EVENTS = f"""
SELECT e.run_id, e.agent_id, count(*), {_TOKENS}
FROM events AS e JOIN sources AS s USING (source_id)
JOIN (SELECT unnest($topics::VARCHAR[]) AS topic, unnest($partitions::INTEGER[]) AS partition,
        unnest($lowest::BIGINT[]) AS lowest, unnest($past::BIGINT[]) AS past) AS b
    ON s.topic = b.topic AND e.source_partition = b.partition
WHERE {_OF_THIS_CLUSTER} AND e.source_offset >= b.lowest AND e.source_offset < b.past
GROUP BY ALL
"""

_CARBON = TypeAdapter[Any](CarbonRecord)


@dataclass(slots=True)
class Snapshot:
    """What the database said at one moment."""

    events: Account = field(default_factory=Account)
    runs: Account = field(default_factory=Account)
    agents: Account = field(default_factory=Account)
    hourly: Sums = field(default_factory=Sums)
    applied: dict[Log, int] = field(default_factory=dict[Log, int])
    """One above the last offset of the events topic that is in it."""
    removed: int = 0
    """Calls that were removed from the ledger; the other tables still count them [count]."""

    def differences(self) -> list[Difference]:
        """Where its own tables differ."""
        if self.removed:
            return self._differences_of_totals()
        against = "DuckDB events"
        hourly = {"(all runs)": self.hourly}
        total = {"(all runs)": self.events.total}
        return [
            *compare("DuckDB runs", self.runs, against, Account(runs=self.events.runs)),
            *compare("DuckDB agents", self.agents, against, Account(agents=self.events.agents)),
            *compare("DuckDB hourly", Account(runs=hourly), against, Account(runs=total)),
        ]

    def _differences_of_totals(self) -> list[Difference]:
        """The same without the ledger, which no longer has all calls."""
        against = "DuckDB runs"
        agents = Account()
        for (run_id, _), sums in self.agents.agents.items():
            agents.runs.setdefault(run_id, Sums()).add_all(sums)
        # A run without a call has no agent.
        called = {run_id: sums for run_id, sums in self.runs.runs.items() if sums.calls}
        hourly = {"(all runs)": self.hourly}
        total = {"(all runs)": self.runs.total}
        return [
            *compare("DuckDB agents", agents, against, Account(runs=called)),
            *compare("DuckDB hourly", Account(runs=hourly), against, Account(runs=total)),
        ]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What comparing everything gave."""

    differences: list[Difference]
    calls: int
    """Calls on the carbon topic [count]."""
    repeated: int
    """Records on it that a worker published again, which readers drop [count]."""
    unreadable: int
    """Records on it that are none of ours [count]."""
    cut: int
    """Runs of the table whose beginning retention has removed from it [count]."""
    removed: int = 0
    """Calls that were removed from the ledger: then its rows are not compared [count]."""


def read_snapshot(settings: Settings, identity: Identity, topics: Topics) -> Snapshot:
    """All accounts of the database at one moment. Raises `SinkError`."""
    snapshot = Snapshot()
    for account, run_id, agent_id, *sums in _ask(settings, _SNAPSHOT, _names(identity, topics)):
        match account:
            case "events":
                snapshot.events.runs.setdefault(run_id, Sums()).add_all(Sums(*sums))
                snapshot.events.agents[run_id, agent_id] = Sums(*sums)
            case "runs":
                snapshot.runs.runs[run_id] = Sums(*sums)
            case "agents":
                snapshot.agents.agents[run_id, agent_id] = Sums(*sums)
            case "applied":
                snapshot.applied[Log(run_id, sums[0])] = sums[1]
            case _:
                snapshot.hourly = Sums(*(amount or 0 for amount in sums))
    snapshot.removed = _removed(settings)
    return snapshot


def _removed(settings: Settings) -> int:
    # A file that no sink of this Marlin has opened yet has no such table.
    tables = "SELECT 1 FROM duckdb_tables() WHERE table_name = 'ledger_removals'"
    if not _ask(settings, tables, {}):
        return 0
    removals = "SELECT sum(row_count)::BIGINT FROM ledger_removals WHERE removed_from = 'events'"
    return _ask(settings, removals, {})[0][0] or 0


def _names(identity: Identity, topics: Topics) -> dict[str, Any]:
    return {
        "cluster": identity.cluster_id,
        "events_id": identity.topics[topics.events].topic_id,
        "carbon": topics.carbon,
    }


def _ask(settings: Settings, sql: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
    result = query(sql, params, settings=settings)
    if result.truncated:
        raise QueryError(
            f"more than {len(result.rows)} runs and agents to compare: raise "
            "MARLIN_SINK__QUERY_MAX_ROWS, or look without comparing (--fast)"
        )
    return result.rows


class CarbonReader:
    """Adds up the carbon topic, up to where the table and the database are."""

    def __init__(self, runs: Mapping[str, Run], applied: Mapping[Log, int]) -> None:
        self.account = Account()
        """Every call."""
        self.taken_in = Account()
        """The calls that the database has come to."""
        self.lives = Lives(runs)
        self.seen = Seen()
        self.unreadable = 0
        self._applied = applied

    def read(self, records: Iterable[Record]) -> None:
        """Take records of one partition, in their order."""
        for record in records:
            try:
                carbon: CarbonRecord = _CARBON.validate_json(record.value or b"")
            except ValidationError:
                self.unreadable += 1
                continue
            source = SourcePosition.parse(carbon.source)
            if self.seen.is_new(source) and isinstance(carbon, Carbon):
                self.account.add(carbon.usage)
                self.lives.add(carbon, source)
                if source.offset < self._applied.get(Log(source.topic, source.partition), 0):
                    self.taken_in.add(carbon.usage)


async def reconcile(
    settings: Settings, cluster: Cluster, identity: Identity, runs: Mapping[str, Run]
) -> Reconciled:
    """Compare the table's `runs`, the carbon topic and, if there is one, the database.

    `runs` must have been read before, so that the topic has everything that they count. Raises
    `BrokerError` and `SinkError` when something cannot be read.
    """
    topics = Topics(settings.kafka.topic_prefix)
    has_database = settings.database_path.exists()
    snapshot = Snapshot()
    if has_database:
        snapshot = await asyncio.to_thread(read_snapshot, settings, identity, topics)
    numbers = identity.topics[topics.carbon].partitions
    reader = CarbonReader(runs, snapshot.applied)
    async for records in read_log(cluster, topics.carbon, numbers):
        reader.read(records)
    begins, _ = await log_bounds(cluster, [TopicPartition(topics.carbon, n) for n in numbers])
    is_whole = not any(begins.values())
    found = [*reader.lives.differences(is_whole=is_whole), *snapshot.differences()]
    if has_database and not snapshot.removed:
        events = await asyncio.to_thread(
            _events_between, settings, _names(identity, topics), reader.seen, snapshot.applied
        )
        found += compare("DuckDB events", events, "carbon topic", reader.taken_in)
    return Reconciled(
        found,
        calls=reader.account.total.calls,
        repeated=reader.seen.repeated,
        unreadable=reader.unreadable,
        cut=0 if is_whole else reader.lives.cut,
        removed=snapshot.removed,
    )


def _events_between(
    settings: Settings, names: dict[str, Any], seen: Seen, applied: Mapping[Log, int]
) -> Account:
    """The event rows from where the carbon topic begins to where the database had come."""
    logs = [log for log in applied if log in seen.bounds]
    params = names | {
        "topics": [log.topic for log in logs],
        "partitions": [log.partition for log in logs],
        "lowest": [seen.bounds[log].lowest for log in logs],
        "past": [applied[log] for log in logs],
    }
    account = Account()
    for run_id, agent_id, *sums in _ask(settings, _EVENTS, params):
        account.runs.setdefault(run_id, Sums()).add_all(Sums(*sums))
        account.agents[run_id, agent_id] = Sums(*sums)
    return account
