"""Names as gateways and clouds write them, and what stands in for names nobody knows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marlin.errors import EstimationError
from marlin.estimation import shipped_factor_set
from marlin.estimation.naming import ModelFinder, model_key
from marlin.estimation.overrides import overlay

FINDER = ModelFinder(shipped_factor_set())
ROUTES = ["{}", "openrouter/x/{}", "azure/{}", "accounts/y/models/{}", "{}:free", "  {} "]
CATALOGUED = sorted(
    name for spec in shipped_factor_set().models.values() for name in (spec.name, *spec.aliases)
)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("azure/gpt-4o-mini", "gpt-4o-mini"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "gpt-4o-mini"),
        ("gpt-4-0613", "gpt-4"),
        ("o3-mini-high", "o3-mini"),
        ("bedrock/us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku"),
        ("claude-3-5-sonnet@20240620", "claude-3-5-sonnet"),
        ("openrouter/anthropic/claude-3.5-sonnet:beta", "claude-3-5-sonnet"),
        (
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/"
            "us.anthropic.claude-sonnet-4-20250514-v1:0",
            "claude-sonnet-4",
        ),
        ("vertex_ai/gemini-1.5-pro-002", "gemini-1.5-pro"),
        ("publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("gemini-2.5-pro-preview-05-06", "gemini-2.5-pro"),
        ("meta.llama3-1-70b-instruct-v1:0", "llama-3.1-70b"),
        ("accounts/fireworks/models/llama-v3p1-70b-instruct", "llama-3.1-70b"),
        ("groq/llama-3.3-70b-versatile", "llama-3.3-70b"),
        ("together_ai/meta-llama/Meta-Llama-3.1-70B-Instruct-Turbo", "llama-3.1-70b"),
        ("ollama/llama3.1:70b", "llama-3.1-70b"),
        ("llama3.2:3b", "llama-3.2-3b"),
        ("@cf/meta/llama-3.1-8b-instruct", "llama-3.1-8b"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-r1"),
        ("mistral-large-latest", "mistral-large-2411"),
        ("amazon.nova-pro-v1:0", "nova-pro"),
        ("command-r-plus-08-2024", "command-r-plus"),
        ("grok-4-0709", "grok-4"),
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "nemotron-nano-9b-v2"),
        ("small-7b", "small-7b"),
    ],
)
def test_decorated_names(name: str, model: str) -> None:
    spec, codes = FINDER.find(name)
    assert spec.name == model
    assert "model_unknown" not in codes


@pytest.mark.parametrize("name", CATALOGUED)
def test_every_catalogued_name_finds_its_own_model(name: str) -> None:
    spec, codes = FINDER.find(name)
    assert name in (spec.name, *spec.aliases)
    # The class that stands in where nothing helps is itself nothing that is known.
    assert ("model_unknown" in codes) == (name == "unknown")


@pytest.mark.parametrize("route", ROUTES)
def test_routes_change_nothing(route: str) -> None:
    for name in ("gpt-4o", "Qwen/Qwen3-235B-A22B", "claude-sonnet-4-5", "llama-3.1-8b"):
        assert FINDER.find(route.format(name))[0] == FINDER.find(name)[0]


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("Qwen/Qwen3-235B-A22B-Thinking-2507-FP8", "fp8"),
        ("qwen2.5-72b-instruct-awq", "int4"),
        ("nvidia/Llama-3.1-70B-Instruct-NVFP4", "fp4"),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507", "bf16"),
    ],
)
def test_the_name_may_tell_the_precision(name: str, precision: str) -> None:
    assert FINDER.find(name)[0].precision == precision


def test_a_tuned_model_is_its_base() -> None:
    spec, codes = FINDER.find("NousResearch/Hermes-3-Llama-3.1-70B")
    assert spec.name == "llama-3.1-70b"
    assert codes == ("model_unknown", "model_family")


def test_a_new_member_of_a_closed_family() -> None:
    spec, codes = FINDER.find("claude-zeta-9")
    assert spec.vendor == "anthropic"
    assert codes == ("model_unknown", "model_family", "parameters_undisclosed")


@pytest.mark.parametrize(
    ("name", "active", "total"),
    [
        ("acme-70b-chat", 70, 70),
        ("acme-1.5B", 1.5, 1.5),
        ("acme-300b-a20b", 20, 300),
        ("acme-300B-A20B-FP8", 20, 300),
    ],
)
def test_sizes_are_read_from_unknown_names(name: str, active: float, total: float) -> None:
    spec, codes = FINDER.find(name)
    assert (spec.active_params_b, spec.total_b) == (active, total)
    assert codes == ("model_unknown", "model_size_from_name")


def test_experts_are_read_from_unknown_names() -> None:
    spec, _ = FINDER.find("acme-8x7b")
    # As Mixtral 8x7B: 46.7B stored, 12.9B used.
    assert spec.total_b == pytest.approx(46.7, rel=0.02)
    assert spec.active_params_b == pytest.approx(12.9, rel=0.02)


@pytest.mark.parametrize("name", ["gemma-3-27b-uncensored", "my-llama-3.1-8b-lawyer"])
def test_a_size_in_the_name_is_never_contradicted(name: str) -> None:
    spec, _ = FINDER.find(name)
    told = 27 if "27b" in name else 8
    assert spec.total_b == pytest.approx(told, rel=0.15)


@pytest.mark.parametrize(
    "name",
    ["", "   ", "totally-new", "🦙", "unknown", "/", ":", "a" * 5000, "0b", "999999999b", "\x00b"],
)
def test_nothing_helps(name: str) -> None:
    spec, codes = FINDER.find(name)
    assert spec.name == "unknown"
    assert codes == ("model_unknown", "model_class")


@given(st.text(max_size=300))
def test_any_text_finds_something_and_never_silently(name: str) -> None:
    spec, codes = FINDER.find(name)
    assert spec.active_params_b > 0
    assert codes or spec.kind == "open"


@given(st.text(max_size=300))
def test_a_key_is_its_own_key(name: str) -> None:
    # Cutting at a route or a colon may uncover another one; after a few rounds nothing changes.
    key = name
    for _ in range(300):
        key = model_key(key)
    assert model_key(key) == key


def test_two_models_cannot_share_a_name() -> None:
    clash = overlay(
        shipped_factor_set(),
        '[models.mine]\nactive_params_b = 1\naliases = ["gpt-4o"]\n'
        'source = "s"\ndate = "d"\nlicence = "l"\n',
        "mine.toml",
    )
    with pytest.raises(EstimationError, match="share the name 'gpt-4o'"):
        ModelFinder(clash)
