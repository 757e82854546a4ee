"""Which spans are calls of a model, and the usage events they make."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from otel_spans import START_NS, as_proto, chat

from marlin.errors import DataError
from marlin.schemas import EVENT, Usage
from marlin.streams.otel.decode import decode
from marlin.streams.otel.inference import Call, inference_call, is_inference
from marlin.streams.otel.span import Scalar

RUN_ID = ("marlin.run_id", "gen_ai.conversation.id")
TOKENS: dict[str, Scalar] = {"gen_ai.usage.input_tokens": 1, "gen_ai.request.model": "gpt-4o"}


def call(received_ms: int = 0, **changes: Any) -> Call:
    (found,) = decode(as_proto([chat(7, **changes)])).spans
    return inference_call(found, run_id_attributes=RUN_ID, received_ms=received_ms)


def usage(received_ms: int = 0, **changes: Any) -> Usage:
    """The event as the worker reads it."""
    fields = orjson.loads(call(received_ms, **changes).json)
    assert not fields.keys() & {"producer_id", "seq"}
    event = EVENT.validate_json(orjson.dumps(fields | {"producer_id": "p", "seq": 0}))
    assert isinstance(event, Usage)
    return event


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"gen_ai.operation.name": "chat"}, True),
        ({"gen_ai.operation.name": "text_completion"}, True),
        ({"gen_ai.operation.name": "generate_content"}, True),
        ({"gen_ai.operation.name": "embeddings"}, True),
        ({"gen_ai.operation.name": "invoke_agent", **TOKENS}, False),
        ({"gen_ai.operation.name": "invoke_workflow", **TOKENS}, False),
        ({"gen_ai.operation.name": "execute_tool"}, False),
        ({"gen_ai.operation.name": "invoke_agent", "openinference.span.kind": "LLM"}, False),
        ({"openinference.span.kind": "LLM"}, True),
        ({"openinference.span.kind": "EMBEDDING"}, True),
        ({"openinference.span.kind": "CHAIN", **TOKENS}, False),
        ({"openinference.span.kind": "AGENT", **TOKENS}, False),
        ({"llm.request.type": "chat"}, True),
        ({"llm.request.type": "rerank", **TOKENS}, False),
        ({"ai.operationId": "ai.streamText.doStream"}, True),
        ({"ai.operationId": "ai.streamText", **TOKENS}, False),
        ({"traceloop.span.kind": "workflow", **TOKENS}, False),
        (TOKENS, True),
        ({"gen_ai.usage.input_tokens": 1}, False),
        ({"gen_ai.request.model": "gpt-4o"}, False),
        ({"http.request.method": "POST"}, False),
        ({}, False),
    ],
)
def test_only_calls_of_a_model_are_inference(said: dict[str, Scalar], expected: bool) -> None:
    assert is_inference(said) is expected


def test_a_call_becomes_an_event() -> None:
    event = usage(
        trace=0xABC,
        tokens=(2255, 120),
        gen_ai__response__model="gpt-4o-2024-08-06",
        gen_ai__usage__cache_read__input_tokens=512,
        gen_ai__agent__name="researcher",
        gen_ai__conversation__id="run-7f3a",
    )

    assert event == Usage(
        event_id=f"{0xABC:032x}-{7:016x}",
        run_id="run-7f3a",
        agent_id="researcher",
        producer_id="p",
        seq=0,
        time=datetime.fromtimestamp(START_NS / 1e9 + 2, UTC),
        provider="openai",
        model="gpt-4o-2024-08-06",
        region="eu-west-1",
        input_tokens=1743,
        cache_read_tokens=512,
        output_tokens=120,
        latency_s=2.0,
        project="agents",
    )


def test_the_run_is_the_first_attribute_of_the_span_then_of_its_resource_then_the_trace() -> None:
    both: dict[str, Any] = {"gen_ai__conversation__id": "conversation", "marlin__run_id": "run"}
    resource = {"marlin.run_id": "of the process"}

    assert call(**both, resource=resource).run_id == "run"
    assert call(gen_ai__conversation__id="c", resource=resource).run_id == "c"
    assert call(resource=resource).run_id == "of the process"
    assert call(gen_ai__conversation__id="", trace=0xABC).run_id == f"{0xABC:032x}"
    assert call(gen_ai__conversation__id=42).run_id == "42"


def test_tenant_project_and_region() -> None:
    of_process = {"marlin.tenant": "acme", "marlin.project": "briefs", "service.name": "agents"}
    event = usage(resource={**of_process, "cloud.region": "eu-west-1"}, marlin__region="us-east-1")

    assert (event.tenant, event.project, event.region) == ("acme", "briefs", "us-east-1")
    bare = usage(resource={})
    assert (bare.tenant, bare.region, bare.agent_id) == (None, "", "default")


@pytest.mark.parametrize(
    ("changes", "quality", "tokens"),
    [
        ({}, "reported", (100, 10)),
        ({"failed": True}, "partial", (100, 10)),
        ({"tokens": None}, "missing", (0, 0)),
        ({"tokens": None, "failed": True}, "missing", (0, 0)),
        ({"tokens": None, "gen_ai__usage__total_tokens": 9, "failed": True}, "estimated", (9, 0)),
    ],
)
def test_what_is_not_known_is_flagged(
    changes: dict[str, Any], quality: str, tokens: tuple[int, int]
) -> None:
    event = usage(**changes)

    assert event.usage_quality == quality
    assert (event.input_tokens, event.output_tokens) == tokens
    assert call(**changes).is_reported is (quality != "missing")


def test_times_that_are_not_said_fall_back() -> None:
    ended = usage(end_ns=START_NS - 1)
    assert ended.latency_s is None

    started = usage(end_ns=0)
    assert started.time == datetime.fromtimestamp(START_NS / 1e9, UTC)
    assert started.latency_s is None

    received = usage(received_ms=1_772_366_400_123, start_ns=0, end_ns=0)
    assert received.time == datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gen_ai__conversation__id": "r" * 257}, "run_id: String should have at most 256"),
        ({"gen_ai__agent__name": "a" * 257}, "agent_id: String should have at most 256"),
        ({"tokens": (-1, 1)}, "gen_ai.usage.input_tokens is -1"),
        ({"start_ns": 0, "end_ns": 0, "received_ms": 2**62}, "a time from 1970 to 9999"),
        ({"start_ns": 0, "end_ns": 0, "received_ms": -1}, "a time from 1970 to 9999"),
    ],
)
def test_what_no_event_can_carry_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError) as refused:
        call(**changes)

    assert reason in str(refused.value)
