"""LiteLLM's usage, and the records that its callbacks log, against the samples and literals."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.errors import DataError
from marlin.normalise.litellm import payload_event, payload_tokens, usage_object
from marlin.schemas import Usage
from marlin.tokens import TokenUsage

SAMPLES = Path(__file__).parents[3] / "../shared/samples"

USAGE = {
    "prompt_tokens": 2255,
    "completion_tokens": 120,
    "total_tokens": 2375,
    "cache_read_input_tokens": 512,
    "cache_creation_input_tokens": 1733,
    "prompt_tokens_details": {"cached_tokens": 512, "cache_creation_tokens": 1733},
    "completion_tokens_details": {"reasoning_tokens": 70},
}
PAYLOAD: dict[str, Any] = {
    "id": "chatcmpl-1",
    "litellm_call_id": "call-1",
    "trace_id": "trace-1",
    "session_id": "",
    "call_type": "acompletion",
    "status": "success",
    "custom_llm_provider": "anthropic",
    "model": "claude-sonnet-4-5",
    "api_base": "https://api.anthropic.com",
    "startTime": 1_769_000_000.0,
    "endTime": 1_769_000_003.5,
    "response_cost": 0.25,
    "cache_hit": False,
    "metadata": {"usage_object": USAGE},
}
CLASSES = TokenUsage(10, 120, 512, 1733, 70)


def event(**changes: Any) -> dict[str, Any]:
    found = payload_event(PAYLOAD | changes)
    assert found is not None
    return found


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples beside this checkout")
def test_the_sample_becomes_one_event_with_each_token_once() -> None:
    sample = json.loads((SAMPLES / "litellm_standard_logging_payload.json").read_text())
    rules = json.loads((SAMPLES / "normalisation_rules.json").read_text())
    expected = rules["expected_for_these_samples"]["anthropic"]

    found = payload_event(sample)

    assert found is not None
    assert Usage(**found, producer_id="p", seq=0) == Usage(
        event_id="chatcmpl-123",
        run_id="run-7f3a",
        agent_id="agent-researcher",
        producer_id="p",
        seq=0,
        time=datetime(2026, 1, 21, 12, 53, 23, 900_000, tzinfo=UTC),
        provider="anthropic",
        model="claude-sonnet-4-5",
        region="",
        input_tokens=expected["fresh"],
        cache_read_tokens=expected["read"],
        cache_write_tokens=expected["write"],
        output_tokens=expected["out"],
        reasoning_tokens=expected["reasoning"],
        latency_s=3.899,
        cost_usd=0.00123,
        project="team-x",
    )


def test_openais_and_anthropics_names_of_the_cache_are_the_same_tokens() -> None:
    openais = {
        key: value for key, value in USAGE.items() if not key.startswith(("cache_", "prompt_tok"))
    }
    openais |= {
        "prompt_tokens": 2255,
        "prompt_tokens_details": {"cached_tokens": 512, "cache_write_tokens": 1733},
    }

    assert usage_object(USAGE) == usage_object(openais) == CLASSES


def test_an_embedding_has_no_output() -> None:
    assert usage_object({"prompt_tokens": 8, "total_tokens": 8}) == TokenUsage(8, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt_tokens": None}, "without prompt_tokens"),
        ({"prompt_tokens": 2244}, r"exceed prompt_tokens \(2244\)"),
        ({"completion_tokens": 69}, "reasoning_tokens"),
        ({"cache_read_input_tokens": -1}, "cache_read_input_tokens is -1"),
        ({"prompt_tokens_details": [512]}, "prompt_tokens_details"),
        ({"completion_tokens": "120"}, "completion_tokens is '120'"),
    ],
)
def test_impossible_counts_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        usage_object(USAGE | change)


def test_tokens_are_found_wherever_litellm_put_them() -> None:
    flat = {"prompt_tokens": 9, "completion_tokens": 4}
    hidden: dict[str, Any] = {"metadata": {}, "hidden_params": {"usage_object": flat}}
    bare: dict[str, Any] = {"metadata": {"usage_object": None}, "hidden_params": None} | flat

    assert payload_tokens(PAYLOAD | hidden) == TokenUsage(9, 4, cost_usd=0.25)
    assert payload_tokens(PAYLOAD | bare) == TokenUsage(9, 4, cost_usd=0.25)


NOTHING: dict[str, Any] = {"metadata": {}, "prompt_tokens": 0, "completion_tokens": 0}
FAILED = NOTHING | {"status": "failure"}


@pytest.mark.parametrize(
    ("changes", "quality"),
    [
        ({}, "reported"),
        # A stream that broke half way, as LiteLLM counts it.
        ({"status": "failure"}, "partial"),
        # The call happened, its tokens are unknown.
        (NOTHING, "missing"),
        (FAILED, "missing"),
        (FAILED | {"error_information": {"error_code": "500"}}, "missing"),
        (FAILED | {"error_information": {"error_code": "408"}}, "missing"),
        (NOTHING | {"call_type": "aimage_generation"}, "missing"),
        # No model ran.
        ({"cache_hit": True}, None),
        (FAILED | {"error_information": {"error_code": "401"}}, None),
        (FAILED | {"error_information": {"error_code": 429}}, None),
        (NOTHING | {"call_type": "afile_list"}, None),
        (NOTHING | {"call_type": None}, None),
    ],
)
def test_how_sure_the_tokens_are(changes: dict[str, Any], quality: str | None) -> None:
    found = payload_event(PAYLOAD | changes)

    assert (found and found["usage_quality"]) == quality
    if found and quality == "missing":
        assert (found["input_tokens"], found["output_tokens"]) == (0, 0)
    elif found:
        assert (found["input_tokens"], found["output_tokens"]) == (10, 120)


@pytest.mark.parametrize(
    ("changes", "run_id"),
    [
        ({"metadata": {"requester_metadata": {"marlin_run_id": "a"}}, "session_id": "s"}, "a"),
        ({"metadata": {"spend_logs_metadata": {"marlin_run_id": "b"}}, "session_id": "s"}, "b"),
        ({"metadata": {"requester_custom_headers": {"x-marlin-run-id": "c"}}}, "c"),
        ({"metadata": {"requester_metadata": {"marlin_run_id": ""}}, "session_id": "s"}, "s"),
        ({}, "trace-1"),
        ({"trace_id": ""}, "call-1"),
        ({"trace_id": None, "litellm_call_id": None}, "chatcmpl-1"),
    ],
)
def test_which_run_a_call_belongs_to(changes: dict[str, Any], run_id: str) -> None:
    metadata = {"usage_object": USAGE} | changes.get("metadata", {})

    assert event(**changes | {"metadata": metadata})["run_id"] == run_id


def test_who_called_is_told_by_the_request_else_by_litellm() -> None:
    ours = {
        "marlin_agent_id": "writer",
        "marlin_tenant": "acme",
        "marlin_project": "blog",
        "marlin_region": "eu-west-1",
        "agent_id": "other",
    }
    theirs = {"user_api_key_org_id": "org", "user_api_key_team_id": "team"}

    def who(metadata: dict[str, Any]) -> tuple[str, str, str, str]:
        found = event(metadata={"usage_object": USAGE} | metadata)
        return found["agent_id"], found["tenant"], found["project"], found["region"]

    assert who(theirs | {"requester_metadata": ours}) == ("writer", "acme", "blog", "eu-west-1")
    assert who(theirs | {"requester_metadata": {"agent_id": "other"}}) == (
        *("other", "org", "team"),
        "",
    )
    assert who({}) == ("default", None, None, "")


@pytest.mark.parametrize(
    ("changes", "region"),
    [
        ({"api_base": "https://us-central1-aiplatform.googleapis.com/v1/x"}, "us-central1"),
        ({"api_base": "https://bedrock-runtime.eu-west-3.amazonaws.com/model"}, "eu-west-3"),
        ({"api_base": "https://bedrock-runtime.us-gov-west-1.amazonaws.com"}, "us-gov-west-1"),
        ({"model_parameters": {"aws_region_name": "us-east-2"}}, "us-east-2"),
        ({"model_parameters": {"vertex_location": "europe-west4"}}, "europe-west4"),
        ({"api_base": None}, ""),
    ],
)
def test_the_region_is_in_the_parameters_or_in_the_host(
    changes: dict[str, Any], region: str
) -> None:
    assert event(**changes)["region"] == region


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": None, "litellm_call_id": ""}, "id is missing"),
        ({"endTime": "2026-01-01 00:00:00"}, "endTime is 2026-01-01 00:00:00, expected a Unix"),
        ({"endTime": True}, "endTime is True"),
        ({"endTime": 1e300}, r"endTime is 1e\+300"),
        ({"endTime": float("nan")}, "endTime is nan"),
        ({"endTime": 10**400}, "endTime is 1000"),
        ({"startTime": None}, "startTime is None"),
        ({"metadata": "x"}, "metadata is 'x', expected a mapping"),
        (
            {"metadata": {"usage_object": USAGE, "requester_metadata": {"marlin_run_id": 7}}},
            "marlin_run_id is 7, expected text",
        ),
    ],
)
def test_a_record_without_what_all_have_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        payload_event(PAYLOAD | changes)


@pytest.mark.parametrize("cost", [0, 0.0, -1, float("inf"), float("nan"), "0.1", True, None])
def test_a_price_that_is_none_is_unknown(cost: object) -> None:
    assert event(response_cost=cost)["cost_usd"] is None


def test_a_clock_that_went_back_makes_no_negative_latency() -> None:
    assert event(startTime=1_769_000_009.0)["latency_s"] == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from(sorted(PAYLOAD)), JSON, max_size=4),
    st.dictionaries(st.sampled_from(["usage_object", "requester_metadata", "user_api_key"]), JSON),
)
def test_anything_is_read_or_refused(changes: dict[str, Any], metadata: dict[str, Any]) -> None:
    try:
        found = payload_event(PAYLOAD | {"metadata": metadata} | changes)
    except DataError:
        return
    if found is not None:
        assert 0 <= found["reasoning_tokens"] <= found["output_tokens"]
        assert found["run_id"]
