"""The run table: a Faust table whose rows live in `Partition` objects.

Faust assigns its changelog partitions along with the source's, and reads them back after a
rebalance. Writing the changelog is the publisher's: one record batch per batch of events.
"""

# Faust's own annotations leave type arguments open, which strict mode reports at every use.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, cast

import faust
from faust.types import TP

from marlin.errors import ConfigurationError, StateError
from marlin.streams.partition import Partition
from marlin.streams.transport import Batch

__all__ = ["RunTable"]

_log = logging.getLogger(__name__)


class RunTable(faust.Table[Any, Any]):
    """Partitions of the run table that this worker holds, active and standby."""

    def __init__(
        self,
        app: faust.App,
        *,
        new_partition: Callable[[int], Partition],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        **options: Any,
    ) -> None:
        # A buffer of 1 would make Faust go on reading the changelog after recovery.
        super().__init__(app, recovery_buffer_size=2, **options)
        self.partitions_held: dict[int, Partition] = {}
        self._new_partition = new_partition
        self._now = now
        self._applied: dict[int, int] = {}
        """Changelog offset up to which each partition held is known."""
        self._generation: int | None = None

    @property
    def recovered(self) -> int:
        """A number that changes while recovery moves."""
        return sum(self._applied.values())

    def partition(self, number: int) -> Partition:
        """The partition `number`, empty if nothing of it was recovered."""
        held = self.partitions_held.get(number)
        if held is None:
            held = self.partitions_held[number] = self._new_partition(number)
        return held

    def persisted_offset(self, tp: TP) -> int | None:
        """Where recovery goes on reading, so that a partition kept, or a standby that takes
        over, reads only what is new."""
        return self._applied.get(tp.partition)

    def written(self, number: int, offset: int, generation: int) -> None:
        """Our own rows up to changelog `offset` are durable.

        Ignored when a rebalance came in between: others may have written before them.
        """
        if generation == self._generation and not self.app.rebalancing:
            self._applied[number] = max(offset, self._applied.get(number, -1))

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Merge recovered records. Faust would only log an error here and carry on with half a
        table, so an error stops the worker instead."""
        try:
            now = self._now()
            for event in batch:
                number = event.message.partition
                partition = self.partition(number)
                for record in cast(Batch, event.message.value).records:
                    partition.recover(record.key or b"", record.value, now=now)
                self._applied[number] = max(event.message.offset, self._applied.get(number, -1))
        except Exception as exc:
            error = StateError(f"the run table cannot be read back: {exc!r}; the worker stops")
            error.__cause__ = exc
            _log.error("%s", error)
            self.add_future(self.app.crash(error))

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],
        newly_assigned: set[TP],
        generation_id: int = 0,
    ) -> None:
        """Drop the partitions that left; what arrives is recovered from the changelog.

        A worker that missed a generation was thrown out of the group: somebody else may have
        held its partitions meanwhile, so it drops them all.
        """
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        missed = self._generation is not None and generation_id != self._generation + 1
        self._generation = generation_id
        topic = self.changelog_topic.get_topic_name()
        kept = set[int]() if missed else {tp.partition for tp in assigned if tp.topic == topic}
        for number in self.partitions_held.keys() - kept:
            del self.partitions_held[number]
            self._applied.pop(number, None)
            cast(Any, self.app.tables).recovery.revoke(TP(topic, number))
        self._refuse_new_partitions(assigned)

    def _refuse_new_partitions(self, assigned: set[TP]) -> None:
        beyond = sorted({tp.partition for tp in assigned if tp.partition >= (self.partitions or 0)})
        if beyond:
            raise ConfigurationError(
                f"the topics have grown from {self.partitions} partitions to at least "
                f"{beyond[-1] + 1}: runs would be split between partitions; the worker stops. "
                "Let all runs finish, then start it again"
            )
