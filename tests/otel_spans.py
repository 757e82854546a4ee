"""GenAI spans as the OpenTelemetry SDK makes them, and as the Collector writes them to Kafka."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

__all__ = ["as_json", "as_proto", "chat", "span"]

START_NS = 1_769_000_000_000_000_000
RESOURCE: dict[str, Any] = {"service.name": "agents", "cloud.region": "eu-west-1"}


def span(
    number: int,
    *,
    trace: int = 1,
    parent: int | None = None,
    scope: str = "tests",
    resource: Mapping[str, Any] = RESOURCE,
    failed: bool = False,
    start_ns: int = START_NS,
    end_ns: int = START_NS + 2_000_000_000,
    **attributes: Any,
) -> ReadableSpan:
    """An ended span of two seconds; a double underscore in a keyword is a dot in the attribute."""
    return ReadableSpan(
        name=f"span {number}",
        context=_context(trace, number),
        parent=None if parent is None else _context(trace, parent),
        resource=Resource(dict(resource)),
        attributes={name.replace("__", "."): value for name, value in attributes.items()},
        kind=SpanKind.CLIENT,
        status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
        start_time=start_ns,
        end_time=end_ns,
        instrumentation_scope=InstrumentationScope(scope),
    )


def chat(
    number: int, *, tokens: tuple[int, int] | None = (100, 10), **changes: Any
) -> ReadableSpan:
    """A chat with `tokens` in and out."""
    usage: dict[str, Any] = {}
    if tokens is not None:
        usage = {"gen_ai__usage__input_tokens": tokens[0]}
        usage["gen_ai__usage__output_tokens"] = tokens[1]
    attributes: dict[str, Any] = {
        "gen_ai__operation__name": "chat",
        "gen_ai__provider__name": "openai",
        "gen_ai__request__model": "gpt-4o",
    }
    return span(number, **(attributes | usage | changes))


def as_proto(spans: Sequence[ReadableSpan]) -> bytes:
    """One Kafka value of the encoding `otlp_proto`."""
    return encode_spans(spans).SerializeToString()


def as_json(spans: Sequence[ReadableSpan]) -> bytes:
    """One Kafka value of the encoding `otlp_json`: ids in hex, enums as numbers."""
    request = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    for exported in _spans_of(request):
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in exported:
                exported[name] = base64.b64decode(exported[name]).hex()
    return json.dumps(request).encode()


def _spans_of(request: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for resource_spans in request["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            yield from scope_spans["spans"]


def _context(trace: int, number: int) -> SpanContext:
    return SpanContext(trace, number, is_remote=False, trace_flags=TraceFlags(1))
