"""The contracts: what they accept, and what they refuse with which reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from marlin.schemas import (
    CARBON_RECORDS,
    EVENT,
    EVENTS,
    MAX_TOKENS,
    DeadLetter,
    RunStarted,
    SourcePosition,
    Usage,
    command_id,
    dump,
    examples,
)
from marlin.schemas.base import Contract
from marlin.schemas.generate import FAMILIES


def usage(**changes: Any) -> bytes:
    """A good usage event with `changes`; a field changed to `...` is left out."""
    fields: dict[str, Any] = {
        "type": "usage",
        "event_id": "e1",
        "run_id": "r1",
        "agent_id": "a1",
        "producer_id": "p1",
        "seq": 0,
        "time": "2026-03-01T12:00:00Z",
        "provider": "openai",
        "model": "gpt-4o",
        "region": "DE",
        "input_tokens": 100,
        "output_tokens": 20,
    }
    fields |= changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def refusal(event: bytes) -> tuple[str, str]:
    """Where and why a single event is refused: (field, pydantic's error type)."""
    with pytest.raises(ValidationError) as caught:
        EVENT.validate_json(event)
    (error,) = caught.value.errors()
    return ".".join(map(str, error["loc"][1:])), error["type"]


def test_defaults_of_a_minimal_usage() -> None:
    event = EVENT.validate_json(usage())

    assert isinstance(event, Usage)
    assert event.time == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert (event.input_tokens, event.output_tokens) == (100, 20)
    assert (event.cache_read_tokens, event.cache_write_tokens, event.reasoning_tokens) == (0, 0, 0)
    assert (event.latency_s, event.cost_usd, event.labels) == (None, None, None)
    assert event.usage_quality == "reported"


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"surprise": 1}, "surprise", "extra_forbidden"),
        ({"run_id": ...}, "run_id", "missing"),
        ({"run_id": ""}, "run_id", "string_too_short"),
        ({"run_id": "r" * 257}, "run_id", "string_too_long"),
        ({"run_id": 7}, "run_id", "string_type"),
        ({"run_id": None}, "run_id", "string_type"),
        ({"provider": "p" * 257}, "provider", "string_too_long"),
        ({"input_tokens": -1}, "input_tokens", "greater_than_equal"),
        ({"input_tokens": MAX_TOKENS + 1}, "input_tokens", "less_than_equal"),
        ({"input_tokens": 10**30}, "input_tokens", "less_than_equal"),
        ({"input_tokens": "100"}, "input_tokens", "int_type"),
        ({"input_tokens": 100.0}, "input_tokens", "int_type"),
        ({"input_tokens": True}, "input_tokens", "int_type"),
        ({"output_tokens": ...}, "output_tokens", "missing"),
        ({"seq": -1}, "seq", "greater_than_equal"),
        ({"seq": 2**53 + 1}, "seq", "less_than_equal"),
        ({"reasoning_tokens": 21}, "", "value_error"),
        ({"time": "2026-03-01T12:00:00+01:00"}, "time", "timezone_offset"),
        ({"time": "2026-03-01T12:00:00"}, "time", "timezone_aware"),
        ({"time": 1772366400}, "time", "datetime_type"),
        ({"time": "yesterday"}, "time", "datetime_parsing"),
        ({"latency_s": -0.1}, "latency_s", "greater_than_equal"),
        ({"cost_usd": float("nan")}, "cost_usd", "finite_number"),
        ({"cost_usd": float("inf")}, "cost_usd", "finite_number"),
        ({"cost_usd": "0.1"}, "cost_usd", "float_type"),
        ({"usage_quality": "guessed"}, "usage_quality", "literal_error"),
        ({"labels": {"team": 3}}, "labels.team", "string_type"),
        ({"labels": {str(n): "x" for n in range(33)}}, "labels", "too_long"),
        ({"labels": []}, "labels", "dict_type"),
    ],
)
def test_a_bad_usage_is_refused(changes: dict[str, Any], field: str, reason: str) -> None:
    assert refusal(usage(**changes)) == (field, reason)


@pytest.mark.parametrize(
    "changes",
    [
        {"input_tokens": 0, "output_tokens": 0},
        {"input_tokens": MAX_TOKENS, "output_tokens": MAX_TOKENS},
        {"reasoning_tokens": 20},
        {"seq": 2**53},
        {"run_id": "r" * 256},
        {"run_id": "läuft-🌍"},
        {"provider": "", "region": ""},
        {"latency_s": 0, "cost_usd": 1},
        {"labels": {str(n): "x" for n in range(32)}},
        {"time": "2026-03-01T12:00:00.123456+00:00"},
    ],
)
def test_the_limits_themselves_are_accepted(changes: dict[str, Any]) -> None:
    assert isinstance(EVENT.validate_json(usage(**changes)), Usage)


@pytest.mark.parametrize(
    "changes", [{"type": ...}, {"type": "usages"}, {"type": "carbon"}, {"type": None}]
)
def test_an_event_says_its_type(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="union_tag"):
        EVENT.validate_json(usage(**changes))


