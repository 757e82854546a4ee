"""Playing traces back: files in order, at their pace, into a sender."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, Literal

from marlin.cli.sending import Sender
from marlin.errors import ConfigurationError, DataError
from marlin.replay import (
    BadLine,
    Message,
    Spread,
    TraceRow,
    read_events,
    read_trace,
    sniff,
)

__all__ = ["BadLines", "Playback", "Source", "open_sources"]

_MESSAGES_PER_TURN = 500
"""Between two looks at whether to stop."""

_BAD_LINES_KEPT = 10
_FLUSH_WHEN_STOPPED_S = 5.0

_COMPLETED: Final = ("completed", None)
_INTERRUPTED: Final = ("failed", "the replay was interrupted")


@dataclass(slots=True)
class BadLines:
    """How many lines were refused; the first of them."""

    count: int = 0
    first: list[tuple[Path, BadLine]] = field(default_factory=list[tuple[Path, BadLine]])

    def add(self, path: Path, line: BadLine) -> None:
        """Count one."""
        self.count += 1
        if len(self.first) < _BAD_LINES_KEPT:
            self.first.append((path, line))


@dataclass(frozen=True, slots=True)
class Source:
    """An open trace whose format is known and whose header is valid."""

    path: Path
    kind: Literal["csv", "jsonl"]
    file: BinaryIO
    items: Iterator[TraceRow | Message | BadLine]


def open_sources(paths: Sequence[Path], stack: ExitStack) -> list[Source]:
    """Open all files; they are closed with `stack`.

    Raises `DataError` when one cannot be read or has the wrong columns, before any is played.
    """
    sources: list[Source] = []
    for path in paths:
        try:
            file = stack.enter_context(path.open("rb"))
            kind = sniff(file)
            items = read_events(file) if kind == "jsonl" else read_trace(file)
        except OSError as exc:
            raise DataError(f"{path} cannot be read: {exc}; nothing was sent") from exc
        except DataError as exc:
            raise DataError(f"{path}: {exc}") from exc
        sources.append(Source(path, kind, file, items))
    return sources


class Playback:
    """One replay: what was read, and what has to be said about it."""

    def __init__(
        self, sources: Sequence[Source], spread: Spread | None, *, limit: int | None
    ) -> None:
        """`spread` makes runs of CSV rows and is needed when there are any."""
        if spread is None and any(source.kind == "csv" for source in sources):
            raise ConfigurationError("a CSV trace needs a model and a region; nothing was sent")
        self._sources = sources
        self._spread = spread
        self._limit = limit
        self._run_ids = set[str]()
        self._read_bytes_before = 0
        self._playing: Source | None = None
        self.rows = 0
        self.bad_lines = BadLines()

    @property
    def runs(self) -> int:
        """Runs that got messages."""
        return len(self._run_ids)

    @property
    def read_bytes(self) -> int:
        """How far the files were read [bytes]."""
        return self._read_bytes_before + (self._playing.file.tell() if self._playing else 0)

    async def play(
        self,
        sender: Sender,
        *,
        speed: float | None,
        stop: asyncio.Event,
        progress: Callable[[], None],
    ) -> None:
        """Send everything, as fast as possible or `speed` times as fast as it happened.

        Returns when all of it is acknowledged. After `stop` is set nothing more is read, the
        runs that were made are finished as failed, and what was sent is awaited for a short
        while. Raises `BrokerError`.
        """
        pace = _Pace(speed, sender, stop) if speed is not None else None
        for number, message in enumerate(self._messages(), start=1):
            if pace is not None:
                await pace.wait_for(message.time)
            if stop.is_set():
                break
            self._run_ids.add(message.run_id)
            if not sender.add(message):
                await sender.make_room()
            if pace is not None or number % _MESSAGES_PER_TURN == 0:
                progress()
                await asyncio.sleep(0)
        await self._finish(sender, interrupted=stop.is_set())
        progress()

    async def _finish(self, sender: Sender, *, interrupted: bool) -> None:
        if self._spread is not None:
            status = _INTERRUPTED if interrupted else _COMPLETED
            for end in self._spread.finish(*status):
                # A run whose first row was read but never sent did not start.
                if end.run_id in self._run_ids and not sender.add(end):
                    await sender.make_room()
        await sender.flush(timeout_s=_FLUSH_WHEN_STOPPED_S if interrupted else None)

    def _messages(self) -> Iterator[Message]:
        for source in self._sources:
            self._playing = source
            for item in source.items:
                if isinstance(item, BadLine):
                    self.bad_lines.add(source.path, item)
                    continue
                self.rows += 1
                yield from self._messages_of(item)
                if self.rows == self._limit:
                    return
            self._read_bytes_before += source.file.tell()
            self._playing = None

    def _messages_of(self, item: TraceRow | Message) -> Iterator[Message]:
        if isinstance(item, TraceRow):
            assert self._spread is not None  # refused by __init__
            yield from self._spread.messages(item)
        else:
            yield item


class _Pace:
    """Waits until a message is due, the first one being due at once."""

    def __init__(self, speed: float, sender: Sender, stop: asyncio.Event) -> None:
        self._speed = speed
        self._sender = sender
        self._stop = stop
        self._first: datetime | None = None
        self._started_s = time.monotonic()

    async def wait_for(self, moment: datetime) -> None:
        """Wait until `moment` of the trace has come, or until stopped."""
        if self._first is None:
            self._first = moment
        due_s = self._started_s + (moment - self._first).total_seconds() / self._speed
        wait_s = due_s - time.monotonic()
        if wait_s <= 0:
            return
        await self._sender.push()
        try:
            async with asyncio.timeout(wait_s):
                await self._stop.wait()
        except TimeoutError:
            return
