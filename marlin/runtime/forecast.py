"""How many tokens a call will take, by what the run's calls took before. Pure."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from marlin.tokens import TokenUsage

__all__ = ["PRIOR_OUTPUT_TOKENS", "QUANTILE", "CallForecaster", "ExpectedTokens"]

QUANTILE = 0.9
"""Share of past calls that took no more than the forecast [1]. Not the maximum: one long answer
would then refuse calls for the rest of the run."""

PRIOR_OUTPUT_TOKENS = 424
"""Output of a run's first calls [tokens]: the 0.9 quantile of 19,366 conversational calls to
Azure's language models, November 2023 (AzurePublicDataset, AzureLLMInferenceTrace_conv.csv; Patel
et al., "Splitwise", ISCA 2024). Their code completions are shorter: 55."""

WINDOW_CALLS = 64
"""Calls that are remembered, per agent and model and for the run [count]: agents change habits."""

ENOUGH_CALLS = 5
"""Calls of an agent and model, or of a run, after which they speak for themselves [count]."""

REMEMBERED_PAIRS = 1000
"""Most pairs of agent and model with a history of their own [count]; others share the run's."""


class ExpectedTokens(NamedTuple):
    """What a call is expected to take [tokens]."""

    input_tokens: int
    output_tokens: int


class _History:
    """The last calls: what each generated, and the input that its prompt's count left out."""

    __slots__ = ("output_tokens", "unseen_tokens")

    def __init__(self) -> None:
        self.output_tokens: deque[int] = deque(maxlen=WINDOW_CALLS)
        self.unseen_tokens: deque[int] = deque(maxlen=WINDOW_CALLS)


class CallForecaster:
    """The history of one run's calls. Memory is bounded; not thread-safe.

    >>> forecaster = CallForecaster()
    >>> forecaster.expect("writer", "small-7b", prompt_tokens=100)
    ExpectedTokens(input_tokens=100, output_tokens=424)
    >>> for output_tokens in (10, 20, 30, 40, 50, 60, 70, 80, 90, 1000):
    ...     forecaster.observe("writer", "small-7b", TokenUsage(100, output_tokens))
    >>> forecaster.expect("writer", "small-7b", prompt_tokens=100).output_tokens
    90
    """

    def __init__(self) -> None:
        self._run = _History()
        self._pairs: dict[tuple[str, str], _History] = {}

    def observe(
        self, agent_id: str, model: str, tokens: TokenUsage, prompt_tokens: int | None = None
    ) -> None:
        """Learn from a call; `prompt_tokens` is what `expect` was told before it, if it was."""
        pair = self._pairs.get((agent_id, model))
        if pair is None and len(self._pairs) < REMEMBERED_PAIRS:
            pair = self._pairs[agent_id, model] = _History()
        histories = (self._run,) if pair is None else (self._run, pair)
        for history in histories:
            history.output_tokens.append(tokens.output_tokens)
            if prompt_tokens is not None:
                seen = tokens.input_tokens + tokens.cache_read_tokens + tokens.cache_write_tokens
                history.unseen_tokens.append(max(0, seen - prompt_tokens))

    def expect(
        self, agent_id: str, model: str, *, prompt_tokens: int, max_output_tokens: int | None = None
    ) -> ExpectedTokens:
        """What the next call will take.

        Its output by the agent's own calls of the model, where these are too few by the run's, and
        where these are too few by them and `PRIOR_OUTPUT_TOKENS`; never above `max_output_tokens`.
        Its input is the prompt and what prompts' counts left out before (tools, a system prompt,
        a tokenizer of shorter tokens); all of it counts as fresh, though some may be cached.
        """
        history = self._pairs.get((agent_id, model))
        if history is None or len(history.output_tokens) < ENOUGH_CALLS:
            history = self._run
        outputs = list(history.output_tokens)
        if len(outputs) < ENOUGH_CALLS:
            outputs.append(PRIOR_OUTPUT_TOKENS)
        output_tokens = _quantile(outputs)
        if max_output_tokens is not None:
            output_tokens = min(output_tokens, max(0, max_output_tokens))
        unseen = history.unseen_tokens
        return ExpectedTokens(
            prompt_tokens + (_quantile(list(unseen)) if unseen else 0), output_tokens
        )


def _quantile(values: list[int]) -> int:
    """The smallest value that `QUANTILE` of `values` do not exceed."""
    values.sort()
    return values[math.ceil(QUANTILE * len(values)) - 1]
