"""How options are compared.

A job takes the same IT energy wherever it runs, so carbon and water are compared per kWh of IT
energy (grid figure times PUE). `balanced` ranks by the weighted geometric mean, whose logarithm is

    score = w_carbon ln(g per IT kWh) + w_water ln(L per IT kWh) + w_latency ln(ms)
            + w_water_stress (stress / 5)

A percentage saved counts the same everywhere on the scale, and adding a candidate never changes
how two others compare, which is not so for scores scaled between the best and the worst.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Literal, get_args

from marlin.errors import RoutingError

__all__ = ["BALANCED", "STRATEGIES", "Strategy", "score", "weights_of"]

Strategy = Literal["lowest_carbon", "lowest_water", "balanced"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

BALANCED: Mapping[str, float] = {"carbon": 0.5, "water": 0.4, "water_stress": 0.1}
"""Weights of `balanced` unless others are given: a judgement, not a measurement."""

_NAMES = ("carbon", "water", "water_stress", "latency")
_UNKNOWN_STRESS = 2.5
"""Middle of the scale, for a place whose water stress is unknown."""
_MOST_STRESS = 5.0

# Below these a difference means nothing, and the logarithm would make it mean everything.
_LEAST_G, _LEAST_L, _LEAST_MS = 1.0, 0.01, 1.0


def weights_of(strategy: str, weights: Mapping[str, float] | None) -> Mapping[str, float]:
    """The weights of a strategy, adding up to 1.

    `lowest_carbon` compares carbon and `lowest_water` water alone. Raises RoutingError for an
    unknown strategy, and for weights that are unknown, negative, all zero, or not for `balanced`.
    """
    if strategy not in STRATEGIES:
        raise RoutingError(
            f"strategy {strategy!r} is unknown, expected one of {', '.join(STRATEGIES)}; nothing "
            "was chosen"
        )
    if strategy != "balanced":
        if weights is not None:
            raise RoutingError(f"weights are for the strategy balanced, not for {strategy}")
        return {"carbon": 1.0} if strategy == "lowest_carbon" else {"water": 1.0}
    given = BALANCED if weights is None else weights
    total = sum(given.values())
    fit = all(name in _NAMES and value >= 0 for name, value in given.items())
    if not fit or not 0 < total < float("inf"):
        raise RoutingError(
            f"weights of 0 or more, not all 0, were expected for some of {', '.join(_NAMES)}; got "
            f"{dict(given)}; nothing was chosen"
        )
    return {name: value / total for name, value in given.items()}


def score(
    weights: Mapping[str, float],
    *,
    carbon_g_per_it_kwh: float,
    water_l_per_it_kwh: float,
    water_stress: float | None,
    latency_ms: float | None,
) -> float:
    """The score of an option; less is better. Raises RoutingError where latency has a weight and
    is not known."""
    stress = _UNKNOWN_STRESS if water_stress is None else water_stress
    found = (
        weights.get("carbon", 0.0) * log(max(carbon_g_per_it_kwh, _LEAST_G))
        + weights.get("water", 0.0) * log(max(water_l_per_it_kwh, _LEAST_L))
        + weights.get("water_stress", 0.0) * stress / _MOST_STRESS
    )
    if weights.get("latency"):
        if latency_ms is None:
            raise RoutingError(
                "latency has a weight, but is not known for every candidate: give latency_ms; "
                "nothing was chosen"
            )
        found += weights["latency"] * log(max(latency_ms, _LEAST_MS))
    return found
