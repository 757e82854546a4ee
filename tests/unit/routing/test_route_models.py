"""Choosing a model for a task."""

from __future__ import annotations

import pytest

from marlin.errors import RoutingError
from marlin.estimation import estimate
from marlin.routing import select_model

MODELS = ["large-70b", "medium-13b", "small-7b"]


def test_without_a_budget_the_least_carbon_wins() -> None:
    chosen = select_model(MODELS, input_tokens=1000, output_tokens=500, region="us-east-1")

    assert chosen.model == "small-7b"
    assert [one.model for one in chosen.alternatives] == ["medium-13b", "large-70b"]
    own = estimate("small-7b", region="us-east-1", input_tokens=1000, output_tokens=500)
    assert (chosen.carbon_g, chosen.energy_wh) == (own.carbon_g, own.energy_wh)
    least, most = own.carbon_g.central, chosen.alternatives[-1].carbon_g.central
    assert chosen.reasons[1] == f"{1 - least / most:.0%} less carbon than large-70b"


def test_with_a_budget_the_first_that_fits_wins() -> None:
    def carbon_g(model: str) -> float:
        return estimate(model, input_tokens=1000, output_tokens=500).carbon_g.central

    between = (carbon_g("large-70b") + carbon_g("medium-13b")) / 2

    chosen = select_model(MODELS, input_tokens=1000, output_tokens=500, budget_g=between)

    assert chosen.model == "medium-13b"
    assert {one.model: one.fits for one in chosen.alternatives} == {
        **{"small-7b": True, "large-70b": False}
    }
    exact = carbon_g("large-70b")
    assert select_model(MODELS, input_tokens=1000, output_tokens=500, budget_g=exact).model == (
        "large-70b"
    )


def test_the_bound_decides_what_fits() -> None:
    spans = estimate("small-7b", input_tokens=1000, output_tokens=500).carbon_g
    budget_g = (spans.central + spans.high) / 2

    select_model(["small-7b"], input_tokens=1000, output_tokens=500, budget_g=budget_g)
    with pytest.raises(RoutingError, match=r"no candidate fits .*small-7b takes least.*\(high\)"):
        select_model(
            ["small-7b"], input_tokens=1000, output_tokens=500, budget_g=budget_g, bound="high"
        )


def test_an_unknown_model_is_wide_and_says_so() -> None:
    chosen = select_model(["nobody-knows"], input_tokens=10, output_tokens=10)

    assert "model_unknown" in chosen.codes
    assert chosen.carbon_g.high > chosen.carbon_g.central > 0
    assert any("model_unknown" in reason for reason in chosen.reasons)


@pytest.mark.parametrize("budget_g", [-1.0, float("nan")])
def test_an_unfit_budget_is_refused(budget_g: float) -> None:
    with pytest.raises(RoutingError, match="0 g or more"):
        select_model(MODELS, input_tokens=1, output_tokens=1, budget_g=budget_g)


def test_no_candidates_is_an_error() -> None:
    with pytest.raises(RoutingError, match="at least one candidate model"):
        select_model([], input_tokens=1, output_tokens=1)
