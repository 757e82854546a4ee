"""Models: what a row gives, what is derived, what is refused, and what the catalogue holds."""

from __future__ import annotations

import pytest

from marlin.errors import EstimationError
from marlin.estimation import ModelSpec, shipped_factor_set
from marlin.estimation.catalogue import parse_model
from marlin.estimation.tables import Row

FIELDS = {
    "id": "m",
    "vendor": "v",
    "kind": "open",
    "active_params_b": "8",
    "total_params_b": "8",
    "params_low": "1",
    "params_high": "1",
    "precision": "bf16",
    "layers": "32",
    "heads": "32",
    "kv_heads": "8",
    "head_dim": "128",
    "status": "active",
    "source": "s",
    "date": "d",
    "licence": "l",
    "tier": "t",
}
MODELS = shipped_factor_set().models


def parsed(**fields: str) -> ModelSpec:
    return parse_model(Row("models.csv:2", {**FIELDS, **fields}))


def test_kv_elements_come_from_grouped_query_attention() -> None:
    # 2 (keys and values) x 32 layers x 8 KV heads x 128.
    assert parsed().kv_elements == 65_536
    assert parsed().attention_width == 32 * 32 * 128


def test_layers_without_attention_keep_nothing() -> None:
    spec = parsed(attention_layers="4")
    assert (spec.layers, spec.kv_elements) == (32, 2 * 4 * 8 * 128)


def test_a_latent_replaces_keys_and_values() -> None:
    assert parsed(kv_elements="35136").kv_elements == 35_136


def test_a_shape_that_is_not_published_stays_open() -> None:
    spec = parsed(layers="", heads="", kv_heads="", head_dim="")
    assert (spec.layers, spec.kv_elements, spec.attention_width) == (None, None, None)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"active_params_b": "9"}, "0 < active"),
        ({"active_params_b": "0"}, "active_params_b"),
        ({"params_low": "1.2"}, "params_low"),
        ({"params_high": "0.9"}, "params_high"),
        ({"precision": "fp3"}, "precision 'fp3'"),
        ({"vendor": ""}, "'vendor' is empty"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, str], match: str) -> None:
    with pytest.raises(EstimationError, match=match):
        parsed(**fields)


def test_a_dense_model_needs_one_number() -> None:
    spec = ModelSpec(active_params_b=7)
    assert (spec.total_b, spec.is_moe) == (7, False)
    assert ModelSpec(active_params_b=3, total_params_b=30).is_moe


def test_the_catalogue_is_wide() -> None:
    vendors = {spec.vendor for spec in MODELS.values()}
    assert len(MODELS) >= 120
    assert vendors >= {
        "openai",
        "anthropic",
        "google",
        "mistral",
        "meta",
        "qwen",
        "deepseek",
        "cohere",
        "amazon",
        "xai",
        "microsoft",
        "nvidia",
    }


def test_an_undisclosed_size_is_a_class_with_a_wide_range() -> None:
    closed = [spec for spec in MODELS.values() if spec.kind == "closed"]
    assert len(closed) > 60
    for spec in closed:
        assert spec.params_low < 1 < spec.params_high, spec.name
        if spec.citation.tier == "judgement":
            assert spec.params_high / spec.params_low > 2, spec.name


def test_open_weights_have_a_published_size() -> None:
    for spec in MODELS.values():
        if spec.kind == "open":
            assert (spec.params_low, spec.params_high) == (1, 1), spec.name


def test_a_moe_says_how_its_experts_share() -> None:
    for spec in MODELS.values():
        if spec.kind == "open" and spec.is_moe and spec.active_params_b < spec.total_b * 0.9:
            share = spec.expert_share or 0
            # The shared part cannot be negative: active >= share x total.
            assert 0 < share <= spec.active_params_b / spec.total_b, spec.name


def test_retired_models_stay() -> None:
    retired = {spec.name for spec in MODELS.values() if spec.status == "retired"}
    assert {"gpt-4", "claude-3-opus", "llama-2-70b", "mistral-large-2407"} <= retired
