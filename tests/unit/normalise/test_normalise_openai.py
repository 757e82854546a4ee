"""OpenAI's usage in Marlin's token classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.errors import DataError
from marlin.normalise import openai
from marlin.tokens import TokenUsage

SAMPLES = Path(__file__).parents[4] / "shared" / "samples"


def _sample(name: str) -> Any:
    if not SAMPLES.is_dir():
        pytest.skip(f"no recorded samples beside the checkout ({SAMPLES})")
    return json.loads((SAMPLES / name).read_text())


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_recorded_samples(kind: str) -> None:
    expected = _sample("normalisation_rules.json")["expected_for_these_samples"]["openai"]
    usage = _sample(f"openai_{kind}_usage.json")
    assert getattr(openai, kind)(usage) == TokenUsage(
        input_tokens=expected["fresh"],
        cache_read_tokens=expected["read"],
        cache_write_tokens=expected["write"],
        output_tokens=expected["out"],
        reasoning_tokens=expected["reasoning"],
    )


CHAT: list[tuple[dict[str, Any], tuple[int, int, int, int, int]]] = [
    ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}, (9, 0, 0, 4, 0)),
    (
        {
            "prompt_tokens": 9,
            "completion_tokens": 4,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
        (9, 0, 0, 4, 0),
    ),
    (
        {
            "prompt_tokens": 100,
            "completion_tokens": 40,
            "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 20},
            "completion_tokens_details": {"reasoning_tokens": None, "audio_tokens": 30},
        },
        (40, 60, 0, 40, 0),
    ),
    (
        {
            "prompt_tokens": 100,
            "completion_tokens": 40,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
            "completion_tokens_details": {
                "reasoning_tokens": 25,
                "accepted_prediction_tokens": 5,
                "rejected_prediction_tokens": 9,
            },
        },
        (10, 60, 30, 40, 25),
    ),
    # DeepSeek, Moonshot, xAI: cached beside the total; reasoning beside the completion.
    (
        {
            "prompt_tokens": 100,
            "completion_tokens": 4,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
        },
        (36, 64, 0, 4, 0),
    ),
    ({"prompt_tokens": 100, "completion_tokens": 4, "cached_tokens": 30}, (70, 30, 0, 4, 0)),
    (
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "completion_tokens_details": {"reasoning_tokens": 94},
        },
        (32, 0, 0, 103, 94),
    ),
]


@pytest.mark.parametrize(("usage", "expected"), CHAT)
def test_chat(usage: dict[str, Any], expected: tuple[int, ...]) -> None:
    found = openai.chat(usage)
    assert (
        *(found.input_tokens, found.cache_read_tokens, found.cache_write_tokens),
        *(found.output_tokens, found.reasoning_tokens),
    ) == expected
    assert found.quality == "reported"


def test_responses() -> None:
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 25},
        "total_tokens": 140,
    }
    assert openai.responses(usage) == TokenUsage(10, 40, 60, 30, 25)
    assert openai.responses({"input_tokens": 7, "output_tokens": 0}) == TokenUsage(7, 0)


GOOD = {"prompt_tokens": 10, "completion_tokens": 5}
HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({}, "without prompt_tokens"),
    ({"prompt_tokens": 10}, "without completion_tokens"),
    ({**GOOD, "prompt_tokens": None}, "without prompt_tokens"),
    ({**GOOD, "prompt_tokens": -1}, "prompt_tokens is -1, expected a whole number"),
    ({**GOOD, "completion_tokens": 5.0}, "completion_tokens is 5.0"),
    ({**GOOD, "completion_tokens": "5"}, "completion_tokens is '5'"),
    ({**GOOD, "completion_tokens": True}, "completion_tokens is True"),
    ({**GOOD, "completion_tokens": 10**12}, "completion_tokens is 1000000000000"),
    ({**GOOD, "prompt_tokens_details": {"cached_tokens": 11}}, r"cached_tokens \(11\) .* exceed"),
    (
        {**GOOD, "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 6}},
        r"cached_tokens \(6\) \+ cache_write_tokens \(6\) exceed prompt_tokens \(10\)",
    ),
    ({**GOOD, "completion_tokens_details": {"reasoning_tokens": 6}}, "reasoning_tokens"),
    ({**GOOD, "prompt_tokens_details": [1]}, "expected a mapping"),
]


@pytest.mark.parametrize(("usage", "says"), HOSTILE)
def test_contradictions_are_refused(usage: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        openai.chat(usage)


counts = st.integers(0, 10**6)


@given(prompt=counts, completion=counts, cached=counts, written=counts, reasoning=counts)
def test_every_prompt_token_is_in_exactly_one_class(
    prompt: int, completion: int, cached: int, written: int, reasoning: int
) -> None:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    if cached + written > prompt or reasoning > completion:
        # Without a total, reasoning beside the completion cannot be told from a contradiction.
        if prompt + completion + reasoning == 0:
            return
        with pytest.raises(DataError):
            openai.chat(usage)
        return
    found = openai.chat(usage)
    assert found.input_tokens + found.cache_read_tokens + found.cache_write_tokens == prompt
    assert found.output_tokens == completion
