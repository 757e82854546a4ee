"""Events on their way, oldest first: a chunk under way, then the spill file, then memory."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from marlin.errors import DataError
from marlin.runtime.outgoing import OutgoingEvent
from marlin.runtime.spill import MAX_RECORD_BYTES, Record, SpillFile

__all__ = ["Backlog"]

log = logging.getLogger("marlin.runtime")

CHUNK_EVENTS = 1000
"""Most events taken at once; what arrives while they are sent goes out together next."""

LIFECYCLE_SHARE = 2
"""Lifecycle events are taken until the buffer holds this many times its capacity: a run whose
start or end is missing costs the pipeline more than a call that is missing from a run."""

LARGEST_EVENT_BYTES = MAX_RECORD_BYTES // 2


class Backlog:
    """What was emitted and is not yet known to be in Kafka, in order and within bounds.

    Any thread adds; one thread at a time does everything else. The order of what goes out is the
    order of `add`: whatever is in the file is older than whatever is in memory, and the chunk
    under way is the oldest of all.
    """

    def __init__(self, capacity: int, open_spill: Callable[[], SpillFile] | None) -> None:
        """`open_spill` is called when the file is first needed; None: nothing is spilled."""
        self._capacity = capacity
        self._open_spill = open_spill
        self._spill: SpillFile | None = None
        self._spill_is_full = False
        self._spill_failed = False
        self._lock = threading.Lock()
        self._buffer: deque[OutgoingEvent | Record] = deque()
        self._chunk: list[Record] = []
        self._chunk_end: int | None = None
        """Where the chunk ends in the file; None while it is in memory only."""
        self._chunk_size = 0
        self._wake: Callable[[], object] | None = None
        self.accepted = 0
        """Events taken in [count]."""
        self.settled = 0
        """Of these, delivered to Kafka or lost [count]."""
        self.refused = 0
        """Events dropped because there was no room [count]."""
        self.lost = 0
        """Events taken in that could not be encoded, or read back from the file [count]."""

    @property
    def spilled(self) -> int:
        """Events that wait in the file [count]."""
        return self._spill.pending if self._spill else 0

    @property
    def spill_file(self) -> SpillFile | None:
        """The file, once one was needed."""
        return self._spill

    @property
    def crowded(self) -> bool:
        """Whether memory is half full."""
        return len(self._buffer) * 2 > self._capacity

    def add(self, event: OutgoingEvent) -> None:
        """Take `event`, at once; where there is no room it is dropped, counted and logged."""
        limit = self._capacity if event.is_usage else self._capacity * LIFECYCLE_SHARE
        with self._lock:
            if len(self._buffer) < limit:
                self._buffer.append(event)
                self.accepted += 1
                if self._wake is not None:
                    wake, self._wake = self._wake, None
                    wake()
                return
            self.refused += 1
            first = self.refused == 1
        if first:
            log.error(
                "Kafka is away and %d events wait in memory, as many as may: further events are "
                "dropped; runs go on, local totals and budgets stay exact",
                self._capacity,
            )

    def wake_by(self, wake: Callable[[], object] | None) -> bool:
        """Have `wake` called once, when the next event comes. False: there are some already."""
        with self._lock:
            # Set only while asleep: waking a loop costs a system call, and an agent pays it.
            self._wake = wake
            return not self._buffer

    def take(self) -> list[Record]:
        """The oldest events: those under way if they were not all delivered, else the next."""
        if not self._chunk and self.spilled:
            self._take_from_file()
        if not self._chunk:
            self._chunk, self._chunk_end = self._take_from_memory(), None
        return self._chunk

    def settle(self, failed: list[Record]) -> None:
        """Of what `take` gave, all but `failed` is in Kafka."""
        with self._lock:
            self.settled += len(self._chunk) - len(failed)
        self._chunk = failed
        if not failed and self._chunk_end is not None and self._spill is not None:
            self._spill_is_full = False
            try:
                self._spill.advance(self._chunk_end, self._chunk_size)
            except OSError as exc:
                # Worst that comes of it: the records are sent again, and dropped as repeats.
                self._tell_failure(exc)
            self._chunk_end = None

    def secure(self) -> None:
        """Write what is only in memory to the file, as far as it has room."""
        if self._open_spill is None or self._spill_is_full or not (self._buffer or self._chunk):
            return
        try:
            self._spill = self._spill or self._open_spill()
            self._secure_in(self._spill)
            self._spill_failed = False
        except OSError as exc:
            self._tell_failure(exc)

    def close(self) -> None:
        """Put away what is left: on disk if possible. Nothing is taken or secured after it."""
        self.secure()
        if self._spill is not None:
            self._spill.close()
        self._open_spill = None

    def abandon(self) -> None:
        """Let go of the file in a forked child."""
        if self._spill is not None:
            self._spill.abandon()

    def _secure_in(self, spill: SpillFile) -> None:
        # The chunk first, though it is under way: if it fails it must not come after later ones.
        if self._chunk and self._chunk_end is None:
            if not spill.has_room_for(self._chunk):
                self._say_full(spill)
                return
            spill.append(self._chunk)
            self._chunk_end, self._chunk_size = spill.end, len(self._chunk)
        # No more than there is now: agents may add as fast as this takes away.
        for _ in range(0, len(self._buffer), CHUNK_EVENTS):
            records = self._take_from_memory()
            written = 0
            try:
                written = spill.append(records)
            finally:
                with self._lock:
                    self._buffer.extendleft(reversed(records[written:]))
            if written < len(records):
                self._say_full(spill)
                return

    def _take_from_file(self) -> None:
        assert self._spill is not None
        try:
            records, end = self._spill.read(CHUNK_EVENTS)
            if not records:
                raise OSError(f"{self._spill.path} is damaged at byte {self._spill.position}")
        except OSError as exc:
            with self._lock:
                self.lost += self.spilled
                self.settled += self.spilled
            log.error("%d events on disk cannot be read and are lost: %s", self.spilled, exc)
            self._spill.clear()
            return
        self._chunk, self._chunk_end, self._chunk_size = records, end, len(records)

    def _take_from_memory(self) -> list[Record]:
        with self._lock:
            count = min(len(self._buffer), CHUNK_EVENTS)
            events = [self._buffer.popleft() for _ in range(count)]
        records: list[Record] = []
        for event in events:
            try:
                records.append(_record(event))
            except Exception as exc:
                # Its writer is at fault; neither the events after it nor the agents suffer for it.
                log.error("an event cannot be sent and is lost: %s", exc, exc_info=exc)
                with self._lock:
                    self.lost += 1
                    self.settled += 1
        return records

    def _say_full(self, spill: SpillFile) -> None:
        self._spill_is_full = True
        log.warning(
            "%s is full (MARLIN_RUNTIME__SPILL_MAX_BYTES): further events wait in memory, up to "
            "%d of them",
            *(spill.path, self._capacity),
        )

    def _tell_failure(self, exc: OSError) -> None:
        if not self._spill_failed:
            log.warning(
                "events cannot be written to disk and wait in memory, up to %d of them: %s",
                *(self._capacity, exc),
            )
        self._spill_failed = True


def _record(event: OutgoingEvent | Record) -> Record:
    if isinstance(event, Record):
        return event
    record = Record(event.run_id.encode(), event.encode())
    if len(record.value) > LARGEST_EVENT_BYTES:
        raise DataError(f"an event of {len(record.value)} bytes, {LARGEST_EVENT_BYTES} may be")
    return record
