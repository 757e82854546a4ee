"""Streamed calls that somebody still reads, or has stopped reading without a word.

A stream that is dropped half way has used its tokens. Nobody calls anything then but the garbage
collector, and that at any moment: also while this thread holds a run's lock. So what is dropped
waits in a queue, and is settled at the next call, or when its run ends.
"""

from __future__ import annotations

import itertools
from queue import Empty, SimpleQueue
from typing import Protocol

__all__ = ["OPEN_CALLS", "OpenCall", "OpenCalls"]


class OpenCall(Protocol):
    """A call whose answer is still coming."""

    @property
    def run(self) -> object:
        """The run that it counts in."""
        ...

    def abandon(self) -> None:
        """Count what came so far. Never raises; does nothing for a settled call."""
        ...


class OpenCalls:
    """The open calls of this process. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._open: dict[int, OpenCall] = {}
        self._dropped: SimpleQueue[int] = SimpleQueue()
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, call: OpenCall) -> int:
        """Keep `call` until it is discarded or settled here; the number it goes by."""
        number = next(self._numbers)
        self._open[number] = call
        return number

    def discard(self, number: int) -> None:
        """It is settled. Repeating it changes nothing."""
        self._open.pop(number, None)

    def drop(self, number: int) -> None:
        """Nobody reads it any more. For finalizers: takes no lock and settles nothing."""
        self._dropped.put(number)

    def settle_dropped(self) -> None:
        """Settle what was dropped. Call it holding no lock; never raises."""
        while True:
            try:
                number = self._dropped.get_nowait()
            except Empty:
                return
            if call := self._open.pop(number, None):
                call.abandon()

    def settle_of(self, run: object) -> None:
        """Settle what is open in `run`, before it ends. Call it holding no lock; never raises."""
        self.settle_dropped()
        for number, call in list(self._open.items()):
            if call.run is run:
                self._open.pop(number, None)
                call.abandon()


OPEN_CALLS = OpenCalls()
"""Those of this process."""
