"""Events that wait on disk: one append-only file per process, sent later by it or by another.

The file begins with a magic number and the position of the first record that is not yet known
to be in Kafka. Each record after it is framed: length and checksum, then key and value. A process
that dies leaves its file behind; whoever locks it next sends what it holds. Records that were sent
and not noted down are sent again: the pipeline drops repeats by `(producer_id, run_id, seq)`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, Self

from marlin.settings import Settings

__all__ = ["Record", "SpillFile", "SpillFolder"]

log = logging.getLogger("marlin.runtime")

_MAGIC = b"MRLSPIL1"
_POSITION = struct.Struct("<Q")
_START = len(_MAGIC) + _POSITION.size
_FRAME = struct.Struct("<II")
"""Length and CRC-32 of what follows."""
_KEY = struct.Struct("<H")

MAX_RECORD_BYTES = 1024 * 1024
"""Largest frame [bytes]; the pipeline refuses events far below it. One read holds a whole one."""

SYNC_INTERVAL_S = 1.0
"""How often what was appended is forced to the disk [s]. A killed process loses nothing by it,
a power cut this much."""

_SUFFIX = ".spill"


class Record(NamedTuple):
    """An event as it goes to Kafka."""

    key: bytes
    """The run id."""
    value: bytes


class SpillFile:
    """One locked spill file. Not thread-safe; every method raises `OSError` when the disk does.

    Records come out in the order they went in. `position` is where the first one begins that
    `advance` has not passed.
    """

    def __init__(self, fd: int, path: Path, *, max_bytes: int) -> None:
        self.path = path
        self.pending = 0
        """Records appended here and not passed by `advance` [count]."""
        self._fd = fd
        self._max_bytes = max_bytes
        self.position = _START
        self.end = _START
        """Where the next record goes; the file's size [bytes]."""
        self._synced_s = time.monotonic()

    @classmethod
    def create(cls, path: Path, *, max_bytes: int) -> Self:
        """A new file, locked. Raises `OSError`, `FileExistsError` among them."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if not _is_at(fd, path):
            # Another process locked it in between, took it for an empty leftover, removed it.
            os.close(fd)
            raise FileExistsError(f"{path} was removed while it was made")
        os.pwrite(fd, _MAGIC + _POSITION.pack(_START), 0)
        return cls(fd, path, max_bytes=max_bytes)

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """The file of a process that has ended; None while that one lives, or another has it."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if not _is_at(fd, path):
            os.close(fd)
            return None
        file = cls(fd, path, max_bytes=0)
        file.end = os.fstat(fd).st_size
        file._read_header()
        return file

    @property
    def damaged(self) -> bool:
        """Whether what begins at `position` cannot be read: a torn end, or a damaged disk."""
        return self.end > self.position and not self.read(1)[0]

    def has_room_for(self, records: Sequence[Record]) -> bool:
        """Whether `append` would take all of them."""
        return self.end + sum(map(_size, records)) <= self._max_bytes

    def append(self, records: Sequence[Record]) -> int:
        """Add records as far as there is room; returns how many. All of them or none that were
        counted are in the file, even when the disk is full half way."""
        frames: list[bytes] = []
        end = self.end
        for record in records:
            if end + _size(record) > self._max_bytes:
                break
            frames.append(_frame(record))
            end += _size(record)
        try:
            _write(self._fd, b"".join(frames), self.end)
        except OSError:
            os.ftruncate(self._fd, self.end)
            raise
        self.end = end
        self.pending += len(frames)
        if time.monotonic() - self._synced_s > SYNC_INTERVAL_S:
            os.fsync(self._fd)
            self._synced_s = time.monotonic()
        return len(frames)

    def read(self, limit: int) -> tuple[list[Record], int]:
        """The next records from `position` on, `limit` at most, and where they end. None when
        there are no more, or the rest is `damaged`."""
        data = os.pread(self._fd, MAX_RECORD_BYTES, self.position)
        records: list[Record] = []
        at = 0
        while len(records) < limit:
            body = _body(data, at)
            if body is None:
                break
            (key_bytes,) = _KEY.unpack_from(body)
            start = _KEY.size + key_bytes
            records.append(Record(body[_KEY.size : start], body[start:]))
            at += _FRAME.size + len(body)
        return records, self.position + at

    def advance(self, end: int, count: int) -> None:
        """Note down that the `count` records before `end` are in Kafka."""
        self.pending -= count
        self.position = end
        if end >= self.end:
            self.clear()
        else:
            os.pwrite(self._fd, _POSITION.pack(end), len(_MAGIC))

    def clear(self) -> None:
        """Empty the file."""
        # In this order: a position beyond the end would later hide records that are appended.
        os.pwrite(self._fd, _POSITION.pack(_START), len(_MAGIC))
        os.ftruncate(self._fd, _START)
        self.position = self.end = _START
        self.pending = 0

    def close(self) -> None:
        """Unlock it. Removes it when nothing is left in it."""
        if self.end <= self.position:
            self.path.unlink(missing_ok=True)
        else:
            os.fsync(self._fd)
        os.close(self._fd)

    def abandon(self) -> None:
        """Let go of it in a forked child; the parent's lock stays."""
        os.close(self._fd)

    def _read_header(self) -> None:
        header = os.pread(self._fd, _START, 0)
        if len(header) < _START or not header.startswith(_MAGIC):
            # Not ours, or its process died while making it: nothing in it can be read.
            self.position = min(len(header), self.end)
            return
        (position,) = _POSITION.unpack_from(header, len(_MAGIC))
        self.position = position if _START <= position <= self.end else _START


class SpillFolder:
    """The spill files of all processes that send to one destination."""

    def __init__(self, settings: Settings) -> None:
        kafka = settings.kafka
        self.path = settings.spill_path
        self._max_bytes = settings.runtime.spill_max_bytes
        # Files of another cluster or prefix in the same folder are not for us to send. The
        # embedded broker's address changes with each start; it is one destination.
        destination = f"{kafka.bootstrap_servers or ''}\0{kafka.topic_prefix}"
        self._prefix = blake2b(destination.encode(), digest_size=6).hexdigest()

    def create(self) -> SpillFile:
        """A new file of this process. Raises `OSError`."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{self._prefix}-{os.getpid()}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
        return SpillFile.create(self.path / name, max_bytes=self._max_bytes)

    def leftovers(self) -> Iterator[SpillFile]:
        """The files of processes that have ended, each locked; the caller closes them."""
        for path in sorted(self.path.glob(f"{self._prefix}-*{_SUFFIX}")):
            file = SpillFile.adopt(path)
            if file is not None:
                yield file


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _size(record: Record) -> int:
    return _FRAME.size + _KEY.size + len(record.key) + len(record.value)


def _frame(record: Record) -> bytes:
    body = _KEY.pack(len(record.key)) + record.key + record.value
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _body(data: bytes, at: int) -> bytes | None:
    """The body of the frame at `at`; None where no whole and sound one is."""
    if len(data) < at + _FRAME.size:
        return None
    length, crc = _FRAME.unpack_from(data, at)
    start = at + _FRAME.size
    body = data[start : start + length]
    sound = length >= _KEY.size and len(body) == length and zlib.crc32(body) == crc
    return body if sound else None


def _write(fd: int, data: bytes, at: int) -> None:
    while data:
        written = os.pwrite(fd, data, at)
        data, at = data[written:], at + written
