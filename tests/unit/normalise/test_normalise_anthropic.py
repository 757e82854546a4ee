"""Anthropic's usage in Marlin's token classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marlin.errors import DataError
from marlin.normalise import anthropic
from marlin.tokens import TokenUsage

SAMPLES = Path(__file__).parents[4] / "shared" / "samples"


def _sample(name: str) -> Any:
    if not SAMPLES.is_dir():
        pytest.skip(f"no recorded samples beside the checkout ({SAMPLES})")
    return json.loads((SAMPLES / name).read_text())


def _expected() -> TokenUsage:
    expected = _sample("normalisation_rules.json")["expected_for_these_samples"]["anthropic"]
    return TokenUsage(
        input_tokens=expected["fresh"],
        cache_read_tokens=expected["read"],
        cache_write_tokens=expected["write"],
        output_tokens=expected["out"],
        reasoning_tokens=expected["reasoning"],
    )


def test_recorded_message() -> None:
    assert anthropic.message(_sample("anthropic_usage.json")) == _expected()


def test_recorded_stream() -> None:
    sample = _sample("anthropic_stream_usage.json")
    usage = anthropic.updated({}, sample["message_start.message.usage"])
    # The sample's delta has no details; those of the whole message are what it would carry.
    details = {"output_tokens_details": {"thinking_tokens": 70}}
    usage = anthropic.updated(usage, {**sample["message_delta.usage"], **details})
    assert anthropic.message(usage) == _expected()


def test_input_is_beside_the_cache() -> None:
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40},
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
        "server_tool_use": {"web_search_requests": 2},
    }
    assert anthropic.message(usage) == TokenUsage(3, 9, 20, 100, 4)


def test_cache_writes_that_are_told_by_lifetime_alone() -> None:
    by_lifetime = {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40}
    usage = {"input_tokens": 3, "cache_creation": by_lifetime, "output_tokens": 9}
    assert anthropic.message(usage).cache_write_tokens == 100


def test_what_is_absent_or_none_is_zero() -> None:
    assert anthropic.message({"input_tokens": 3, "output_tokens": 9}) == TokenUsage(3, 9)
    empty = dict.fromkeys(
        ["cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation", "iterations"]
    )
    assert anthropic.message({"input_tokens": 3, "output_tokens": 9, **empty}) == TokenUsage(3, 9)


def test_iterations_beside_the_totals_are_added_and_those_inside_are_not() -> None:
    usage = {
        "input_tokens": 23_000,
        "output_tokens": 1000,
        "iterations": [
            {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500},
            {"type": "message", "input_tokens": 23_000, "output_tokens": 1000},
            {
                "type": "advisor_message",
                "input_tokens": 500,
                "output_tokens": 20,
                "cache_read_input_tokens": 7,
            },
        ],
    }
    assert anthropic.message(usage) == TokenUsage(203_500, 4520, 7)


def test_stream_counts_replace_and_what_is_left_out_stays() -> None:
    usage = anthropic.updated({}, {"input_tokens": 10, "output_tokens": 1, "cache_creation": None})
    usage = anthropic.updated(usage, {"output_tokens": 50, "input_tokens": None})
    usage = anthropic.updated(usage, {"output_tokens": 120, "cache_read_input_tokens": 5})
    assert anthropic.message(usage) == TokenUsage(10, 120, 5)


GOOD = {"input_tokens": 10, "output_tokens": 5}


@pytest.mark.parametrize(
    ("usage", "says"),
    [
        ({}, "without output_tokens"),
        ({"output_tokens": 5}, "without input_tokens"),
        ({**GOOD, "input_tokens": -3}, "input_tokens is -3"),
        ({**GOOD, "cache_read_input_tokens": 0.5}, "cache_read_input_tokens is 0.5"),
        ({**GOOD, "cache_creation_input_tokens": "9"}, "cache_creation_input_tokens is '9'"),
        (
            {**GOOD, "output_tokens_details": {"thinking_tokens": 6}},
            r"thinking_tokens \(6\) exceed output_tokens \(5\)",
        ),
        ({**GOOD, "iterations": {"type": "message"}}, "expected a list of mappings"),
        ({**GOOD, "iterations": [7]}, "expected a list of mappings"),
    ],
)
def test_contradictions_are_refused(usage: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        anthropic.message(usage)
