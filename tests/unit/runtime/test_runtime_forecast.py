from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.runtime import forecast
from marlin.runtime.forecast import (
    ENOUGH_CALLS,
    PRIOR_OUTPUT_TOKENS,
    REMEMBERED_PAIRS,
    WINDOW_CALLS,
    CallForecaster,
)
from marlin.tokens import TokenUsage


def taught(*output_tokens: int, agent_id: str = "writer", model: str = "m") -> CallForecaster:
    forecaster = CallForecaster()
    for count in output_tokens:
        forecaster.observe(agent_id, model, TokenUsage(100, count))
    return forecaster


def output(forecaster: CallForecaster, agent_id: str = "writer", model: str = "m") -> int:
    return forecaster.expect(agent_id, model, prompt_tokens=100).output_tokens


def test_the_first_call_is_expected_to_be_as_long_as_long_calls_are() -> None:
    assert CallForecaster().expect("a", "m", prompt_tokens=7) == (7, PRIOR_OUTPUT_TOKENS)


def test_a_quantile_counts_not_the_maximum() -> None:
    assert output(taught(*range(10, 101, 10))) == 90
    assert output(taught(*[10] * 18, 5000, 5000)) == 10
    assert output(taught(*[10] * 17, 5000, 5000, 5000)) == 5000


def test_few_calls_are_not_trusted_to_be_short() -> None:
    assert output(taught(*[1] * (ENOUGH_CALLS - 1))) == PRIOR_OUTPUT_TOKENS
    assert output(taught(*[1] * ENOUGH_CALLS)) == 1
    assert output(taught(1, 9000)) == 9000


def test_an_agent_and_model_speak_for_themselves_once_they_made_enough_calls() -> None:
    forecaster = taught(*[1000] * 20)
    for _ in range(ENOUGH_CALLS - 1):
        forecaster.observe("judge", "m", TokenUsage(100, 2))
    assert output(forecaster, "judge") == 1000

    forecaster.observe("judge", "m", TokenUsage(100, 2))

    assert output(forecaster, "judge") == 2
    assert output(forecaster, "judge", "another") == 1000
    assert output(forecaster, "writer") == 1000


def test_old_calls_are_forgotten() -> None:
    assert output(taught(*[5000] * 100, *[10] * WINDOW_CALLS)) == 10


@pytest.mark.parametrize(("limit", "expected"), [(50, 50), (10_000, 424), (0, 0), (-1, 0)])
def test_no_more_is_expected_than_the_call_may_generate(limit: int, expected: int) -> None:
    found = CallForecaster().expect("a", "m", prompt_tokens=1, max_output_tokens=limit)

    assert found.output_tokens == expected


def test_input_that_prompts_did_not_show_is_learnt() -> None:
    forecaster = CallForecaster()
    for cached in range(10):
        # 10 tokens were seen in the prompt; tools and a system prompt were 300 to 309 more.
        forecaster.observe("a", "m", TokenUsage(200, 5, 100 + cached, 10), prompt_tokens=10)

    assert forecaster.expect("a", "m", prompt_tokens=1000).input_tokens == 1000 + 308


def test_prompts_counted_too_high_are_not_corrected_down() -> None:
    forecaster = CallForecaster()
    for _ in range(10):
        forecaster.observe("a", "m", TokenUsage(10, 5), prompt_tokens=100)

    assert forecaster.expect("a", "m", prompt_tokens=100).input_tokens == 100


def test_memory_is_bounded_whatever_agents_are_called() -> None:
    forecaster = CallForecaster()
    for number in range(REMEMBERED_PAIRS + 100):
        for _ in range(ENOUGH_CALLS):
            forecaster.observe(f"agent {number}", "m", TokenUsage(1, number))

    assert output(forecaster, "agent 7") == 7
    assert output(forecaster, f"agent {REMEMBERED_PAIRS + 1}") == REMEMBERED_PAIRS + 98


@given(st.lists(st.integers(0, 10**6), min_size=ENOUGH_CALLS, max_size=WINDOW_CALLS))
def test_nine_calls_in_ten_took_no_more_than_the_forecast(lengths: list[int]) -> None:
    expected = output(taught(*lengths))

    within = sum(length <= expected for length in lengths)
    assert expected in lengths
    assert within >= 0.9 * len(lengths)
    assert sum(length < expected for length in lengths) < 0.9 * len(lengths)


def test_the_documented_example_works() -> None:
    failed, tried = doctest.testmod(forecast)

    assert (failed, tried > 0) == (0, True)
