"""Gemini's usage metadata, as REST and as the SDK spell it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.errors import DataError
from marlin.normalise.gemini import usage_metadata
from marlin.schemas.usage import MAX_TOKENS
from marlin.tokens import TokenUsage

SAMPLES = Path(__file__).parents[3] / "../shared/samples"

CALL = {
    "promptTokenCount": 2255,
    "cachedContentTokenCount": 512,
    "toolUsePromptTokenCount": 30,
    "candidatesTokenCount": 50,
    "thoughtsTokenCount": 70,
    "totalTokenCount": 2405,
}


def snake(usage: dict[str, Any]) -> dict[str, Any]:
    """As the SDK's objects dump it."""
    return {re.sub("([A-Z])", r"_\1", name).lower(): value for name, value in usage.items()}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples beside this checkout")
def test_the_sample_counts_each_token_once() -> None:
    sample = json.loads((SAMPLES / "gemini_usage_metadata_rest.json").read_text())
    rules = json.loads((SAMPLES / "normalisation_rules.json").read_text())
    expected = rules["expected_for_these_samples"]["gemini"]

    assert usage_metadata(sample) == TokenUsage(
        input_tokens=expected["fresh"],
        output_tokens=expected["out"],
        cache_read_tokens=expected["read"],
        cache_write_tokens=expected["write"],
        reasoning_tokens=expected["reasoning"],
    )


@pytest.mark.parametrize("usage", [CALL, snake(CALL)])
def test_the_cache_is_inside_the_prompt_thoughts_and_tool_results_are_beside(
    usage: dict[str, Any],
) -> None:
    assert usage_metadata(usage) == TokenUsage(
        input_tokens=2255 - 512 + 30,
        output_tokens=50 + 70,
        cache_read_tokens=512,
        reasoning_tokens=70,
    )


def test_what_is_zero_is_left_out_or_none() -> None:
    assert usage_metadata({"promptTokenCount": 7}) == TokenUsage(7, 0)
    assert usage_metadata(snake(dict.fromkeys(CALL)) | {"prompt_token_count": 7}) == TokenUsage(
        7, 0
    )


def test_embeddings_and_live_sessions_name_the_answer_differently() -> None:
    assert usage_metadata({"prompt_token_count": 7, "response_token_count": 3}) == TokenUsage(7, 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"promptTokenCount": None}, "without promptTokenCount"),
        ({"cachedContentTokenCount": 2256}, r"cachedContentTokenCount \(2256\) exceed"),
        ({"thoughtsTokenCount": -1}, "thoughtsTokenCount is -1"),
        ({"thoughtsTokenCount": 1.5}, "thoughtsTokenCount is 1.5"),
        ({"candidatesTokenCount": "50"}, "candidatesTokenCount is '50'"),
        ({"candidatesTokenCount": True}, "candidatesTokenCount is True"),
        ({"toolUsePromptTokenCount": MAX_TOKENS + 1}, "toolUsePromptTokenCount is 100000001"),
    ],
)
def test_impossible_counts_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        usage_metadata(CALL | change)


COUNTS = st.integers(0, 10_000)


@given(prompt=COUNTS, cached=COUNTS, tools=COUNTS, candidates=COUNTS, thoughts=COUNTS)
def test_every_token_is_in_one_class(
    prompt: int, cached: int, tools: int, candidates: int, thoughts: int
) -> None:
    cached = min(cached, prompt)
    found = usage_metadata(
        {
            "promptTokenCount": prompt,
            "cachedContentTokenCount": cached,
            "toolUsePromptTokenCount": tools,
            "candidatesTokenCount": candidates,
            "thoughtsTokenCount": thoughts,
        }
    )

    # Google's own total: prompt + candidates + tool use + thoughts.
    total = found.input_tokens + found.cache_read_tokens + found.output_tokens
    assert total == prompt + candidates + tools + thoughts
    assert found.cache_read_tokens == cached
    assert found.reasoning_tokens == thoughts


@given(
    st.dictionaries(
        st.sampled_from([*CALL, *snake(CALL)]),
        st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=3),
    )
)
def test_anything_is_read_or_refused(usage: dict[str, Any]) -> None:
    try:
        found = usage_metadata(usage)
    except DataError:
        return
    assert found.reasoning_tokens <= found.output_tokens
