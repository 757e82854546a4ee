"""Bodies to events, or to a refusal that says why."""

from __future__ import annotations

import json

import orjson
import pytest
from events import started, usage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marlin.schemas import Event, Usage, dump
from marlin.web.ingest import (
    MAX_EVENT_BYTES,
    MAX_LISTED,
    BadEvent,
    Format,
    Refusal,
    format_of,
    read_events,
)

# How long an example takes depends on what else the machine does.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


def fields(**changes: object) -> dict[str, object]:
    """A usage event as JSON; a field set to `...` is left out."""
    changed = orjson.loads(dump(usage())) | changes
    return {name: value for name, value in changed.items() if value is not ...}


def read(body: bytes, layout: Format = Format.JSON) -> list[Event] | Refusal:
    return read_events(body, layout, max_events=50)


def refused(body: bytes, layout: Format = Format.JSON) -> Refusal:
    answer = read(body, layout)
    assert isinstance(answer, Refusal)
    return answer


def test_one_event_an_array_and_lines_give_the_same_events() -> None:
    events = [started(), usage(seq=0), usage("räksmörgås", seq=1)]
    values = [dump(event) for event in events]

    assert read(b" \n" + values[0]) == events[:1]
    assert read(b"[" + b",\n".join(values) + b"]") == events
    assert read(b"\n".join(values), Format.JSON_LINES) == events
    assert read(b"\r\n".join(values) + b"\r\n\r\n", Format.JSON_LINES) == events


@pytest.mark.parametrize(("body", "layout"), [(b"[]", Format.JSON), (b"\n \n", Format.JSON_LINES)])
def test_no_event_is_no_error(body: bytes, layout: Format) -> None:
    assert read(body, layout) == []


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"type": ...}, "type", "Unable to extract tag using discriminator 'type'"),
        ({"type": "nonsense"}, "type", "Input tag 'nonsense' found using 'type' does not match"),
        ({"type": ["usage"]}, "type", "Input tag '['usage']' found"),
        ({"run_id": ...}, "run_id", "Field required"),
        ({"run_id": ""}, "run_id", "String should have at least 1 character"),
        ({"run_id": "r" * 257}, "run_id", "String should have at most 256 characters"),
        ({"input_tokens": -1}, "input_tokens", "Input should be greater than or equal to 0"),
        ({"input_tokens": 1.0}, "input_tokens", "Input should be a valid integer"),
        ({"input_tokens": "1"}, "input_tokens", "Input should be a valid integer"),
        ({"input_tokens": True}, "input_tokens", "Input should be a valid integer"),
        ({"input_tokens": 100_000_001}, "input_tokens", "less than or equal to 100000000"),
        ({"seq": 2**63}, "seq", "Input should be less than or equal to"),
        ({"time": "2026-03-01T12:00:00+01:00"}, "time", "Timezone offset of 0 required"),
        ({"time": "yesterday"}, "time", "Input should be a valid datetime"),
        ({"reasoning_tokens": 201}, None, "reasoning_tokens (201) is part of output_tokens (200)"),
        ({"cost": 1}, "cost", "Extra inputs are not permitted"),
        ({"labels": {"team": 5}}, "labels.team", "Input should be a valid string"),
        ({"labels": {f"{n}": "" for n in range(33)}}, "labels", "at most 32 items"),
    ],
)
@pytest.mark.parametrize("layout", Format)
def test_a_bad_field_is_named_with_its_reason(
    changes: dict[str, object], field: str | None, reason: str, layout: Format
) -> None:
    good, bad = dump(usage()), orjson.dumps(fields(**changes))
    body = b"[%b,\n%b]" % (good, bad) if layout is Format.JSON else b"%b\n%b" % (good, bad)

    answer = refused(body, layout)

    assert answer.status == 422
    (found,) = answer.bad_events
    assert (found.index, found.field) == (1, field)
    assert reason in found.reason


@pytest.mark.parametrize("value", [b"3", b'"usage"', b"null", b"true"])
def test_json_that_is_no_object_is_a_bad_event(value: bytes) -> None:
    expected = (BadEvent(0, None, "Input should be an object"),)

    assert refused(value).bad_events == expected
    assert refused(value, Format.JSON_LINES).bad_events == expected


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"nonsense", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"{} {}", b"[{},]"),
        *(b'{"seq": NaN}', b'{"seq": Infinity}', b'{"run_id": "\\ud800"}', b'{"a": "\xe4"}'),
        *(b"[" * 100_000, b"\x00", b"{'type': 'usage'}"),
    ],
)
def test_what_is_not_json_is_refused_as_that(body: bytes) -> None:
    assert refused(body).status == 400
    if body:
        answer = refused(dump(usage()) + b"\n\n" + body, Format.JSON_LINES)
        assert answer.status == 400
        assert "line 2:" in answer.detail


