"""Weighing the choice of the model: what a task would cost with each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from marlin.errors import RoutingError
from marlin.estimation import Estimator, Range, estimate

__all__ = ["ModelChoice", "select_model"]


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model and what the task costs with it; of the chosen one `reasons` tell why."""

    model: str
    energy_wh: Range
    carbon_g: Range
    """Operational, location-based [gCO2e]."""
    water_ml: Range
    codes: tuple[str, ...]
    """What was assumed, such as `model_unknown`: see `marlin.estimation.CODES`."""
    fits: bool
    """Whether `bound` of its carbon is within the budget; True without one."""
    reasons: tuple[str, ...] = ()
    alternatives: tuple[ModelChoice, ...] = ()
    """The other candidates, least carbon first; empty but for the chosen one."""


def select_model(
    candidates: Sequence[str],
    *,
    input_tokens: int,
    output_tokens: int,
    budget_g: float | None = None,
    bound: Literal["low", "central", "high"] = "central",
    provider: str = "",
    region: str = "",
    estimator: Estimator | None = None,
) -> ModelChoice:
    """The model for a task of so many tokens.

    With `budget_g`, `candidates` stand in order of preference, and the first whose carbon fits
    [gCO2e, at `bound`] is chosen; without, the one of least carbon. Unknown models have a wide
    range and say so in `codes`. Raises RoutingError when there is no candidate or none fits.
    """
    if not candidates:
        raise RoutingError("at least one candidate model was expected; nothing was chosen")
    if budget_g is not None and not budget_g >= 0:
        raise RoutingError(f"a budget of 0 g or more was expected, got {budget_g}")
    options = [
        _option(model, input_tokens, output_tokens, budget_g, bound, provider, region, estimator)
        for model in dict.fromkeys(candidates)
    ]
    ranked = sorted(options, key=lambda one: getattr(one.carbon_g, bound))
    best = ranked[0] if budget_g is None else next((one for one in options if one.fits), None)
    if best is None:
        least: float = getattr(ranked[0].carbon_g, bound)
        raise RoutingError(
            f"no candidate fits {budget_g:g} gCO2e: {ranked[0].model} takes least, "
            f"{least:.4g} g ({bound}); nothing was chosen"
        )
    others = tuple(one for one in ranked if one is not best)
    return replace(best, reasons=_reasons(best, ranked, budget_g, bound), alternatives=others)


def _option(
    model: str,
    input_tokens: int,
    output_tokens: int,
    budget_g: float | None,
    bound: Literal["low", "central", "high"],
    provider: str,
    region: str,
    estimator: Estimator | None,
) -> ModelChoice:
    found = estimate(
        model,
        provider=provider,
        region=region,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        estimator=estimator,
    )
    fits = budget_g is None or getattr(found.carbon_g, bound) <= budget_g
    return ModelChoice(model, found.energy_wh, found.carbon_g, found.water_ml, found.codes, fits)


def _reasons(
    best: ModelChoice, ranked: Sequence[ModelChoice], budget_g: float | None, bound: str
) -> tuple[str, ...]:
    g: float = getattr(best.carbon_g, bound)
    if budget_g is None:
        said = [f"least carbon: {g:.4g} gCO2e ({bound})"]
    else:
        said = [f"first in order of preference within {budget_g:g} gCO2e: {g:.4g} g ({bound})"]
    most: float = getattr(ranked[-1].carbon_g, bound)
    if most > g:
        said.append(f"{1 - g / most:.0%} less carbon than {ranked[-1].model}")
    if best.codes:
        said.append(f"assumed: {', '.join(best.codes)}")
    return tuple(said)
