"""Positions on a lake: appended, and guarded so that of two owners of a partition one wins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from marlin.errors import SinkConflictError, SinkError
from marlin.sinks.batch import TopicPartition
from marlin.sinks.lake import parts
from marlin.sinks.positions import Moving, Positions

__all__ = ["LakePositions"]


class LakePositions(Positions):
    """As `Positions`, on the views and part tables of a lake.

    `store` and `make` move the turn of what they touch. The turn is one row that both of two
    transactions would change, so that the later one cannot be committed: what they read of the
    positions is still true when they are.
    """

    def store(self, moved: Moving) -> None:
        """Append the positions that moved.

        Raises `SinkConflictError` when another sink has moved one of them since `bind`.
        """
        if not moved.changed:
            return
        for slot in sorted({where.partition % parts.SLOTS for _, where in moved.changed}):
            self._take_turn(parts.turn_table(slot))
        self._check_unmoved(moved)
        rows = [
            (self.source_id(where.topic), where.partition, kind, getattr(moved, kind)[where])
            for kind, where in sorted(moved.changed)
        ]
        values = ", ".join(["(?, ?, ?, ?, now(), false)"] * len(rows))
        self._connection.execute(
            f"INSERT INTO parts.positions VALUES {values}", [item for row in rows for item in row]
        )

    def _check_unmoved(self, moved: Moving) -> None:
        held = self.moving()
        stored = self._stored({self.source_id(where.topic) for _, where in moved.changed})
        for kind, where in sorted(moved.changed):
            key = (kind, self.source_id(where.topic), where.partition)
            expected = getattr(held, kind).get(where, 0)
            found = stored.get(key, 0)
            if found != expected:
                raise SinkConflictError(_conflict(kind, where, expected, found))

    def _stored(self, source_ids: set[int]) -> dict[tuple[str, int, int], int]:
        rows: list[tuple[Any, ...]] = self._connection.execute(
            "SELECT kind, source_id, partition, next_offset FROM positions "
            f"WHERE source_id IN ({', '.join(map(str, sorted(source_ids)))})"
        ).fetchall()
        return {(kind, source, number): offset for kind, source, number, offset in rows}

    def make(self, topics: Iterable[str]) -> dict[str, int]:
        """As `Positions.make`; a topic that another sink has made meanwhile is found."""
        return {
            topic: self._find(topic, None) or self._make(topic, None) for topic in sorted(topics)
        }

    def _make(self, topic: str, topic_id: str | None) -> int:
        if self._cluster_id is None:
            raise SinkError("bind() must say which cluster a batch is from before it is applied")
        self._take_turn("parts.turns_sources")
        row = self._connection.execute("SELECT coalesce(max(source_id), 0) + 1 FROM sources")
        ((source_id,),) = row.fetchall()
        self._connection.execute(
            "INSERT INTO sources VALUES (?, ?, ?, ?, now())",
            [source_id, self._cluster_id, topic, topic_id],
        )
        return int(source_id)

    def _take_turn(self, table: str) -> None:
        self._connection.execute(f"UPDATE {table} SET turn = turn + 1")


def _conflict(kind: str, where: TopicPartition, expected: int, found: int) -> str:
    return (
        f"another sink took in {where.topic}-{where.partition}: expected its position ({kind}) at "
        f"{expected}, found {found}; nothing of the batch was stored. Reading goes on from the "
        "positions that are there now"
    )
