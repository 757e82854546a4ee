"""Attributes of GenAI spans to token classes: names old and new, both cache conventions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marlin.errors import DataError
from marlin.normalise import otel
from marlin.tokens import TokenUsage

SAMPLES = Path(__file__).parents[3] / "../shared/samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples in ../shared")

IN, OUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
READ, WRITE = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens"
REASONING, TOTAL = "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.total_tokens"
BEDROCK = "opentelemetry.instrumentation.bedrock"


def classes(usage: TokenUsage) -> tuple[int, int, int, int, int]:
    """Fresh, read, written, output, reasoning."""
    return (
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    )


def test_cached_and_reasoning_tokens_are_inside_as_the_conventions_say() -> None:
    usage = otel.attributes({IN: 2255, READ: 512, WRITE: 1733, OUT: 120, REASONING: 70})

    assert classes(usage) == (10, 512, 1733, 120, 70)
    assert usage.quality == "reported"


@pytest.mark.parametrize(
    ("said", "scope"),
    [
        # The parts exceed the whole.
        ({IN: 10, READ: 512, WRITE: 1733, OUT: 120}, ""),
        # The sum of all needs them.
        ({IN: 5000, READ: 512, WRITE: 1733, OUT: 120, TOTAL: 7365}, ""),
        # The instrumentation is known for it, and its sum leaves them out too.
        ({IN: 5000, READ: 512, WRITE: 1733, OUT: 120, TOTAL: 5120}, BEDROCK),
        ({IN: 5000, READ: 512, WRITE: 1733, OUT: 120, "gen_ai.system": "anthropic.messages"}, "ai"),
    ],
)
def test_cached_tokens_outside_of_the_input_are_not_taken_from_it(
    said: dict[str, Any], scope: str
) -> None:
    usage = otel.attributes(said, scope=scope)

    assert classes(usage) == (said[IN], 512, 1733, 120, 0)


@pytest.mark.parametrize(
    ("said", "scope"),
    [
        ({IN: 5000, READ: 512, OUT: 120, TOTAL: 5120}, ""),
        ({IN: 5000, READ: 512, OUT: 120, "gen_ai.system": "openai.chat"}, "ai"),
        (
            {
                **{IN: 5000, READ: 512, OUT: 120, "gen_ai.system": "anthropic.messages"},
                "ai.usage.inputTokenDetails.noCacheTokens": 4488,
            },
            "ai",
        ),
        ({IN: 5000, READ: 512, OUT: 120}, "opentelemetry.instrumentation.anthropic"),
    ],
)
def test_cached_tokens_inside_of_the_input_are_taken_from_it(
    said: dict[str, Any], scope: str
) -> None:
    assert classes(otel.attributes(said, scope=scope)) == (4488, 512, 0, 120, 0)


def test_an_input_equal_to_its_parts_holds_them() -> None:
    assert classes(otel.attributes({IN: 512, READ: 512, OUT: 1})) == (0, 512, 0, 1, 0)


@pytest.mark.parametrize(
    ("said", "output"),
    [
        ({IN: 100, OUT: 50, REASONING: 70}, 120),
        ({IN: 100, OUT: 120, REASONING: 70, TOTAL: 290}, 190),
        ({IN: 100, OUT: 120, REASONING: 70, TOTAL: 220}, 120),
        ({IN: 100, OUT: 120, REASONING: 70}, 120),
    ],
)
def test_reasoning_is_part_of_the_output(said: dict[str, Any], output: int) -> None:
    usage = otel.attributes(said)

    assert (usage.output_tokens, usage.reasoning_tokens) == (output, 70)


def test_cache_and_reasoning_may_both_be_outside() -> None:
    usage = otel.attributes({IN: 100, READ: 30, OUT: 20, REASONING: 5, TOTAL: 155})

    assert classes(usage) == (100, 30, 0, 25, 5)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 3}, (7, 3)),
        ({"llm.token_count.prompt": 7, "llm.token_count.completion": 3}, (7, 3)),
        ({"ai.usage.promptTokens": 7, "ai.usage.completionTokens": 3}, (7, 3)),
        ({IN: 7, "gen_ai.usage.prompt_tokens": 9, OUT: 3}, (7, 3)),
        ({IN: 0, "gen_ai.usage.prompt_tokens": 9, OUT: 3}, (9, 3)),
        ({IN: "7", OUT: 3.0}, (7, 3)),
        ({IN: 7, TOTAL: 10}, (7, 3)),
        ({OUT: 3, "llm.usage.total_tokens": 10}, (7, 3)),
    ],
)
def test_names_old_and_new_and_sums(said: dict[str, Any], expected: tuple[int, int]) -> None:
    usage = otel.attributes(said)

    assert (usage.input_tokens, usage.output_tokens) == expected
    assert usage.quality == "reported"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, (0, 0, "missing")),
        ({TOTAL: 0}, (0, 0, "missing")),
        ({READ: 5}, (0, 0, "missing")),
        ({TOTAL: 40}, (40, 0, "estimated")),
        ({IN: 40}, (40, 0, "partial")),
        ({OUT: 40}, (0, 40, "partial")),
        ({IN: 40, TOTAL: 30}, (40, 0, "partial")),
        ({IN: 40, "gen_ai.operation.name": "embeddings"}, (40, 0, "reported")),
        (
            {"llm.token_count.prompt": 40, "openinference.span.kind": "EMBEDDING"},
            (40, 0, "reported"),
        ),
        ({IN: 0, OUT: 0}, (0, 0, "reported")),
    ],
)
def test_what_is_not_said_shows(said: dict[str, Any], expected: tuple[int, int, str]) -> None:
    usage = otel.attributes(said)

    assert (usage.input_tokens, usage.output_tokens, usage.quality) == expected


@pytest.mark.parametrize(
    "value", [-1, 1.5, True, "many", "1e3", "9" * 5000, 10**9, float("nan"), "-1", "²"]
)
def test_counts_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"gen_ai\.usage\.input_tokens is .*, expected a number"):
        otel.attributes({IN: value, OUT: 1})


@pytest.mark.parametrize(
    ("said", "cost_usd"),
    [
        ({"gen_ai.usage.cost": 0.25}, 0.25),
        ({"llm.cost.total": 2}, 2.0),
        ({"gen_ai.usage.cost": float("nan"), "llm.cost.total": 1.5}, 1.5),
        ({"gen_ai.usage.cost": -1.0}, None),
        ({"gen_ai.usage.cost": "free"}, None),
    ],
)
def test_cost(said: dict[str, Any], cost_usd: float | None) -> None:
    assert otel.attributes({IN: 1, OUT: 1, **said}).cost_usd == cost_usd


def test_model_and_provider() -> None:
    asked = {"gen_ai.request.model": "gpt-4o", "gen_ai.system": "az.ai.openai"}

    assert otel.model(asked) == "gpt-4o"
    assert (
        otel.model({**asked, "gen_ai.response.model": "gpt-4o-2024-08-06"}) == "gpt-4o-2024-08-06"
    )
    assert otel.model({}) == "unknown"
    assert otel.provider(asked) == "azure.ai.openai"
    assert otel.provider({**asked, "gen_ai.provider.name": "openai"}) == "openai"
    assert otel.provider({}) == ""


@settings(deadline=None)
@given(
    *(st.integers(0, 10_000) for _ in range(5)),
    st.one_of(st.none(), st.integers(0, 60_000)),
    st.sampled_from(["", BEDROCK, "ai"]),
)
def test_no_class_is_negative_and_none_is_counted_twice(
    taken: int, given_: int, read: int, write: int, reasoning: int, total: int | None, scope: str
) -> None:
    said = {IN: taken, OUT: given_, READ: read, WRITE: write, REASONING: reasoning}
    usage = otel.attributes({**said, TOTAL: total}, scope=scope)

    fresh, *parts, output, thought = classes(usage)
    assert (parts, thought) == ([read, write], reasoning)
    assert fresh >= 0
    assert fresh + read + write in (taken, taken + read + write)
    assert output in (given_, given_ + reasoning)
    assert output >= thought


@needs_samples
def test_the_sample_span() -> None:
    span = json.loads((SAMPLES / "otel_genai_span_attributes.json").read_text())
    rules = json.loads((SAMPLES / "normalisation_rules.json").read_text())
    expected = rules["expected_for_these_samples"]["anthropic"]

    assert classes(otel.attributes(span)) == tuple(
        expected[name] for name in ("fresh", "read", "write", "out", "reasoning")
    )
    assert otel.model(span) == "claude-sonnet-4-5-20250929"


@needs_samples
@pytest.mark.parametrize(
    ("kind", "index"),
    [
        ("input_total", 0),
        ("cache_read", 1),
        ("cache_write", 2),
        ("output_total", 3),
        ("reasoning", 4),
    ],
)
def test_every_alias_is_known(kind: str, index: int) -> None:
    aliases = json.loads((SAMPLES / "otel_genai_aliases.json").read_text())
    totals = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 1000}

    for alias in aliases[kind]:
        said = {alias: 40} if kind.endswith("total") else {**totals, alias: 40}
        assert classes(otel.attributes(said))[index] == 40, alias
    for old, new in aliases["provider_value_renames"].items():
        assert otel.provider({"gen_ai.system": old}) == new