@pytest.mark.parametrize(
    "value", [b"", b"nope", b"null", b"[]", b"{}", b'"usage"', b"\xff\xfe", usage()[:-1]]
)
def test_what_is_not_an_event_is_refused(value: bytes) -> None:
    with pytest.raises(ValidationError):
        EVENT.validate_json(value)


def test_a_duplicate_field_takes_the_last_value() -> None:
    twice = usage()[:-1] + b', "input_tokens": 7}'

    event = EVENT.validate_json(twice)

    assert isinstance(event, Usage)
    assert event.input_tokens == 7


def test_one_bad_event_fails_a_whole_array() -> None:
    good, bad = usage(), usage(seq=-1)

    assert len(EVENTS.validate_json(b"[" + good + b"," + good + b"]")) == 2
    with pytest.raises(ValidationError):
        EVENTS.validate_json(b"[" + good + b"," + bad + b"]")


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"carbon_budget_g": -1}, "carbon_budget_g"),
        ({"carbon_budget_g": "500"}, "carbon_budget_g"),
        ({"warn_at": [0]}, "warn_at.0"),
        ({"warn_at": [1.01]}, "warn_at.0"),
        ({"warn_at": [0.5] * 9}, "warn_at"),
        ({"bound": "median"}, "bound"),
        ({"action": "explode"}, "action"),
        ({"enable_environmental": 1}, "enable_environmental"),
    ],
)
def test_a_bad_policy_is_refused(policy: dict[str, Any], field: str) -> None:
    started = {"type": "run.started", "run_id": "r", "time": "2026-03-01T12:00:00Z"}

    where, _ = refusal(json.dumps({**started, "policy": policy}).encode())

    assert where == f"policy.{field}"


def test_a_run_without_a_policy_is_tracked_and_not_enforced() -> None:
    event = EVENT.validate_json(
        b'{"type":"run.started","run_id":"r","time":"2026-03-01T12:00:00Z"}'
    )

    assert isinstance(event, RunStarted)
    assert event.policy.enable_environmental
    assert event.policy.carbon_budget_g is None
    assert event.policy.warn_at == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_record_survives_the_wire(family: str) -> None:
    record = FAMILIES[family]
    wire = dump(record)

    assert type(record).model_validate_json(wire) == record
    assert dump(type(record).model_validate_json(wire)) == wire
    assert json.loads(wire)["type"] == family


def test_what_is_unset_does_not_travel() -> None:
    assert "project" not in json.loads(dump(examples.USAGE))
    assert json.loads(dump(examples.CARBON))["usage"] == json.loads(dump(examples.USAGE))
    assert b'"time":"2026-03-01T12:00:04Z"' in dump(examples.USAGE)


def test_carbon_records_are_told_apart_by_type() -> None:
    wire = b"[" + dump(examples.CARBON) + b"," + dump(examples.LIFECYCLE) + b"]"

    assert CARBON_RECORDS.validate_json(wire) == [examples.CARBON, examples.LIFECYCLE]


def test_contracts_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        examples.USAGE.input_tokens = 1  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def test_a_time_in_code_must_be_utc_too() -> None:
    elsewhere = datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=1)))

    with pytest.raises(ValidationError, match="timezone_offset"):
        Usage.model_validate({**examples.USAGE.model_dump(), "time": elsewhere})


def test_a_command_id_depends_on_run_and_cause_only() -> None:
    again = command_id("run-1", "carbon_budget_exceeded")

    assert command_id("run-1", "carbon_budget_exceeded") == again
    assert len(again) == 32
    assert command_id("run-2", "carbon_budget_exceeded") != again
    assert command_id("run-1", "warn:0.8") != again
    # Without a separator these two would be one.
    assert command_id("b", "a") != command_id("", "ab")


@given(
    topic=st.from_regex(r"[a-zA-Z0-9._-]{1,40}", fullmatch=True),
    partition=st.integers(0, 10_000),
    offset=st.integers(0, 2**63 - 1),
)
def test_a_source_position_survives_text(topic: str, partition: int, offset: int) -> None:
    position = SourcePosition(topic, partition, offset)

    assert SourcePosition.parse(str(position)) == position


@pytest.mark.parametrize("text", ["", "topic", "topic-1", "topic-one-2", "topic-1-"])
def test_what_is_no_source_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not enough values|invalid literal"):
        SourcePosition.parse(text)


def test_a_dead_letter_travels_as_headers_beside_those_of_the_record() -> None:
    headers = [("trace", b"\xff"), *examples.DEAD_LETTER.to_headers()]

    assert ("marlin.step", b"validate") in headers
    assert ("marlin.offset", b"1042") in headers
    assert DeadLetter.from_headers(headers) == examples.DEAD_LETTER


def test_the_reason_of_a_dead_letter_is_bounded() -> None:
    with pytest.raises(ValidationError, match="2048"):
        DeadLetter.model_validate({**examples.DEAD_LETTER.model_dump(), "reason": "x" * 2049})


def test_every_family_is_strict() -> None:
    for record in FAMILIES.values():
        contract = type(record)
        assert issubclass(contract, Contract)
        assert contract.model_config.get("extra") == "forbid"
        assert contract.model_config.get("strict")
        assert contract.model_config.get("frozen")
