"""The ordering guard: a batch is handled only where the one before it ended. Pure.

Positions alone would turn a hole into silent loss: when Faust drops a queued batch during a
rebalance, the next one raises the position past it. So every batch is checked, and a hole is
read again.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Guard", "Verdict"]


class Verdict(Enum):
    """What to do with a batch."""

    HANDLE = "handle"
    """It continues (or repeats) what was handled."""
    DROP = "drop"
    """It was fetched before our seek and comes again."""
    SEEK = "seek"
    """Something before it is missing: seek to the position expected, drop it."""


class Guard:
    """Checks the batches of one partition.

    Every batch carries the epoch of its partition: a number that every seek raises, so that a
    batch fetched before a seek is told from one fetched after it.
    """

    def __init__(self) -> None:
        self._sought_epoch: int | None = None
        self._sought_offset = -1

    def check(self, *, expected: int, first: int, epoch: int) -> Verdict:
        """Judge a batch whose first offset is `first`, when `expected` would come next.

        A batch that starts later than expected is a hole, unless it is the first one after our
        own seek to exactly that offset: then the log itself has a gap (compaction, retention,
        transaction markers).
        """
        if self._sought_epoch is not None and epoch < self._sought_epoch:
            return Verdict.DROP
        if first <= expected:
            return Verdict.HANDLE
        if epoch == self._sought_epoch and expected == self._sought_offset:
            return Verdict.HANDLE
        return Verdict.SEEK

    def sought(self, offset: int, epoch: int) -> None:
        """A seek to `offset` was made; batches from `epoch` on were fetched after it."""
        self._sought_offset = offset
        self._sought_epoch = epoch
