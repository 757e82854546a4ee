"""Which spans are calls of a model, and the usage event each of them makes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import orjson
from pydantic import ValidationError

from marlin.errors import DataError
from marlin.normalise import otel
from marlin.schemas import Usage
from marlin.streams.otel.span import Scalar, Span

__all__ = ["DEFAULT_AGENT", "Call", "inference_call", "is_inference"]

DEFAULT_AGENT = "default"
"""The agent of a call that names none, as in the SDK."""

_OPERATIONS = frozenset({"chat", "text_completion", "generate_content", "embeddings"})
_OPENINFERENCE_KINDS = frozenset({"LLM", "EMBEDDING"})
_OPENLLMETRY_REQUESTS = frozenset({"chat", "completion", "embedding"})
_VERCEL_CALLS = (".doGenerate", ".doStream", ".doEmbed")

_AGENT = ("gen_ai.agent.name", "gen_ai.agent.id")
_TENANT = ("marlin.tenant", "tenant.id")
_PROJECT = ("marlin.project", "service.name")
_REGION = ("marlin.region", "cloud.region")

_MAX_EPOCH_NS = 253_402_300_800 * 10**9  # the year 10000, which RFC 3339 cannot write


class Call:
    """A usage event without `producer_id` and `seq`, as JSON, and what judging it takes."""

    __slots__ = ("is_reported", "json", "run_id")

    def __init__(self, usage: Usage) -> None:
        self.run_id = usage.run_id
        self.is_reported = usage.usage_quality != "missing"
        self.json = orjson.dumps(
            usage.model_dump(exclude={"producer_id", "seq"}, exclude_none=True),
            option=orjson.OPT_UTC_Z,
        )


def is_inference(attributes: dict[str, Scalar] | Span) -> bool:
    """Whether a span is one call of a model, not an agent, a chain or a tool around such calls.

    The first of these that it says decides: its operation (OpenTelemetry), its kind
    (OpenInference), its request type (OpenLLMetry), its operation id (Vercel AI SDK). A span that
    says none of them is a call if it has tokens and a model.
    """
    said = attributes.attributes if isinstance(attributes, Span) else attributes
    if (operation := said.get("gen_ai.operation.name")) is not None:
        return operation in _OPERATIONS
    if (kind := said.get("openinference.span.kind")) is not None:
        return kind in _OPENINFERENCE_KINDS
    if (request := said.get("llm.request.type")) is not None:
        return request in _OPENLLMETRY_REQUESTS
    if (operation_id := said.get("ai.operationId")) is not None:
        return str(operation_id).endswith(_VERCEL_CALLS)
    if said.get("traceloop.span.kind") is not None:
        return False
    return otel.has_usage(said) and otel.model(said) != "unknown"


def inference_call(span: Span, *, run_id_attributes: Sequence[str], received_ms: int) -> Call:
    """The usage event of an inference span; `received_ms` is its time where it has none [ms].

    A span without token counts makes an event of quality `missing`: never nothing, never a
    reported zero. One that failed and has counts is `partial`. Raises `DataError` for values
    that no event can carry.
    """
    attributes = span.attributes
    tokens = otel.attributes(attributes, scope=span.scope)
    failed = span.failed and tokens.quality == "reported"
    try:
        usage = Usage(
            event_id=f"{span.trace_id}-{span.span_id}",
            run_id=_first(span, run_id_attributes) or span.trace_id,
            agent_id=_first(span, _AGENT) or DEFAULT_AGENT,
            producer_id="otlp",
            seq=0,
            time=_time(span, received_ms),
            provider=otel.provider(attributes),
            model=otel.model(attributes),
            region=_first(span, _REGION) or "",
            input_tokens=tokens.input_tokens,
            cache_read_tokens=tokens.cache_read_tokens,
            cache_write_tokens=tokens.cache_write_tokens,
            output_tokens=tokens.output_tokens,
            reasoning_tokens=tokens.reasoning_tokens,
            latency_s=_latency_s(span),
            cost_usd=tokens.cost_usd,
            tenant=_first(span, _TENANT),
            project=_first(span, _PROJECT),
            usage_quality="partial" if failed else tokens.quality,
        )
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, error["loc"])) or "event"
        raise DataError(f"{where}: {error['msg']} (found {error['input']!r:.60})") from exc
    return Call(usage)


def _first(span: Span, names: Iterable[str]) -> str | None:
    """The first of the attributes `names` that the span has, else that its resource has."""
    for source in (span.attributes, span.resource):
        for name in names:
            value = source.get(name)
            if value is not None and value != "":
                return str(value)
    return None


def _time(span: Span, received_ms: int) -> datetime:
    ns = span.end_ns or span.start_ns or received_ms * 10**6
    if not 0 <= ns < _MAX_EPOCH_NS:
        raise DataError(f"expected a time from 1970 to 9999, found {ns} ns since 1970")
    return datetime.fromtimestamp(ns // 10**6 / 1000, UTC)


def _latency_s(span: Span) -> float | None:
    return (span.end_ns - span.start_ns) / 1e9 if 0 < span.start_ns <= span.end_ns else None
