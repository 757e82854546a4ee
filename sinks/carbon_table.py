"""Carbon records to one Arrow table, at the speed of Arrow's JSON reader.

The reader fails as a whole on one bad record, so a batch that fails is halved until the bad ones
stand alone. Whether a record is accepted therefore depends on the record only, never on those
around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from marlin.errors import DataError
from marlin.schemas import MAX_TOKENS
from marlin.sinks.arrow import ArrowTable, arrow, arrow_compute, arrow_json
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

_TEXT, _COUNT, _NUMBER = arrow.string(), arrow.int64(), arrow.float64()
_NUMBERS = ("latency_s", "cost_usd", *FOOTPRINT, "intensity_g_per_kwh")
_NULLABLE = {"latency_s", "cost_usd", "tenant", "project", "labels"}
_UNUSED = ("run_energy_wh", "run_carbon_g", "run_water_ml")

_MAX_NUMBER = 1e15
"""Above it a footprint [Wh, g, mL], cost [USD] or duration [s] is an attack on the sums."""

_COLUMNS: tuple[tuple[str, Any], ...] = (
    *((name, _TEXT) for name in ("event_id", "run_id", "agent_id", "producer_id")),
    ("seq", _COUNT),
    ("time", arrow.timestamp("us", tz="UTC")),
    *((name, _TEXT) for name in ("provider", "model", "region")),
    *((name, _COUNT) for name in TOKENS),
    *((name, _NUMBER) for name in ("latency_s", "cost_usd")),
    *((name, _TEXT) for name in ("tenant", "project")),
    # Arrow reads no JSON object of free keys: labels are cut out before and put back after.
    ("labels", arrow.null()),
    ("usage_quality", _TEXT),
    *((name, _NUMBER) for name in (*FOOTPRINT, "intensity_g_per_kwh")),
    *((name, _TEXT) for name in ("method", "factors")),
    ("quality", arrow.list_(_TEXT)),
)
_JSON_SCHEMA = arrow.schema(
    [
        ("type", _TEXT),
        ("source", _TEXT),
        *_COLUMNS,
        ("run_calls", _COUNT),
        *((name, _NUMBER) for name in _UNUSED),
    ]
)

SCHEMA = arrow.schema(
    [
        *((name, _TEXT if name == "labels" else kind) for name, kind in _COLUMNS),
        ("source_topic", _TEXT),
        ("source_partition", arrow.int32()),
        ("source_offset", _COUNT),
    ]
)
"""Columns of `Batch.usages`: those of the `carbon` contract, labels as JSON text, and where the
event came from."""

_LABELS = b'"labels":{'
_AFTER_LABELS = b'},"usage_quality":"'


@dataclass(frozen=True, slots=True)
class Parsed:
    """The rows of the good records, in their order, and the bad ones by their number."""

    table: ArrowTable
    refused: tuple[tuple[int, str], ...] = ()


def parse(values: Sequence[bytes]) -> Parsed:
    """All records as one table; those that break the contract are left out and told why.

    Fast for records that begin with `CARBON_PREFIX` and are spelled as `marlin.schemas.dump`
    spells them; right for any JSON.
    """
    if not values:
        return Parsed(SCHEMA.empty_table())
    try:
        return Parsed(_read(values))
    except (DataError, arrow.ArrowException):
        if len(values) == 1:
            return _parse_alone(values[0])
    half = len(values) // 2
    first, second = parse(values[:half]), parse(values[half:])
    moved = tuple((index + half, reason) for index, reason in second.refused)
    return Parsed(arrow.concat_tables([first.table, second.table]), first.refused + moved)


def _parse_alone(value: bytes) -> Parsed:
    try:
        return Parsed(_read([_respelled(value)]))
    except (DataError, arrow.ArrowException) as exc:
        return Parsed(SCHEMA.empty_table(), ((0, str(exc)),))


def _respelled(value: bytes) -> bytes:
    """The same record, spelled as `marlin.schemas.dump` does; raises DataError if it is none."""
    fields = _object(_load(value))
    if fields.get("type") != "carbon":
        raise DataError("expected a carbon or lifecycle record")
    # Labels stand before usage_quality, where they are looked for.
    quality = fields.pop("usage_quality", None)
    labels = fields.pop("labels", None)
    if labels is not None:
        _labels_text(labels)
    return orjson.dumps({"type": "carbon", **fields, "labels": labels, "usage_quality": quality})


def _read(values: Sequence[bytes]) -> ArrowTable:
    if max(map(len, values)) > MAX_RECORD_BYTES:
        raise DataError(f"a record is larger than {MAX_RECORD_BYTES} bytes")
    joined = b"\n".join(values)
    labels: ArrowTable = arrow.nulls(len(values), _TEXT)
    if _LABELS in joined:
        pairs = [_cut_labels(value) for value in values]
        joined = b"\n".join([value for value, _ in pairs])
        labels = arrow.array([text for _, text in pairs], _TEXT)
    if joined.count(b"\n") != len(values) - 1:
        raise DataError("a record holds a line break outside of a string")
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
    return _with_source(_checked(table), labels)


def _cut_labels(value: bytes) -> tuple[bytes, str | None]:
    start = value.find(_LABELS)
    if start < 0:
        return value, None
    # A quote inside of a JSON string is escaped, so neither mark can be part of one.
    end = value.find(_AFTER_LABELS, start)
    if end < 0:
        raise DataError("labels do not stand before usage_quality")
    labels = value[start + len(_LABELS) - 1 : end + 1]
    return value[:start] + b'"labels":null' + value[end + 1 :], _labels_text(_load(labels))


def _checked(table: ArrowTable) -> ArrowTable:
    if arrow_compute.all(arrow_compute.equal(table["type"], "carbon")).as_py() is not True:
        raise DataError("expected a carbon or lifecycle record")
    for name in ("source", *SCHEMA.names[:-3]):
        if name not in _NULLABLE and table[name].null_count:
            raise DataError(f"{name} is missing")
    for name in TOKENS:
        _in_range(table, name, MAX_TOKENS)
    for name in _NUMBERS:
        _in_range(table, name, _MAX_NUMBER)
    return table


def _in_range(table: ArrowTable, name: str, most: float) -> None:
    column = table[name]
    at_least_0 = arrow_compute.greater_equal(column, 0)
    at_most = arrow_compute.less_equal(column, most)
    # Nulls are skipped; NaN, which the JSON reader lets through, fails both comparisons.
    if arrow_compute.all(arrow_compute.and_(at_least_0, at_most)).as_py() is False:
        raise DataError(f"{name} is not between 0 and {most:g}")


def _with_source(table: ArrowTable, labels: ArrowTable) -> ArrowTable:
    parts = arrow_compute.split_pattern(table["source"], "-", max_splits=2, reverse=True)
    lengths = arrow_compute.list_value_length(parts)
    if arrow_compute.all(arrow_compute.equal(lengths, 3)).as_py() is False:
        raise DataError("source is not topic-partition-offset")
    columns = {name: table[name] for name in SCHEMA.names[:-3]}
    columns["labels"] = labels
    columns["source_topic"] = arrow_compute.list_element(parts, 0)
    for index, name in ((1, "source_partition"), (2, "source_offset")):
        text = arrow_compute.list_element(parts, index)
        columns[name] = text.cast(SCHEMA.field(name).type)
    located = arrow.table(columns, schema=SCHEMA)
    for name, most in (("source_partition", MAX_PARTITION), ("source_offset", MAX_OFFSET)):
        _in_range(located, name, most)
    return located


def _load(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise DataError(f"not JSON: {exc}") from exc


def _object(value: Any) -> dict[str, Any]:
    if not is_dict(value):
        raise DataError(f"expected an object, found {type(value).__name__}")
    return value


def _labels_text(value: Any) -> str:
    labels = _object(value)
    if not all(isinstance(text, str) for text in labels.values()):
        raise DataError("labels is not an object of texts")
    return orjson.dumps(labels).decode()
