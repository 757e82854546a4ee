"""Kafka records to a batch. Pure; what cannot be read becomes a refusal, never an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import orjson
from pydantic import ValidationError

from marlin.errors import DataError
from marlin.schemas import Command, DeadLetter, GridRecord, Lifecycle, SourcePosition
from marlin.sinks.batch import Batch, GridRow, Refusal, TopicPartition
from marlin.sinks.carbon_table import (
    CARBON_PREFIX,
    MAX_OFFSET,
    MAX_PARTITION,
    parse,
)
from marlin.sinks.faults import faults_of
from marlin.sinks.untyped import is_dict
from marlin.topics import Topics

__all__ = ["Record", "decode"]

_LIFECYCLE_PREFIX = b'{"type":"lifecycle"'
_MAX_REASON = 2048
_TOMBSTONE = "no value (a tombstone)"
_EPOCH = datetime.fromtimestamp(0, UTC)


class Record(Protocol):
    """What is needed of a Kafka record; aiokafka's `ConsumerRecord` is one."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


def decode(chunks: Iterable[Sequence[Record]], topics: Topics, now: datetime) -> Batch:
    """Read records of the carbon, commands, dead-letter and grid topics.

    A chunk holds records of one partition in their order, at least one. `now` is when records
    that the sink itself refuses are said to be refused.
    """
    decoder = _Decoder(topics, now)
    for chunk in chunks:
        decoder.add(chunk)
    return decoder.batch()


class _Decoder:
    def __init__(self, topics: Topics, now: datetime) -> None:
        self._now = now
        self._topics = topics
        self._carbon_values: list[bytes] = []
        self._carbon_records: list[Record] = []
        self._lifecycle: list[Lifecycle] = []
        self._commands: list[Command] = []
        self._refusals: list[Refusal] = []
        self._grid: list[GridRow] = []
        self._read = {
            topics.commands: self._command,
            topics.deadletter: self._dead_letter,
            topics.grid: self._intensity,
        }
        self._next_offsets: dict[TopicPartition, int] = {}

    def add(self, chunk: Sequence[Record]) -> None:
        topic = chunk[0].topic
        if topic == self._topics.carbon:
            self._add_derived(chunk)
        else:
            for record in chunk:
                self._try(self._read[topic], record)
        self._next_offsets[TopicPartition(topic, chunk[0].partition)] = chunk[-1].offset + 1

    def _add_derived(self, chunk: Sequence[Record]) -> None:
        values, records = self._carbon_values, self._carbon_records
        for record in chunk:
            value = record.value
            if value is not None and value.startswith(CARBON_PREFIX):
                values.append(value)
                records.append(record)
            else:
                self._try(self._other_derived, record)

    def _try(self, read: Callable[[Record], None], record: Record) -> None:
        try:
            read(record)
        except ValidationError as exc:
            self._refuse(record, faults_of(exc))
        except (DataError, ValueError) as exc:  # the latter: Unicode and numbers
            self._refuse(record, str(exc))

    def batch(self) -> Batch:
        parsed = parse(self._carbon_values)
        for index, reason in parsed.refused:
            self._refuse(self._carbon_records[index], reason)
        return Batch(
            usages=parsed.table,
            lifecycle=tuple(self._lifecycle),
            commands=tuple(self._commands),
            refusals=tuple(self._refusals),
            grid=tuple(self._grid),
            next_offsets=self._next_offsets,
        )

    def _other_derived(self, record: Record) -> None:
        """A lifecycle record, or a carbon record in an unusual spelling."""
        value = record.value
        if value is None:
            raise DataError(_TOMBSTONE)
        if _is_lifecycle(value):
            self._lifecycle.append(_lifecycle(value))
        else:
            self._carbon_values.append(value)
            self._carbon_records.append(record)

    def _command(self, record: Record) -> None:
        if record.value is None:
            raise DataError(_TOMBSTONE)
        self._commands.append(Command.model_validate_json(record.value))

    def _dead_letter(self, record: Record) -> None:
        # Kafka allows headers without a value; aiokafka gives None for them.
        headers = [(name, value) for name, value in record.headers if value is not None]
        try:
            letter = DeadLetter.from_headers(headers)
        except KeyError as exc:
            raise DataError(f"a dead letter without header marlin.{exc.args[0]}") from exc
        source = _possible(SourcePosition(letter.topic, letter.partition, letter.offset))
        self._refusals.append(
            Refusal(letter.step, letter.reason, source, letter.refused_at, record.key, record.value)
        )

    def _intensity(self, record: Record) -> None:
        if record.value is None:
            raise DataError(_TOMBSTONE)
        self._grid.append(
            GridRow(
                GridRecord.model_validate_json(record.value),
                SourcePosition(record.topic, record.partition, record.offset),
                _EPOCH + timedelta(milliseconds=record.timestamp),
            )
        )

    def _refuse(self, record: Record, reason: str) -> None:
        source = SourcePosition(record.topic, record.partition, record.offset)
        self._refusals.append(
            Refusal("sink", reason[:_MAX_REASON], source, self._now, record.key, record.value)
        )


def _is_lifecycle(value: bytes) -> bool:
    if value.startswith(_LIFECYCLE_PREFIX):
        return True
    try:
        loaded = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise DataError(f"not JSON: {exc}") from exc
    return is_dict(loaded) and loaded.get("type") == "lifecycle"


def _lifecycle(value: bytes) -> Lifecycle:
    parsed = Lifecycle.model_validate_json(value)
    _possible(SourcePosition.parse(parsed.source))
    return parsed


def _possible(source: SourcePosition) -> SourcePosition:
    if not (0 <= source.partition <= MAX_PARTITION and 0 <= source.offset <= MAX_OFFSET):
        raise DataError(f"no Kafka position: {source}")
    return source
