"""Reading recorded traces, and turning them into events. Pure: bytes in, messages out.

Two formats, one record a line:

- CSV with the columns `TIMESTAMP`, `ContextTokens` and `GeneratedTokens`, as the public Azure LLM
  inference traces have them; other columns are ignored. `Spread` makes runs out of the rows.
- JSONL with one event of ours a line, sent as it is.

A line that cannot be read is a `BadLine`; the lines around it are not affected.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import BinaryIO, Literal, NamedTuple

import orjson
from pydantic import ValidationError

from marlin.errors import ConfigurationError, DataError
from marlin.schemas import (
    EVENT,
    MAX_TOKENS,
    AbortAcknowledged,
    Event,
    RunFinished,
    RunStarted,
    Usage,
    dump,
)

__all__ = [
    "COLUMNS",
    "BadLine",
    "Message",
    "Spread",
    "Tokens",
    "TraceRow",
    "read_events",
    "read_trace",
    "sniff",
]

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
"""The columns that a CSV trace must have, in any order."""

MAX_LINE_BYTES = 1024 * 1024
"""A longer line is refused unread [bytes]; the largest event is a tenth of it."""

_PLAIN = (
    rb"(?P<time>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?)",
    rb"(?P<input>\d{1,9})",
    rb"(?P<output>\d{1,9})",
)
"""`COLUMNS` as they mostly are."""

_MOST_DIGITS = 18
_BOM = b"\xef\xbb\xbf"


class BadLine(NamedTuple):
    """A line that was refused, and why. Nothing of it is sent."""

    line: int
    """Counted from 1, the header included."""
    reason: str


class TraceRow(NamedTuple):
    """One model call of a CSV trace."""

    time: datetime
    """UTC, to the microsecond: further digits are cut off."""
    input_tokens: int
    output_tokens: int


Tokens = tuple[int, int, int, int]
"""Tokens of one usage event: input, cache reads, cache writes, output. A plain tuple: making a
million of them must not take a second."""


class Message(NamedTuple):
    """What goes to the events topic, keyed by its run."""

    run_id: str
    value: bytes
    time: datetime
    """When it happened; replaying at the original pace goes by it."""
    tokens: Tokens | None
    """None for lifecycle events."""


def sniff(file: BinaryIO) -> Literal["csv", "jsonl"]:
    """The format of a trace by its first character. Leaves `file` at its start."""
    start = file.read(4096).removeprefix(_BOM).lstrip()
    file.seek(0)
    return "jsonl" if start.startswith(b"{") else "csv"


def read_trace(file: BinaryIO) -> Iterator[TraceRow | BadLine]:
    """The rows of a CSV trace in the order of the file; blank lines are skipped.

    The header is read by the call itself, which raises `DataError` when a column is missing.
    """
    lines = _lines(file)
    _, header = next(lines, (1, b""))
    names = [name.strip() for name in _fields(header.removeprefix(_BOM)) or []]
    missing = [column for column in COLUMNS if names.count(column) != 1]
    if missing:
        raise DataError(
            f"the trace needs each of the columns {', '.join(COLUMNS)} once; its first line has "
            f"{', '.join(names)[:200] or 'none'}; nothing was sent"
        )
    at = tuple(names.index(column) for column in COLUMNS)
    return _rows(lines, at, len(names))


def read_events(file: BinaryIO) -> Iterator[Message | BadLine]:
    """The events of a JSONL file in its order, their bytes unchanged; blank lines are skipped."""
    for number, line in _lines(file):
        text = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
        if len(line) > MAX_LINE_BYTES:
            yield _too_long(number)
        elif text:
            try:
                event = EVENT.validate_json(text)
            except ValidationError as exc:
                yield BadLine(number, _first_error(exc))
            else:
                yield Message(event.run_id, text, _time_of(event), _tokens_of(event))


class Spread:
    """Runs made out of a trace: row after row goes to the next run, and in it to the next agent.

    Run ids are `<replay_id>-<n>` from 1, so they are new with every `replay_id`. A run is
    announced right before its first row.

    Raises `ConfigurationError` when `model`, `provider` or `region` are nothing an event can
    carry.
    """

    def __init__(
        self, replay_id: str, *, model: str, provider: str, region: str, runs: int, agents: int
    ) -> None:
        self._replay_id = replay_id
        self._run_ids = [f"{replay_id}-{number}" for number in range(1, runs + 1)]
        self._agent_ids = [f"agent-{number}" for number in range(1, agents + 1)]
        self._rows = count()
        self._last: dict[str, datetime] = {}
        self._shared = {
            "type": "usage",
            "producer_id": replay_id,
            "provider": provider,
            "model": model,
            "region": region,
        }
        self._check()

    def messages(self, row: TraceRow) -> Sequence[Message]:
        """What `row` becomes: its usage, before it the start of its run if it is the first."""
        index = next(self._rows)
        seq, number = divmod(index, len(self._run_ids))
        run_id = self._run_ids[number]
        usage = self._usage(row, index, seq, run_id)
        self._last[run_id] = row.time
        if seq:
            return (usage,)
        started = RunStarted(run_id=run_id, time=row.time, task="replay of a recorded trace")
        return (Message(run_id, dump(started), row.time, None), usage)

    def finish(
        self, status: Literal["completed", "failed"], reason: str | None = None
    ) -> Iterator[Message]:
        """The ends of the runs that were announced."""
        for run_id, time in self._last.items():
            finished = RunFinished(run_id=run_id, time=time, status=status, reason=reason)
            yield Message(run_id, dump(finished), time, None)

    def _usage(self, row: TraceRow, index: int, seq: int, run_id: str) -> Message:
        # Not through the model: a million rows would take seconds longer, and the checks that
        # depend on the row were done when it was read.
        value = orjson.dumps(
            {
                **self._shared,
                "event_id": f"{self._replay_id}-e{index}",
                "run_id": run_id,
                "agent_id": self._agent_ids[seq % len(self._agent_ids)],
                "seq": seq,
                "time": row.time,
                "input_tokens": row.input_tokens,
                "output_tokens": row.output_tokens,
            },
            option=orjson.OPT_UTC_Z,
        )
        return Message(run_id, value, row.time, (row.input_tokens, 0, 0, row.output_tokens))

    def _check(self) -> None:
        sample = self._usage(TraceRow(datetime.now(UTC), 0, 0), 0, 0, f"{self._replay_id}-1")
        try:
            EVENT.validate_json(sample.value)
        except ValidationError as exc:
            raise ConfigurationError(f"no event can say this: {_first_error(exc)}") from exc


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Numbered lines; of one that is too long only the start, a byte longer than allowed."""
    for number in count(1):
        line = file.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        yield number, line
        while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES + 1)


