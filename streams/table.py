"""The run table: a Faust table whose rows live in `Partition` objects.

Faust assigns its changelog partitions along with the source's, and reads them back after a
rebalance. Writing the changelog is the publisher's: one record batch per batch of events.
"""

# Faust's own annotations leave type arguments open, which strict mode reports at every use.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

import faust
from faust.types import TP

from marlin.errors import StateError
from marlin.streams.partition import Partition
from marlin.streams.transport import Batch

__all__ = ["RunTable"]

_log = logging.getLogger(__name__)


class RunTable(faust.Table[Any, Any]):
    """Partitions of the run table that this worker holds, active and standby."""

    def __init__(self, app: faust.App, *, new_partition: Callable[[int], Partition], **kw: Any):
        # A buffer of 1 would make Faust go on reading the changelog after recovery.
        super().__init__(app, recovery_buffer_size=2, **kw)
        self.partitions_held: dict[int, Partition] = {}
        self._new_partition = new_partition

    def partition(self, number: int) -> Partition:
        """The partition `number`, empty if nothing of it was recovered."""
        held = self.partitions_held.get(number)
        if held is None:
            held = self.partitions_held[number] = self._new_partition(number)
        return held

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Merge recovered records. Faust would only log an error here and carry on with half a
        table, so an error stops the worker instead."""
        try:
            for event in batch:
                partition = self.partition(event.message.partition)
                for record in cast(Batch, event.message.value).records:
                    partition.recover(record.key or b"", record.value)
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
        """Drop the partitions that left; what arrives is recovered from the changelog."""
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        topic = self.changelog_topic.get_topic_name()
        kept = {tp.partition for tp in assigned if tp.topic == topic}
        for number in [number for number in self.partitions_held if number not in kept]:
            del self.partitions_held[number]
