"""The derivation: it ends where the estimate ends, and every step says where it is from."""

from __future__ import annotations

import pytest

from marlin.estimation import CODES, OperatingPoint, estimate, explain
from marlin.estimation.derivation import Call, Step
from marlin.schemas import Usage

EVENT = Usage.model_validate_json(
    """{"type": "usage", "event_id": "e", "run_id": "r", "agent_id": "a", "producer_id": "p",
    "seq": 0, "time": "2026-05-01T12:00:00Z", "provider": "aws", "model": "claude-sonnet-4-5",
    "region": "us-east-1", "input_tokens": 2000, "cache_read_tokens": 8000,
    "cache_write_tokens": 100, "output_tokens": 600}"""
)


def named(steps: tuple[Step, ...], part: str, name: str) -> Step:
    (found,) = (step for step in steps if (step.part, step.name) == (part, name))
    return found


def test_it_ends_in_the_estimate() -> None:
    derivation = explain(EVENT)
    assert derivation.result == estimate(
        EVENT.model,
        provider=EVENT.provider,
        region=EVENT.region,
        input_tokens=2000,
        cache_read_tokens=8000,
        cache_write_tokens=100,
        output_tokens=600,
    )
    step = named(derivation.steps, "result", "energy")
    span = derivation.result.energy_wh
    assert (step.low, step.value, step.high) == (span.low, span.central, span.high)


def test_its_parts_add_up_to_the_accelerators_energy() -> None:
    derivation = explain(EVENT)
    parts = [
        named(derivation.steps, "accelerator energy", name).value
        for name in ("fresh input", "attention over the prompt", "cached input", "output")
    ]
    total = sum(part for part in parts if isinstance(part, float))
    assert total == pytest.approx(derivation.result.gpu_energy_wh.central)


def test_boundaries_lead_from_accelerators_to_carbon() -> None:
    steps = explain(EVENT).steps
    result = explain(EVENT).result
    host = named(steps, "boundary and place", "host overhead").value
    pue = named(steps, "boundary and place", "PUE").value
    grid = named(steps, "boundary and place", "grid intensity, location-based").value
    assert isinstance(host, float)
    assert isinstance(pue, float)
    assert isinstance(grid, float)
    energy_wh = result.gpu_energy_wh.central * host * pue
    assert energy_wh == pytest.approx(result.energy_wh.central)
    assert energy_wh / 1000 * grid == pytest.approx(result.carbon_g.central)


def test_every_step_has_a_unit_and_a_source() -> None:
    for step in explain(EVENT).steps:
        if step.part != "result":
            assert step.source, step
        assert step.unit or isinstance(step.value, str), step


def test_the_text_names_sources_and_codes() -> None:
    text = str(explain(EVENT))
    assert "arXiv:2508.15734" in text
    assert "US-MIDA-PJM" in text
    for code in explain(EVENT).result.codes:
        assert f"{code:34} {CODES[code]}" in text


def test_a_known_operating_point_assumes_nothing() -> None:
    event: Call = EVENT.model_copy(
        update={"model": "llama-3.1-8b", "provider": "gcp", "region": "us-west1"}
    )
    point = OperatingPoint(hardware="H100", gpus=1, batch=32, precision="bf16")
    derivation = explain(event, operating_point=point)
    assert [code for code, _ in derivation.codes] == ["water_onsite_fleet"]
    assert named(derivation.steps, "load", "batch").source == "given"
    assert named(derivation.steps, "load", "accelerators").source == "given"
