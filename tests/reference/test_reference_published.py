"""Published per-prompt figures lie inside the range; what was assumed is in the methodology."""

from __future__ import annotations

import pytest

from marlin.estimation import Range, default_estimator, estimate, explain
from marlin.schemas import Usage

# The vendors publish no token counts. A median chat prompt is short; 300 to 500 output tokens are
# what studies of chat logs sample.
PLAUSIBLE = [(100, 300), (500, 300), (500, 500), (1000, 400)]


def inside(value: float, span: Range) -> bool:
    return span.low <= value <= span.high


@pytest.mark.parametrize(("fresh", "output"), PLAUSIBLE)
def test_a_median_gemini_prompt(fresh: int, output: int) -> None:
    # Elsworth et al. 2025, arXiv:2508.15734: 0.24 Wh with host, idle and PUE; 0.10 Wh narrowly.
    one = estimate("gemini-2.5-flash", provider="google", input_tokens=fresh, output_tokens=output)
    assert inside(0.24, one.energy_wh)
    assert inside(0.10, one.gpu_energy_wh)


@pytest.mark.parametrize(("fresh", "output"), PLAUSIBLE)
def test_an_average_chatgpt_prompt(fresh: int, output: int) -> None:
    # Altman, "The Gentle Singularity", June 2025: 0.34 Wh.
    one = estimate("gpt-4o", provider="openai", input_tokens=fresh, output_tokens=output)
    assert inside(0.34, one.energy_wh)


@pytest.mark.parametrize("fresh", [0, 100, 400])
def test_a_mistral_large_answer_on_its_life_cycle_boundary(fresh: int) -> None:
    # Mistral AI, Carbone 4, ADEME 2025: 1.14 gCO2e and 45 mL for 400 tokens, hardware included.
    one = estimate(
        "mistral-large-2407",
        provider="mistral",
        region="FR",
        input_tokens=fresh,
        output_tokens=400,
    )
    low = one.carbon_g.low + one.embodied_g.low
    high = one.carbon_g.high + one.embodied_g.high
    assert low <= 1.14 <= high
    assert inside(45, one.water_ml)
    assert "batch_self_hosted" in one.codes


def test_googles_water_is_its_onsite_water() -> None:
    # 0.26 mL at 0.24 Wh is on-site consumption on IT energy: 0.24 / 1.09 x 1.15 = 0.253.
    by = default_estimator().coefficients("gemini-2.5-flash", "google", "")
    assert 0.24 * by.water_onsite_ml_per_wh == pytest.approx(0.253, abs=0.001)
    assert by.water_onsite_basis == "consumption"


def test_microsofts_frontier_chat() -> None:
    # Oviedo et al. 2025, arXiv:2509.20241: median 0.34 Wh, quartiles 0.18 to 0.67, above 200B.
    one = estimate("acme-200b", provider="azure", input_tokens=500, output_tokens=300)
    assert inside(0.34, one.energy_wh)


def test_long_prompts_grow_faster_than_linearly() -> None:
    # Epoch AI 2025 models 2.5 Wh at 10 000 and 40 Wh at 100 000 input tokens: 16 times.
    short = estimate("gpt-4o", input_tokens=10_000, output_tokens=500).energy_wh.central
    long = estimate("gpt-4o", input_tokens=100_000, output_tokens=500).energy_wh.central
    assert 10 < long / short < 20


def test_the_embodied_share_is_small_on_a_mixed_grid() -> None:
    # 18 g an accelerator hour beside some 500 g of operation at 400 g/kWh: 3 to 10%.
    one = estimate("llama-3.1-70b", provider="aws", region="us-east-1", output_tokens=500)
    assert 0.03 < one.embodied_g.central / one.carbon_g.central < 0.10


def test_the_worked_example_explains_itself() -> None:
    event = Usage.model_validate_json(
        """{"type": "usage", "event_id": "e", "run_id": "r", "agent_id": "a", "producer_id": "p",
        "seq": 0, "time": "2026-05-01T12:00:00Z", "provider": "google",
        "model": "gemini-2.5-flash", "region": "", "input_tokens": 500, "output_tokens": 500}"""
    )
    assert "gemini-2.5-flash" in str(explain(event))
