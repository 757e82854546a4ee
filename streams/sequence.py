"""Producers' duplicates and gaps, told by `seq`. Pure, bounded."""

from __future__ import annotations

from typing import Any, Self

__all__ = ["POSITIONED", "PositionWindow", "SequenceWindow", "window_of"]

POSITIONED = "otlp:"
"""Begins the id of producers whose numbers are positions in a log (`marlin.streams.otel`)."""


MAX_GAPS = 64
"""Gaps remembered per producer and run; beyond it the oldest is given up as lost for good."""


class SequenceWindow:
    """Which sequence numbers of one producer and run have been seen.

    Numbers count up by 1 from 0. A repeated number is a duplicate; a skipped one is a gap, and
    may still arrive late. A number inside a gap that was given up counts as a duplicate: usage
    is rather reported as lost than counted twice.
    """

    __slots__ = ("gaps", "next")

    def __init__(self) -> None:
        self.next = 0
        """The number expected next."""
        self.gaps: tuple[tuple[int, int], ...] = ()
        """Missing numbers below `next`, as ranges `[start, end)`, ascending."""

    def accept(self, seq: int) -> bool:
        """Whether `seq` is new. True exactly once per number."""
        if seq == self.next:
            self.next = seq + 1
            return True
        if seq > self.next:
            self.gaps = (*self.gaps, (self.next, seq))[-MAX_GAPS:]
            self.next = seq + 1
            return True
        return self._fill(seq)

    def _fill(self, seq: int) -> bool:
        for index, (start, end) in enumerate(self.gaps):
            if start <= seq < end:
                rest = [part for part in ((start, seq), (seq + 1, end)) if part[0] < part[1]]
                gaps = (*self.gaps[:index], *rest, *self.gaps[index + 1 :])
                self.gaps = gaps[-MAX_GAPS:]
                return True
        return False

    def dump(self) -> list[Any]:
        """As JSON."""
        return [self.next, self.gaps]

    @classmethod
    def load(cls, dumped: list[Any]) -> Self:
        """What `dump` wrote."""
        window = cls()
        window.next = dumped[0]
        window.gaps = tuple((start, end) for start, end in dumped[1])
        return window


class PositionWindow(SequenceWindow):
    """Of a producer whose numbers are positions in a log: they only rise, and what lies between
    two of them belongs to other runs. Whatever is not above all seen is a duplicate."""

    __slots__ = ()

    def accept(self, seq: int) -> bool:
        """Whether `seq` is new. True at most once per number."""
        if seq < self.next:
            return False
        self.next = seq + 1
        return True


def window_of(producer_id: str) -> type[SequenceWindow]:
    """The kind of window for the numbers of a producer."""
    return PositionWindow if producer_id.startswith(POSITIONED) else SequenceWindow
