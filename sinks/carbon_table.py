"""Carbon records to one Arrow table, at the speed of Arrow's JSON reader.

The contract (`marlin.schemas.Carbon`) says what is accepted. The reader takes records only in
the spelling that workers use, and of those only what the contract accepts; it fails as a whole on
any other. Then the batch is read in pieces, and in a piece that fails each record is judged by
the contract, spelled anew and read again. Whether a record is accepted therefore depends on the
record only, never on those around it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError

from marlin.errors import DataError
from marlin.schemas import MAX_TOKENS, Carbon, dump
from marlin.sinks.arrow import ArrowTable, arrow, arrow_compute, arrow_json
from marlin.sinks.faults import faults_of
from marlin.sinks.measures import FOOTPRINT, TOKENS
from marlin.sinks.untyped import is_dict

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

_PIECE_RECORDS = 512
"""Records that are judged one by one for the sake of a bad one among them."""

_MAX_NUMBER = 1e15
"""Above it a footprint [Wh, g, mL], cost [USD] or duration [s] is an attack on the sums."""

_MAX_SEQ = 2**53
_MAX_CHARACTERS = 256
_MAX_LABELS = 32

_TEXT, _COUNT, _NUMBER = arrow.string(), arrow.int64(), arrow.float64()
_TIME = arrow.timestamp("us", tz="UTC")

_IDS = ("event_id", "run_id", "agent_id", "producer_id", "model", "method", "factors")
_TEXTS = (*_IDS, "provider", "region", "tenant", "project")
_NUMBERS = ("latency_s", "cost_usd", *FOOTPRINT, "intensity_g_per_kwh")
_NULLABLE = ("latency_s", "cost_usd", "tenant", "project", "labels")
_DEFAULTS: dict[str, Any] = {
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "reasoning_tokens": 0,
    "usage_quality": "reported",
}
_QUALITIES = arrow.array(["reported", "partial", "estimated", "missing"])
_RUN_TOTALS = ("run_energy_wh", "run_carbon_g", "run_water_ml")

_USAGE_COLUMNS: tuple[tuple[str, Any], ...] = (
    *((name, _TEXT) for name in ("event_id", "run_id", "agent_id", "producer_id")),
    ("seq", _COUNT),
    ("time", _TIME),
    *((name, _TEXT) for name in ("provider", "model", "region")),
    *((name, _COUNT) for name in TOKENS),
    *((name, _NUMBER) for name in ("latency_s", "cost_usd")),
    *((name, _TEXT) for name in ("tenant", "project", "labels", "usage_quality")),
)
_FOOTPRINT_COLUMNS: tuple[tuple[str, Any], ...] = (
    *((name, _NUMBER) for name in (*FOOTPRINT, "intensity_g_per_kwh")),
    *((name, _TEXT) for name in ("method", "factors")),
    ("quality", arrow.list_(_TEXT)),
)
# Arrow reads no JSON object of free keys: labels are cut out before and put back after. Times are
# read as text, since Arrow takes spellings of them that the contract does not.
_READ_AS = {"labels": arrow.null(), "time": _TEXT}
_USAGE_TYPE = arrow.struct(
    [("type", _TEXT), *((name, _READ_AS.get(name, kind)) for name, kind in _USAGE_COLUMNS)]
)
_JSON_SCHEMA = arrow.schema(
    [
        ("type", _TEXT),
        ("source", _TEXT),
        ("usage", _USAGE_TYPE),
        *_FOOTPRINT_COLUMNS,
        ("run_calls", _COUNT),
        *((name, _NUMBER) for name in _RUN_TOTALS),
    ]
)

SCHEMA = arrow.schema(
    [
        *_USAGE_COLUMNS,
        *_FOOTPRINT_COLUMNS,
        ("source_topic", _TEXT),
        ("source_partition", arrow.int32()),
        ("source_offset", _COUNT),
    ]
)
"""Columns of `Batch.usages`: those of the usage event, labels as JSON text, then its footprint,
then where the event came from."""

_LABELS = b'"labels":{'
_AFTER_LABELS = b'},"usage_quality":"'
_HARMLESS_NULLS = tuple(f'"{name}":null'.encode() for name in _NULLABLE)
_SOURCE = r"^.+-[0-9]+-[0-9]+$"
_TIME_TEXT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$"
_FIRST_TIME = datetime(1, 1, 1, tzinfo=UTC)

_Columns = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parsed:
    """The rows of the good records, in their order, and the bad ones by their number."""

    table: ArrowTable
    refused: tuple[tuple[int, str], ...] = ()


def parse(values: Sequence[bytes]) -> Parsed:
    """All records as one table; those that break the contract are left out and told why.

    Fast for records that are spelled as workers spell them; right for any JSON.
    """
    if not values:
        return Parsed(SCHEMA.empty_table())
    try:
        return Parsed(_read_if_usual(values))
    except (DataError, arrow.ArrowException):
        pieces = [
            _parse_piece(values[first : first + _PIECE_RECORDS])
            for first in range(0, len(values), _PIECE_RECORDS)
        ]
    refused = tuple(
        (number * _PIECE_RECORDS + index, reason)
        for number, piece in enumerate(pieces)
        for index, reason in piece.refused
    )
    return Parsed(arrow.concat_tables([piece.table for piece in pieces]), refused)


def _parse_piece(values: Sequence[bytes]) -> Parsed:
    try:
        return Parsed(_read_if_usual(values))
    except (DataError, arrow.ArrowException):
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
    if not spelled:
        return Parsed(SCHEMA.empty_table(), tuple(refused))
    try:
        return Parsed(_read(list(spelled.values())), tuple(refused))
    except (DataError, arrow.ArrowException):
        # Some are beyond what the database can hold: each stands for itself.
        tables = [SCHEMA.empty_table()]
        for index, value in spelled.items():
            try:
                tables.append(_read([value]))
            except (DataError, arrow.ArrowException) as exc:
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


def _read_if_usual(values: Sequence[bytes]) -> ArrowTable:
    """As `_read`, but refuses nulls where the contract might.

    Arrow does not tell a null from an absent field, which stands for a default; the contract
    takes a null only where there is no default.
    """
    for value in values:
        if b"null" in value and value.count(b"null") != sum(map(value.count, _HARMLESS_NULLS)):
            raise DataError("a null may stand in the place of a default")
    return _read(values)


def _read(values: Sequence[bytes]) -> ArrowTable:
    """Raises `DataError` or an `ArrowException` unless all are spelled as `dump` does, and good."""
    if max(map(len, values)) > MAX_RECORD_BYTES:
        raise DataError(f"a record is larger than {MAX_RECORD_BYTES} bytes")
    joined = b"\n".join(values)
    labels: ArrowTable = arrow.nulls(len(values), _TEXT)
    if _LABELS in joined:
        pairs = [_cut_labels(value) for value in values]
        joined = b"\n".join([value for value, _ in pairs])
        labels = arrow.array([text for _, text in pairs], _TEXT)
    _check_spelling(joined, len(values))
    table = arrow_json.read_json(
        arrow.BufferReader(joined),
        # One block is parsed by one thread; it must be able to hold the largest record.
        read_options=arrow_json.ReadOptions(block_size=4 * MAX_RECORD_BYTES),
        parse_options=arrow_json.ParseOptions(
            explicit_schema=_JSON_SCHEMA, unexpected_field_behavior="error"
        ),
    )
    if table.num_rows != len(values):
        raise DataError(f"expected {len(values)} records, found {table.num_rows}")
    table.validate(full=True)  # the JSON reader lets invalid UTF-8 through
    columns = _columns(table)
    columns["labels"] = labels
    _check(columns)
    columns["time"] = _times(columns["time"])
    columns |= _source(columns.pop("source"))
    return arrow.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def _cut_labels(value: bytes) -> tuple[bytes, str | None]:
    start = value.find(_LABELS)
    if start < 0:
        return value, None
    # A quote inside of a JSON string is escaped, so neither mark can be part of one.
    end = value.find(_AFTER_LABELS, start)
    if end < 0:
        raise DataError("labels do not stand before usage_quality")
    labels = value[start + len(_LABELS) - 1 : end + 1]
    return value[:start] + b'"labels":null' + value[end + 1 :], _labels_text(labels)


def _labels_text(text: bytes) -> str:
    try:
        labels = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise DataError(f"labels are not JSON: {exc}") from exc
    if not is_dict(labels) or len(labels) > _MAX_LABELS:
        raise DataError(f"labels are not an object of at most {_MAX_LABELS} texts")
    for name, label in labels.items():
        if not isinstance(label, str) or not 1 <= len(name) <= _MAX_CHARACTERS >= len(label):
            raise DataError(f"labels are not texts of at most {_MAX_CHARACTERS} characters")
    return orjson.dumps(labels).decode()


def _check_spelling(joined: bytes, records: int) -> None:
    if joined.count(b"\n") != records - 1:
        raise DataError("a record holds a line break outside of a string")
    # So each line holds at least one record; not more, if there are as many rows as lines.
    starts = joined.startswith(CARBON_PREFIX) + joined.count(b"\n" + CARBON_PREFIX)
    if starts != records:
        raise DataError(f"a record does not begin with {CARBON_PREFIX.decode()}")


def _columns(table: ArrowTable) -> _Columns:
    usage = table["usage"].combine_chunks()
    kind = usage.type
    fields = usage.flatten()  # not field(): a null usage makes all of its fields null
    columns: _Columns = {kind[index].name: field for index, field in enumerate(fields)}
    usage_type = columns.pop("type")
    if not _all(arrow_compute.equal(usage_type, "usage")):
        raise DataError("expected an event of type usage")
    for name, value in _DEFAULTS.items():
        columns[name] = columns[name].fill_null(value)
    others = (name for name in table.column_names if name not in ("type", "usage"))
    return columns | {name: table[name].combine_chunks() for name in others}


def _check(columns: _Columns) -> None:
    """What the contract demands, of all columns at once."""
    for name, column in columns.items():
        if name not in _NULLABLE and column.null_count:
            raise DataError(f"{name} is missing")
    if columns["quality"].values.null_count:
        raise DataError("quality holds a null")
    for name in _TEXTS:
        _check_length(name, columns[name], least=1 if name in _IDS else 0)
    if not _all(arrow_compute.is_in(columns["usage_quality"], value_set=_QUALITIES)):
        raise DataError("usage_quality is unknown")
    _check_range("seq", columns["seq"], _MAX_SEQ)
    for name in TOKENS:
        _check_range(name, columns[name], MAX_TOKENS)
    for name in _NUMBERS:
        _check_range(name, columns[name], _MAX_NUMBER)
    for name in _RUN_TOTALS:  # not stored
        _check_range(name, columns[name], sys.float_info.max)
    if not _all(arrow_compute.less_equal(columns["reasoning_tokens"], columns["output_tokens"])):
        raise DataError("reasoning_tokens exceed output_tokens")


def _all(truths: Any) -> bool:
    """Whether none is false; nulls are skipped."""
    return arrow_compute.all(truths).as_py() is not False


def _check_length(name: str, texts: Any, least: int) -> None:
    lengths = arrow_compute.min_max(arrow_compute.binary_length(texts)).as_py()
    if lengths["min"] is None:  # nulls only
        return
    if lengths["min"] < least:
        raise DataError(f"{name} is empty")
    if lengths["max"] > _MAX_CHARACTERS:  # bytes, at least as many as characters
        most = arrow_compute.max(arrow_compute.utf8_length(texts)).as_py()
        if most > _MAX_CHARACTERS:
            raise DataError(f"{name} is longer than {_MAX_CHARACTERS} characters")


def _check_range(name: str, numbers: Any, most: float) -> None:
    at_least_0 = arrow_compute.greater_equal(numbers, 0)
    at_most = arrow_compute.less_equal(numbers, most)
    # Nulls are skipped; NaN, which the JSON reader lets through, fails both comparisons.
    if not _all(arrow_compute.and_(at_least_0, at_most)):
        raise DataError(f"{name} is not between 0 and {most:g}")


def _times(texts: Any) -> Any:
    if not _all(arrow_compute.match_substring_regex(texts, _TIME_TEXT)):
        raise DataError("time is not spelled as 2026-05-01T12:00:00Z")
    times = texts.cast(_TIME)
    if not _all(arrow_compute.greater_equal(times, arrow.scalar(_FIRST_TIME, _TIME))):
        raise DataError("time is before the year 1")
    return times


def _source(source: Any) -> _Columns:
    if not _all(arrow_compute.match_substring_regex(source, _SOURCE)):
        raise DataError("source is not topic-partition-offset")
    parts = arrow_compute.split_pattern(source, "-", max_splits=2, reverse=True)
    columns: _Columns = {"source_topic": arrow_compute.list_element(parts, 0)}
    for index, name, most in (
        (1, "source_partition", MAX_PARTITION),
        (2, "source_offset", MAX_OFFSET),
    ):
        text = arrow_compute.list_element(parts, index)
        columns[name] = text.cast(_COUNT)
        _check_range(name, columns[name], most)
    columns["source_partition"] = columns["source_partition"].cast(arrow.int32())
    return columns
