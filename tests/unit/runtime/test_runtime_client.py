from __future__ import annotations

import pytest

from marlin.runtime.client import estimated_usage


@pytest.mark.parametrize(
    ("prompt", "text", "tokens"),
    [("", "", (0, 0)), ("abcd", "abcde", (1, 2)), ("a" * 401, "b" * 400, (101, 100))],
)
def test_missing_usage_is_estimated_from_lengths_and_says_so(
    prompt: str, text: str, tokens: tuple[int, int]
) -> None:
    usage = estimated_usage(prompt, text)

    assert (usage.input_tokens, usage.output_tokens) == tokens
    assert usage.quality == "estimated"
    assert usage.cost_usd is None
