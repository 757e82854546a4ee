"""LangChain's usage_metadata and its fallbacks, against the samples and literals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.errors import DataError
from marlin.normalise.langchain import response_metadata, usage_metadata
from marlin.schemas.usage import MAX_TOKENS
from marlin.tokens import TokenUsage

SAMPLES = Path(__file__).parents[3] / "../shared/samples"


def _usage(
    taken: object = 100,
    given_: object = 20,
    *,
    total: object = None,
    inputs: object = None,
    outputs: object = None,
) -> dict[str, Any]:
    return {
        "input_tokens": taken,
        "output_tokens": given_,
        "total_tokens": total,
        "input_token_details": inputs,
        "output_token_details": outputs,
    }


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples beside this checkout")
def test_the_sample_counts_each_token_once() -> None:
    sample = json.loads((SAMPLES / "langchain_usage_metadata.json").read_text())
    rules = json.loads((SAMPLES / "normalisation_rules.json").read_text())
    expected = rules["expected_for_these_samples"]["anthropic"]
    assert usage_metadata(sample) == TokenUsage(
        input_tokens=expected["fresh"],
        output_tokens=expected["out"],
        cache_read_tokens=expected["read"],
        cache_write_tokens=expected["write"],
        reasoning_tokens=expected["reasoning"],
    )
    callback = json.loads((SAMPLES / "langchain_callback.json").read_text())
    assert usage_metadata(callback["sample_usage"]) == usage_metadata(sample)


def test_cached_tokens_are_inside_the_input_and_reasoning_inside_the_output() -> None:
    usage = _usage(
        2255,
        120,
        total=2375,
        inputs={"cache_read": 512, "cache_creation": 1733, "audio": 5},
        outputs={"reasoning": 70, "audio": 3},
    )
    assert usage_metadata(usage) == TokenUsage(10, 120, 512, 1733, 70)


def test_no_details_no_total() -> None:
    assert usage_metadata({"input_tokens": 7, "output_tokens": 0}) == TokenUsage(7, 0)


@pytest.mark.parametrize("tier", ["flex", "priority"])
def test_details_of_a_service_tier_are_details(tier: str) -> None:
    usage = _usage(
        100,
        30,
        total=130,
        inputs={f"{tier}_cache_read": 40, tier: 60},
        outputs={f"{tier}_reasoning": 12, tier: 18},
    )
    assert usage_metadata(usage) == TokenUsage(60, 30, 40, 0, 12)


def test_cache_writes_by_lifetime_are_the_writes() -> None:
    inputs = {
        "cache_read": 5,
        "cache_creation": 0,
        "ephemeral_5m_input_tokens": 30,
        "ephemeral_1h_input_tokens": 10,
    }
    assert usage_metadata(_usage(100, 20, inputs=inputs)) == TokenUsage(55, 20, 5, 40)
    assert usage_metadata(_usage(100, 20, inputs={**inputs, "cache_creation": 40})) == TokenUsage(
        55, 20, 5, 40
    )


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (120, TokenUsage(70, 20, 20, 10, 8)),
        (150, TokenUsage(100, 20, 20, 10, 8)),
        (128, TokenUsage(70, 28, 20, 10, 8)),
        (158, TokenUsage(100, 28, 20, 10, 8)),
        (999, TokenUsage(70, 20, 20, 10, 8)),
        (1, TokenUsage(70, 20, 20, 10, 8)),
    ],
    ids=[
        "by convention",
        "cached left out",
        "reasoning left out",
        "both",
        "unrelated",
        "too small",
    ],
)
def test_the_total_tells_what_a_package_left_out_of_the_sums(
    total: int, expected: TokenUsage
) -> None:
    usage = _usage(
        100,
        20,
        total=total,
        inputs={"cache_read": 20, "cache_creation": 10},
        outputs={"reasoning": 8},
    )
    assert usage_metadata(usage) == expected


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"input_tokens": 1},
        {"output_tokens": 1},
        _usage("100"),
        _usage(-1),
        _usage(True),
        _usage(1.5),
        _usage(float("nan")),
        _usage(10**30),
        _usage(given_=[]),
        _usage(inputs=[1]),
        _usage(inputs={"cache_read": "9"}),
        _usage(inputs={"cache_read": 101}),
        _usage(inputs={"cache_read": 60, "cache_creation": 41}),
        _usage(outputs={"reasoning": 21}),
        _usage(outputs={"reasoning": -1}),
        _usage(total="many"),
    ],
)
def test_impossible_usage_is_refused(usage: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        usage_metadata(usage)


@given(
    fresh=st.integers(0, 10**6),
    read=st.integers(0, 10**6),
    written=st.integers(0, 10**6),
    visible=st.integers(0, 10**6),
    reasoning=st.integers(0, 10**6),
)
def test_every_token_is_in_exactly_one_class(
    fresh: int, read: int, written: int, visible: int, reasoning: int
) -> None:
    taken, out = fresh + read + written, visible + reasoning
    tokens = usage_metadata(
        _usage(
            taken,
            out,
            total=taken + out,
            inputs={"cache_read": read, "cache_creation": written},
            outputs={"reasoning": reasoning},
        )
    )
    assert tokens == TokenUsage(fresh, out, read, written, reasoning)


@given(
    st.dictionaries(
        st.sampled_from(list(_usage())),
        st.none()
        | st.integers(-5, MAX_TOKENS * 2)
        | st.floats()
        | st.dictionaries(st.sampled_from(["cache_read", "reasoning"]), st.integers(-5, 500)),
    )
)
def test_hostile_usage_is_refused_or_adds_up(usage: dict[str, Any]) -> None:
    try:
        tokens = usage_metadata(usage)
    except DataError:
        return
    assert min(tokens.input_tokens, tokens.cache_read_tokens, tokens.cache_write_tokens) >= 0
    assert 0 <= tokens.reasoning_tokens <= tokens.output_tokens


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (
            {
                "token_usage": {
                    "prompt_tokens": 2255,
                    "completion_tokens": 120,
                    "prompt_tokens_details": {"cached_tokens": 512},
                    "completion_tokens_details": {"reasoning_tokens": 70},
                },
                "model_name": "gpt-4o",
            },
            TokenUsage(1743, 120, 512, 0, 70),
        ),
        (
            {
                "usage": {
                    "input_tokens": 10,
                    "output_tokens": 120,
                    "cache_read_input_tokens": 512,
                    "cache_creation_input_tokens": 1733,
                }
            },
            TokenUsage(10, 120, 512, 1733),
        ),
        ({"usage": {"input_tokens": 10, "output_tokens": 4}}, TokenUsage(10, 4)),
        ({"usage": {"prompt_tokens": 10, "completion_tokens": 4}}, TokenUsage(10, 4)),
        ({"prompt_eval_count": 26, "eval_count": 298, "model": "llama3.2"}, TokenUsage(26, 298)),
        ({"eval_count": 298}, TokenUsage(0, 298)),
    ],
    ids=["OpenAI", "Anthropic", "plain", "Bedrock", "Ollama", "Ollama, prompt cached"],
)
def test_a_providers_own_usage_is_the_fallback(
    metadata: dict[str, Any], expected: TokenUsage
) -> None:
    assert response_metadata(metadata) == expected


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"token_usage": {}},
        {"token_usage": None, "usage": None},
        {"token_usage": 7},
        {"token_usage": {"prompt_tokens": 1}},
        {"usage": {"input_tokens": 1, "output_tokens": "1"}},
        {"eval_count": -1},
    ],
)
def test_metadata_without_usable_usage_is_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        response_metadata(metadata)
