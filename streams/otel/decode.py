"""Kafka values to spans: OTLP as protobuf or JSON, told apart record by record. Pure.

The Collector's exporter puts no content type into the headers. JSON starts with a brace; in
protobuf that byte would begin a group, which OTLP has none of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from marlin.errors import DataError
from marlin.streams.otel.span import Scalar, Span

__all__ = ["Export", "decode"]

_ERROR = 2  # STATUS_CODE_ERROR
_MAX_NS = 2**64


@dataclass(slots=True)
class Export:
    """The spans of one export request, and what was wrong with the others."""

    spans: list[Span] = field(default_factory=list[Span])
    problems: list[str] = field(default_factory=list[str])


def decode(value: bytes) -> Export:
    """Decode one `ExportTraceServiceRequest`. Raises `DataError` when `value` is none."""
    if value.startswith(b"{"):
        return _from_json(value)
    try:
        return _from_proto(trace_pb2.TracesData.FromString(value))
    except DecodeError as exc:
        # Pretty-printed JSON may start with what protobuf takes for a field.
        if value.lstrip().startswith(b"{"):
            return _from_json(value)
        raise DataError(
            f"expected OTLP traces as protobuf or JSON, found {value[:24]!r}: {exc}"
        ) from exc


# -- protobuf


def _from_proto(traces: trace_pb2.TracesData) -> Export:
    if not traces.resource_spans and traces.ByteSize():
        # Other bytes can look like fields that OTLP does not have.
        raise DataError("expected OTLP traces, found protobuf without resource_spans")
    export = Export()
    for resource_spans in traces.resource_spans:
        resource = _proto_attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope.name
            for span in scope_spans.spans:
                try:
                    export.spans.append(_proto_span(span, resource, scope))
                except DataError as exc:
                    export.problems.append(str(exc))
    return export


def _proto_span(span: trace_pb2.Span, resource: Mapping[str, Scalar], scope: str) -> Span:
    return Span(
        trace_id=_id(span.trace_id.hex(), 32, "trace"),
        span_id=_id(span.span_id.hex(), 16, "span"),
        parent_id=_parent(span.parent_span_id.hex()),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        failed=span.status.code == _ERROR,
        attributes=_proto_attributes(span.attributes),
        resource=resource,
        scope=scope,
    )


def _proto_attributes(pairs: Iterable[KeyValue]) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for pair in pairs:
        value = pair.value
        match value.WhichOneof("value"):
            case "string_value":
                found[pair.key] = value.string_value
            case "int_value":
                found[pair.key] = value.int_value
            case "double_value":
                found[pair.key] = value.double_value
            case "bool_value":
                found[pair.key] = value.bool_value
            case _:
                pass
    return found


# -- JSON: lowerCamelCase, ids in hex, 64-bit numbers as strings, enums as numbers


def _from_json(value: bytes) -> Export:
    try:
        request = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise DataError(f"expected OTLP traces as JSON: {exc}") from exc
    if request and "resourceSpans" not in request:
        raise DataError(f"expected resourceSpans, found {list(request)!r:.80}")
    export = Export()
    for resource_spans in _objects(request, "resourceSpans"):
        resource = _json_attributes(_object(resource_spans, "resource"))
        for scope_spans in _objects(resource_spans, "scopeSpans"):
            scope = str(_object(scope_spans, "scope").get("name") or "")
            for span in _objects(scope_spans, "spans"):
                try:
                    export.spans.append(_json_span(span, resource, scope))
                except DataError as exc:
                    export.problems.append(str(exc))
    return export


def _json_span(span: Mapping[str, Any], resource: Mapping[str, Scalar], scope: str) -> Span:
    return Span(
        trace_id=_id(span.get("traceId"), 32, "trace"),
        span_id=_id(span.get("spanId"), 16, "span"),
        parent_id=_parent(span.get("parentSpanId")),
        start_ns=_whole(span.get("startTimeUnixNano"), "startTimeUnixNano"),
        end_ns=_whole(span.get("endTimeUnixNano"), "endTimeUnixNano"),
        failed=_object(span, "status").get("code") in (_ERROR, "STATUS_CODE_ERROR"),
        attributes=_json_attributes(span),
        resource=resource,
        scope=scope,
    )


def _json_attributes(of: Mapping[str, Any]) -> dict[str, Scalar]:
    return dict(_json_scalars(of))


def _json_scalars(of: Mapping[str, Any]) -> Iterator[tuple[str, Scalar]]:
    for pair in _objects(of, "attributes"):
        key, value = pair.get("key"), _object(pair, "value")
        if not isinstance(key, str):
            raise DataError(f"expected the key of an attribute, found {key!r:.60}")
        if "intValue" in value:
            yield key, _whole(value["intValue"], key, lowest=-_MAX_NS)
            continue
        for kind in ("stringValue", "boolValue", "doubleValue"):
            scalar = value.get(kind)
            if isinstance(scalar, (str, bool, int, float)):
                yield key, scalar


def _object(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = of.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise DataError(f"expected an object as {name}, found {found!r:.60}")
    return cast(dict[str, Any], found)


def _objects(of: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = of.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(
        isinstance(one, dict) for one in cast(list[object], found)
    ):
        raise DataError(f"expected a list of objects as {name}, found {found!r:.60}")
    return cast(list[Mapping[str, Any]], found)


def _whole(value: Any, name: str, *, lowest: int = 0) -> int:
    if value is None:
        return 0
    try:
        number = int(value) if isinstance(value, (int, str)) and len(str(value)) <= 20 else None
    except ValueError:
        number = None
    if number is None or not lowest <= number < _MAX_NS:
        raise DataError(f"expected a whole number as {name}, found {value!r:.60}")
    return number


# -- both


def _id(digits: Any, length: int, what: str) -> str:
    found = str(digits or "").lower()
    if len(found) != length or not found.strip("0") or found.strip("0123456789abcdef"):
        raise DataError(
            f"expected a {what} id of {length} hex digits, not all 0, found {digits!r:.60}"
        )
    return found


def _parent(digits: Any) -> str:
    # Some exporters write a root's missing parent as zeros.
    found = str(digits or "")
    return _id(found, 16, "parent span") if found.strip("0") else ""
