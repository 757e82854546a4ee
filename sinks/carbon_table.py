"""Carbon records to one Arrow table.

The contract (`marlin.schemas.Carbon`) says what is accepted. Most records are decoded at a
fraction of its cost, by a decoder that takes nothing that the contract would refuse; what that
decoder does not take is judged by the contract, spelled anew and decoded again. Whether a record
is accepted therefore depends on the record only, never on those around it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter, gt
from typing import Annotated, Any, Literal

import msgspec
import orjson
from pydantic import ValidationError

from marlin.errors import DataError
from marlin.schemas import Carbon, dump
from marlin.schemas.usage import MAX_TOKENS, UsageQuality
from marlin.sinks.arrow import ArrowTable, arrow, arrow_compute
from marlin.sinks.faults import faults_of
from marlin.sinks.measures import FOOTPRINT, TOKENS

__all__ = [
    "CARBON_PREFIX",
    "MAX_OFFSET",
    "MAX_PARTITION",
    "MAX_RECORD_BYTES",
    "SCHEMA",
    "Parsed",
    "parse",
]

CARBON_PREFIX = b'{"type":"carbon"'
"""How carbon records begin on the wire; tells them from lifecycle records without parsing."""

MAX_RECORD_BYTES = 1024 * 1024
"""Largest carbon record [bytes], as Kafka's default for a topic."""

MAX_PARTITION, MAX_OFFSET = 2**31 - 1, 2**62
"""Beyond these a source position is none that Kafka gave."""

_MAX_NUMBER = 1e15
"""Above it a footprint [Wh, g, mL], cost [USD] or duration [s] is an attack on the sums."""

_PIECE_RECORDS = 512
"""Records whose objects are alive at the same time: with more of them the processor's caches
overflow, which doubles the cost of a record."""

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Label = Annotated[str, msgspec.Meta(max_length=256)]
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
_Number = Annotated[float, msgspec.Meta(ge=0, le=_MAX_NUMBER)]
_Unbounded = Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)]