def test_only_the_first_bad_events_are_listed() -> None:
    answer = refused(orjson.dumps([fields(seq=-1)] * 49))

    assert [bad.index for bad in answer.bad_events] == list(range(MAX_LISTED))
    assert {bad.field for bad in answer.bad_events} == {"seq"}


def test_more_events_than_allowed_are_refused_and_as_many_are_not() -> None:
    value = dump(usage())

    for layout, joint in ((Format.JSON, b",\n"), (Format.JSON_LINES, b"\n")):
        bodies = [joint.join([value] * count) for count in (50, 51)]
        if layout is Format.JSON:
            bodies = [b"[%b]" % body for body in bodies]
        assert read(bodies[0], layout) == [usage()] * 50
        assert refused(bodies[1], layout).status == 413


def test_the_largest_event_of_the_contracts_is_taken() -> None:
    # Outside the basic plane: escaped, a character takes 12 bytes.
    name = "\U0001f30d" * 250
    largest = usage(
        **dict.fromkeys(
            ("run_id", "event_id", "agent_id", "producer_id", "provider", "model", "region"),
            "\U0001f30d" * 256,
        ),
        labels={f"{name}{n:06}": "\U0001f30d" * 256 for n in range(32)},
    )
    escaped = largest.model_dump_json(ensure_ascii=True, exclude_none=True).encode()

    assert len(escaped) > 200_000
    assert read(escaped) == read(escaped, Format.JSON_LINES) == [largest]


def test_an_event_beyond_any_is_refused_for_its_size() -> None:
    body = orjson.dumps(fields(**{f"unknown-{n}": 0 for n in range(20_000)}))

    (bad,) = refused(body).bad_events

    assert len(body) > MAX_EVENT_BYTES
    assert bad.reason == f"expected at most {MAX_EVENT_BYTES} bytes, found {len(body)}"


@pytest.mark.parametrize("depth", [100, 250, 300, 900])
def test_deep_nesting_is_a_bad_event(depth: int) -> None:
    deep = b'[{"type":"usage","labels":' + b"[" * depth + b"]" * depth + b"}]"

    assert refused(deep).status == 422
    assert refused(deep[1:-1], Format.JSON_LINES).status == 422


def test_what_is_told_back_stays_short() -> None:
    answer = refused(orjson.dumps([fields(type="x" * 9000), fields(**{"y" * 9000: 1})]))

    assert [len(bad.reason) for bad in answer.bad_events] == [300, 30]
    assert answer.bad_events[1].field == "y" * 300


@PATIENT
@given(st.binary(), st.sampled_from(Format))
def test_any_bytes_are_read_or_refused(body: bytes, layout: Format) -> None:
    answer = read(body, layout)

    assert answer == [] or isinstance(answer, Refusal)


@PATIENT
@given(
    st.dictionaries(st.sampled_from(sorted(fields())), JSON_VALUES, max_size=3),
    st.sampled_from(Format),
)
def test_any_change_of_an_event_is_read_or_named(
    changes: dict[str, object], layout: Format
) -> None:
    # json, not orjson: it writes integers of any size.
    answer = read(json.dumps(fields(**changes)).encode(), layout)

    if isinstance(answer, Refusal):
        (bad,) = answer.bad_events
        assert answer.status == 422
        assert bad.index == 0
        assert bad.field is None or bad.field.partition(".")[0] in changes
    else:
        (event,) = answer
        assert isinstance(event, Usage)
        assert Usage.model_validate_json(dump(event)) == event


@pytest.mark.parametrize(
    ("content_type", "layout"),
    [
        ("application/json", Format.JSON),
        ("Application/JSON ; charset=utf-8", Format.JSON),
        ("application/x-ndjson", Format.JSON_LINES),
        ("application/jsonl", Format.JSON_LINES),
        (None, None),
        ("", None),
        ("text/plain", None),
        ("application/jsonp", None),
        ("application/json, text/plain", None),
        (";application/json", None),
    ],
)
def test_the_content_type_names_the_format(content_type: str | None, layout: Format | None) -> None:
    assert format_of(content_type) is layout
