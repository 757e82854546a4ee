"""Token counts from lengths."""

from __future__ import annotations

import pytest

from marlin.runtime.client import TokenUsage as of_the_client
from marlin.tokens import TokenUsage, tokens_of_length


@pytest.mark.parametrize(
    ("characters", "tokens"),
    [(0, 0), (1, 1), (4, 1), (5, 2), (16, 4), (23, 6), (4001, 1001)],
)
def test_lengths_are_rounded_up(characters: int, tokens: int) -> None:
    assert tokens_of_length(characters) == tokens


def test_there_is_one_token_usage() -> None:
    assert of_the_client is TokenUsage
    assert TokenUsage(1, 2) == TokenUsage(1, 2, 0, 0, 0, None, "reported")