class _Usage(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    type: Literal["usage"]
    event_id: _Id
    run_id: _Id
    agent_id: _Id
    producer_id: _Id
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    time: str
    provider: _Label
    model: _Id
    region: _Label
    input_tokens: _Tokens
    cache_read_tokens: _Tokens = 0
    cache_write_tokens: _Tokens = 0
    output_tokens: _Tokens
    reasoning_tokens: _Tokens = 0
    latency_s: _Number | None = None
    cost_usd: _Number | None = None
    tenant: _Label | None = None
    project: _Label | None = None
    labels: Annotated[dict[_Id, _Label], msgspec.Meta(max_length=32)] | None = None
    usage_quality: UsageQuality = "reported"


_Carbon = msgspec.defstruct(
    "_Carbon",
    [
        ("type", Literal["carbon"]),
        ("source", str),
        ("usage", _Usage),
        *((name, _Number) for name in (*FOOTPRINT, "intensity_g_per_kwh")),
        *((name, _Id) for name in ("method", "factors")),
        ("quality", list[str]),
        ("run_calls", int),
        *((name, _Unbounded) for name in ("run_energy_wh", "run_carbon_g", "run_water_ml")),
    ],
    forbid_unknown_fields=True,
    gc=False,
)
_decode = msgspec.json.Decoder(_Carbon).decode
_FIELDS = {name: attrgetter(name) for name in _Carbon.__struct_fields__}
_USAGE_FIELDS = {name: attrgetter(name) for name in _Usage.__struct_fields__}

_TEXT, _COUNT, _NUMBER = arrow.string(), arrow.int64(), arrow.float64()
_TIME = arrow.timestamp("us", tz="UTC")

SCHEMA = arrow.schema(
    [
        *((name, _TEXT) for name in ("event_id", "run_id", "agent_id", "producer_id")),
        ("seq", _COUNT),
        ("time", _TIME),
        *((name, _TEXT) for name in ("provider", "model", "region")),
        *((name, _COUNT) for name in TOKENS),
        *((name, _NUMBER) for name in ("latency_s", "cost_usd")),
        *((name, _TEXT) for name in ("tenant", "project", "labels", "usage_quality")),
        *((name, _NUMBER) for name in (*FOOTPRINT, "intensity_g_per_kwh")),
        *((name, _TEXT) for name in ("method", "factors")),
        ("quality", arrow.list_(_TEXT)),
        ("source_topic", _TEXT),
        ("source_partition", arrow.int32()),
        ("source_offset", _COUNT),
    ]
)
"""Columns of `Batch.usages`: those of the usage event, labels as JSON text, then its footprint,
then where the event came from."""

_UNREAD = (DataError, UnicodeDecodeError, msgspec.MsgspecError, arrow.ArrowException)
_TIME_CHARACTERS = len("2026-05-01T12:00:00Z")
_YEAR_1_US = -62_135_596_800_000_000


@dataclass(frozen=True, slots=True)
class Parsed:
    """The rows of the good records, in their order, and the bad ones by their number."""

    table: ArrowTable
    refused: tuple[tuple[int, str], ...] = ()


def parse(values: Sequence[bytes]) -> Parsed:
    """All records as one table; those that break the contract are left out and told why."""
    pieces = [
        _parse_piece(values[first : first + _PIECE_RECORDS])
        for first in range(0, len(values), _PIECE_RECORDS)
    ]
    refused = tuple(
        (number * _PIECE_RECORDS + index, reason)
        for number, piece in enumerate(pieces)
        for index, reason in piece.refused
    )
    tables = [SCHEMA.empty_table(), *(piece.table for piece in pieces)]
    return Parsed(arrow.concat_tables(tables).combine_chunks(), refused)


def _parse_piece(values: Sequence[bytes]) -> Parsed:
    try:
        return Parsed(_read(values))
    except _UNREAD:
        return _judge(values)


def _judge(values: Sequence[bytes]) -> Parsed:
    """Each record by the contract."""
    spelled: dict[int, bytes] = {}
    refused: list[tuple[int, str]] = []
    for index, value in enumerate(values):
        try:
            spelled[index] = _respelled(value)
        except DataError as exc:
            refused.append((index, str(exc)))
    tables = [SCHEMA.empty_table()]
    try:
        if spelled:
            tables.append(_read(list(spelled.values())))
    except _UNREAD:
        # Some are beyond what the database can hold: each stands for itself.
        for index, value in spelled.items():
            try:
                tables.append(_read([value]))
            except _UNREAD as exc:
                refused.append((index, str(exc)))
    return Parsed(arrow.concat_tables(tables), tuple(sorted(refused)))


def _respelled(value: bytes) -> bytes:
    """The same record, spelled as `marlin.schemas.dump` does; raises DataError if it is none."""
    if len(value) > MAX_RECORD_BYTES:
        raise DataError(f"a record is larger than {MAX_RECORD_BYTES} bytes")
    try:
        return dump(Carbon.model_validate_json(value))
    except ValidationError as exc:
        raise DataError(faults_of(exc)) from exc


def _read(values: Sequence[bytes]) -> ArrowTable:
    """The records as rows; raises one of `_UNREAD` unless all are good and spelled as usual."""
    if max(map(len, values)) > MAX_RECORD_BYTES:
        raise DataError(f"a record is larger than {MAX_RECORD_BYTES} bytes")
    records: list[Any] = list(map(_decode, values))
    usages = [record.usage for record in records]
    # Lists of values, not tuples of rows: those would keep the garbage collector busy.
    columns: dict[str, Any] = {name: list(map(of, records)) for name, of in _FIELDS.items()}
    columns |= {name: list(map(of, usages)) for name, of in _USAGE_FIELDS.items()}
    if any(map(gt, columns["reasoning_tokens"], columns["output_tokens"])):
        raise DataError("reasoning_tokens exceed output_tokens")
    columns["time"] = _times(columns["time"])
    columns["labels"] = [
        None if labels is None else orjson.dumps(labels).decode() for labels in columns["labels"]
    ]
    columns |= _source(columns["source"])
    return arrow.table(
        [arrow.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names],
        schema=SCHEMA,
    )


def _times(texts: Sequence[str]) -> Any:
    # Arrow takes spellings that the contract refuses, but none that tells the second and ends
    # in Z, except in the year 0.
    spelled = arrow.array(texts, _TEXT)
    shortest = arrow_compute.min(arrow_compute.binary_length(spelled)).as_py()
    ends = arrow_compute.all(arrow_compute.ends_with(spelled, "Z")).as_py()
    if shortest < _TIME_CHARACTERS or not ends:
        raise DataError("time is not spelled as 2026-05-01T12:00:00Z")
    times = spelled.cast(_TIME)
    if arrow_compute.min(times).value < _YEAR_1_US:
        raise DataError("time is before the year 1")
    return times


def _source(sources: Sequence[str]) -> dict[str, list[Any]]:
    """The columns that say where the events came from."""
    parts = [source.rpartition("-") for source in sources]
    offsets = _whole([text for _, _, text in parts], "source_offset", MAX_OFFSET)
    logs: dict[str, tuple[str, int]] = {}
    for log in {log for log, _, _ in parts}:
        topic, _, partition = log.rpartition("-")
        if not topic or "\n" in topic:  # as the contract's pattern has it
            raise DataError("source is not topic-partition-offset")
        logs[log] = topic, _whole([partition], "source_partition", MAX_PARTITION)[0]
    return {
        "source_topic": [logs[log][0] for log, _, _ in parts],
        "source_partition": [logs[log][1] for log, _, _ in parts],
        "source_offset": offsets,
    }


def _whole(texts: Sequence[str], name: str, most: int) -> list[int]:
    digits = "".join(texts)
    if not (all(texts) and digits.isascii() and digits.isdigit()):
        raise DataError("source is not topic-partition-offset")
    # Checked before int(), which refuses very long ones in its own way.
    if max(map(len, texts)) > len(str(most)) or max(numbers := list(map(int, texts))) > most:
        raise DataError(f"{name} is not between 0 and {most}")
    return numbers
