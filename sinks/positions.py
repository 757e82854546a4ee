"""How far each topic has been taken in, bound to the ids of the topics and their cluster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import duckdb

from marlin.errors import SinkError
from marlin.sinks import merge
from marlin.sinks.arrow import arrow
from marlin.sinks.batch import TopicPartition
from marlin.sinks.dedup import NextOffsets
from marlin.sinks.identity import Identity

__all__ = ["Moving", "Positions"]


@dataclass(slots=True)
class Moving:
    """Positions as they will be when the transaction is committed."""

    read: NextOffsets
    applied: NextOffsets
    refused: NextOffsets
    changed: set[tuple[str, TopicPartition]] = field(
        default_factory=set[tuple[str, TopicPartition]]
    )

    def advance(
        self, *, applied: tuple[NextOffsets, ...], refused: NextOffsets, read: NextOffsets
    ) -> None:
        """Move forward; positions never move back."""
        for kind, known, reached in (
            *(("applied", self.applied, offsets) for offsets in applied),
            ("refused", self.refused, refused),
            ("read", self.read, read),
        ):
            for where, offset in reached.items():
                if offset > known.get(where, 0):
                    known[where] = offset
                    self.changed.add((kind, where))


class Positions:
    """The tables `sources` and `positions`, and what of them holds for the bound cluster.

    Not thread-safe. `bind` and `store` are called inside of a transaction of the connection.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._cluster_id: str | None = None
        self._source_ids: dict[str, int] = {}
        self.read: NextOffsets = {}
        self._applied: NextOffsets = {}
        self._refused: NextOffsets = {}

    def bind(self, identity: Identity) -> None:
        """Continue what is known of these very topics, start anew for all others."""
        self._cluster_id = identity.cluster_id
        self._source_ids = {}
        for topic, found in identity.topics.items():
            self._source_ids[topic] = self._find(topic, found.topic_id) or self._make(
                topic, found.topic_id
            )
        # Topics that are met only as sources of derived records have no id.
        for source_id, topic in self._connection.execute(
            "SELECT source_id, topic FROM sources WHERE cluster_id = ? AND topic_id IS NULL "
            "ORDER BY source_id",
            [identity.cluster_id],
        ).fetchall():
            self._source_ids.setdefault(topic, source_id)
        self._load()

    def source_id(self, topic: str) -> int:
        """The source that this topic is now; `learn` must have met it."""
        return self._source_ids[topic]

    def unmet(self, topics: Iterable[str]) -> set[str]:
        """Those that are no source yet."""
        return set(topics) - self._source_ids.keys()

    def make(self, topics: Iterable[str]) -> dict[str, int]:
        """Add sources without a topic id; `learn` them once the transaction is committed."""
        return {topic: self._make(topic, None) for topic in sorted(topics)}

    def learn(self, made: dict[str, int]) -> None:
        """Hold what `make` added."""
        self._source_ids.update(made)

    def moving(self) -> Moving:
        """A copy to move."""
        return Moving(dict(self.read), dict(self._applied), dict(self._refused))

    def store(self, moved: Moving) -> None:
        """Write the positions that moved."""
        if not moved.changed:
            return
        rows = [
            (self.source_id(where.topic), where.partition, kind, getattr(moved, kind)[where])
            for kind, where in sorted(moved.changed)
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        names = ["source_id", "partition", "kind", "next_offset"]
        self._connection.register("batch_positions", arrow.table(columns, names=names))
        try:
            self._connection.execute(merge.MERGE_POSITIONS)
        finally:
            self._connection.unregister("batch_positions")

    def become(self, moved: Moving) -> None:
        """Hold what was committed."""
        self.read, self._applied, self._refused = moved.read, moved.applied, moved.refused

    def _find(self, topic: str, topic_id: str | None) -> int | None:
        row = self._connection.execute(
            "SELECT max(source_id) FROM sources WHERE cluster_id = ? AND topic = ? "
            "AND topic_id IS NOT DISTINCT FROM ?",
            [self._cluster_id, topic, topic_id],
        ).fetchone()
        return row[0] if row else None

    def _make(self, topic: str, topic_id: str | None) -> int:
        if self._cluster_id is None:
            raise SinkError("bind() must say which cluster a batch is from before it is applied")
        row = self._connection.execute(
            "INSERT INTO sources SELECT coalesce(max(source_id), 0) + 1, ?, ?, ?, now() "
            "FROM sources RETURNING source_id",
            [self._cluster_id, topic, topic_id],
        ).fetchone()
        return int(row[0]) if row else 0

    def _load(self) -> None:
        topics = {source_id: topic for topic, source_id in self._source_ids.items()}
        kinds: dict[str, NextOffsets] = {"read": {}, "applied": {}, "refused": {}}
        rows = self._connection.execute(
            "SELECT kind, source_id, partition, next_offset FROM positions"
        ).fetchall()
        for kind, source_id, partition, next_offset in rows:
            if source_id in topics:
                kinds[kind][TopicPartition(topics[source_id], partition)] = next_offset
        self.read, self._applied, self._refused = (
            kinds["read"],
            kinds["applied"],
            kinds["refused"],
        )