def _rows(
    lines: Iterator[tuple[int, bytes]], at: tuple[int, ...], width: int
) -> Iterator[TraceRow | BadLine]:
    plain = _plain(at, width)
    for number, line in lines:
        match = plain.fullmatch(line)
        # Most lines; the others are read with care, to the same result or to a reason.
        row = _plain_row(*match.group("time", "input", "output")) if match else None
        if row is not None:
            yield row
        elif len(line) > MAX_LINE_BYTES:
            yield _too_long(number)
        elif line.strip():
            try:
                yield _row(line, at, width)
            except ValueError as exc:
                yield BadLine(number, str(exc))


def _plain(at: tuple[int, ...], width: int) -> re.Pattern[bytes]:
    """Lines without quotes, spaces and time zones."""
    fields = [rb"[^,\"]*"] * width
    for index, field in zip(at, _PLAIN, strict=True):
        fields[index] = field
    return re.compile(b",".join(fields) + rb"\r?\n?")


def _plain_row(time: bytes, input_tokens: bytes, output_tokens: bytes) -> TraceRow | None:
    row_input, row_output = int(input_tokens), int(output_tokens)
    if row_input > MAX_TOKENS or row_output > MAX_TOKENS:
        return None
    try:
        return TraceRow(datetime.fromisoformat(f"{time.decode()}+00:00"), row_input, row_output)
    except ValueError:
        return None


def _row(line: bytes, at: tuple[int, ...], width: int) -> TraceRow:
    """The row of one line; raises ValueError with the reason."""
    fields = _fields(line)
    if fields is None or len(fields) != width:
        found = "unbalanced quotes" if fields is None else f"{len(fields)} fields"
        raise ValueError(f"expected {width} fields as in the header, found {found}")
    time, input_tokens, output_tokens = (fields[index] for index in at)
    return TraceRow(_time(time), _count(input_tokens), _count(output_tokens))


def _fields(line: bytes) -> list[str] | None:
    """The fields of one line, or None when it is not valid CSV."""
    # One line at a time, so that a stray quote spoils its own line and no other.
    text = line.decode(errors="replace").rstrip("\r\n")
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error:
        return None


def _time(text: str) -> datetime:
    stripped = text.strip()
    # Python reads much more as ISO 8601, bare digits too, which would let an epoch pass as a date.
    if stripped[4:5] == "-" and stripped[10:11] in ("T", " "):
        try:
            time = datetime.fromisoformat(stripped)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise ValueError(f"TIMESTAMP: expected YYYY-MM-DD HH:MM:SS.ffffff, got {text[:60]!r}")


def _count(text: str) -> int:
    stripped = text.strip()
    if stripped.isascii() and stripped.isdigit() and len(stripped) <= _MOST_DIGITS:
        number = int(stripped)
        if number <= MAX_TOKENS:
            return number
    raise ValueError(f"tokens: expected a whole number from 0 to {MAX_TOKENS}, got {text[:60]!r}")


def _too_long(number: int) -> BadLine:
    return BadLine(number, f"longer than {MAX_LINE_BYTES} bytes")


def _first_error(exc: ValidationError) -> str:
    first = exc.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def _time_of(event: Event) -> datetime:
    return event.stopped_at if isinstance(event, AbortAcknowledged) else event.time


def _tokens_of(event: Event) -> Tokens | None:
    if not isinstance(event, Usage):
        return None
    return (
        event.input_tokens,
        event.cache_read_tokens,
        event.cache_write_tokens,
        event.output_tokens,
    )
