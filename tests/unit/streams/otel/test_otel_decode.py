"""OTLP in protobuf and JSON, told apart record by record."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, ResourceLogs, ScopeLogs
from otel_spans import START_NS, as_json, as_proto, chat, span

from marlin.errors import DataError
from marlin.streams.otel.decode import decode

SAMPLES = Path(__file__).parents[4] / "../shared/samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples in ../shared")

SPANS = [
    chat(2, trace=0xABC, parent=1, scope="openai", failed=True, flag=True, share=0.5, tags=["a"]),
    span(1, trace=0xABC, resource={"service.name": "other"}),
]


def json_with(**changes: Any) -> bytes:
    """A valid request with one span, changed."""
    request = json.loads(as_json([chat(7)]))
    request["resourceSpans"][0]["scopeSpans"][0]["spans"][0] |= changes
    return json.dumps(request).encode()


@pytest.mark.parametrize("encode", [as_proto, as_json])
def test_both_encodings_say_the_same(encode: Any) -> None:
    inner, outer = sorted(decode(encode(SPANS)).spans, key=lambda span: span.span_id, reverse=True)

    assert inner.trace_id == f"{0xABC:032x}"
    assert (inner.span_id, inner.parent_id) == (f"{2:016x}", f"{1:016x}")
    assert (inner.start_ns, inner.end_ns) == (START_NS, START_NS + 2_000_000_000)
    assert inner.failed
    assert inner.scope == "openai"
    assert inner.resource == {"service.name": "agents", "cloud.region": "eu-west-1"}
    # Lists carry no usage, and are left out.
    assert inner.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 10,
        "flag": True,
        "share": 0.5,
    }
    assert (outer.parent_id, outer.failed) == ("", False)
    assert outer.resource == {"service.name": "other"}


@needs_samples
def test_the_samples_decode_alike() -> None:
    text = (SAMPLES / "otlp_json_traces_kafka_value.json").read_bytes()
    binary = base64.b64decode((SAMPLES / "otlp_proto_traces_kafka_value.b64").read_bytes())

    assert decode(text) == decode(binary)
    assert [span.span_id for span in decode(text).spans] == ["00f067aa0ba902b7", "53995c3f42cd8ad8"]


def test_json_may_have_numbers_upper_case_and_unknown_fields() -> None:
    changed = json_with(
        spanId="00F067AA0BA902B7",
        parentSpanId="0000000000000000",
        startTimeUnixNano=5,
        unheardOf={"x": []},
        status={"code": "STATUS_CODE_ERROR"},
        attributes=[
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": 12}},
            {"key": "cost", "value": {"doubleValue": "NaN"}},
            {"key": "empty", "value": {}},
        ],
    )

    (found,) = decode(changed).spans
    assert (found.span_id, found.parent_id, found.start_ns) == ("00f067aa0ba902b7", "", 5)
    assert found.failed
    assert found.attributes == {"gen_ai.usage.input_tokens": 12, "cost": "NaN"}


@pytest.mark.parametrize("value", [b"\n  ", b" \n"])
def test_json_may_be_pretty_printed(value: bytes) -> None:
    assert len(decode(value + json.dumps(json.loads(as_json(SPANS)), indent=2).encode()).spans) == 2


@pytest.mark.parametrize("value", [b"", b"{}", b'{"resourceSpans":[]}', b'{"resourceSpans":null}'])
def test_an_empty_export_has_no_spans(value: bytes) -> None:
    assert decode(value).spans == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"junk", "as protobuf or JSON, found b'junk'"),
        (b"\x1f\x8b\x08\x00", "as protobuf or JSON"),
        (b'{"resourceSpans":', "OTLP traces as JSON"),
        (b'{"resourceLogs":[]}', "expected resourceSpans, found ['resourceLogs']"),
        (b'{"resourceSpans":{}}', "expected a list of objects as resourceSpans"),
        (b'{"resourceSpans":[7]}', "expected a list of objects as resourceSpans"),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":"x"}]}]}', "list of objects as spans"),
        (b'{"resourceSpans":[{"resource":[]}]}', "expected an object as resource"),
        (b"[" * 100_000, "as protobuf or JSON"),
        (b'{"a":' * 100_000, "OTLP traces as JSON"),
        (b"\x78\x01", "protobuf without resource_spans"),
    ],
)
def test_what_is_no_export_is_refused(value: bytes, reason: str) -> None:
    with pytest.raises(DataError) as refused:
        decode(value)

    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"traceId": ""}, "expected a trace id of 32 hex digits, not all 0, found ''"),
        ({"traceId": "0" * 32}, "expected a trace id"),
        ({"spanId": "xyz"}, "expected a span id of 16 hex digits"),
        ({"spanId": 7}, "expected a span id"),
        ({"parentSpanId": "abc"}, "expected a parent span id"),
        ({"endTimeUnixNano": "soon"}, "expected a whole number as endTimeUnixNano"),
        ({"endTimeUnixNano": -1}, "expected a whole number as endTimeUnixNano"),
        ({"endTimeUnixNano": "9" * 5000}, "expected a whole number as endTimeUnixNano"),
        ({"status": "bad"}, "expected an object as status"),
        ({"attributes": [{"value": {"intValue": 1}}]}, "expected the key of an attribute"),
        (
            {"attributes": [{"key": "n", "value": {"intValue": "1.5"}}]},
            "expected a whole number as n, found '1.5'",
        ),
    ],
)
def test_a_bad_span_does_not_harm_its_neighbours(changes: dict[str, Any], problem: str) -> None:
    request = json.loads(json_with(**changes))
    good = json.loads(as_json([chat(8)]))
    request["resourceSpans"] += good["resourceSpans"]

    export = decode(json.dumps(request).encode())
    assert [span.span_id for span in export.spans] == [f"{8:016x}"]
    assert len(export.problems) == 1
    assert problem in export.problems[0]


def test_other_signals_on_the_topic_are_refused() -> None:
    logs = LogsData(
        resource_logs=[
            ResourceLogs(scope_logs=[ScopeLogs(log_records=[LogRecord(time_unix_nano=START_NS)])])
        ]
    )

    export = decode(logs.SerializeToString())
    assert export.spans == []
    assert export.problems == ["expected a trace id of 32 hex digits, not all 0, found ''"]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(value: bytes) -> None:
    try:
        export = decode(value)
    except DataError:
        return
    assert export.spans == []


@settings(deadline=None)
@given(st.integers(0, 600), st.integers(0, 255))
def test_a_damaged_export_never_raises_anything_else(at: int, byte: int) -> None:
    for whole in (as_proto(SPANS), as_json(SPANS)):
        damaged = bytearray(whole)
        damaged[at % len(damaged)] = byte
        with contextlib.suppress(DataError):
            assert len(decode(bytes(damaged)).spans) <= 2
