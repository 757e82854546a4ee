"""Why an option was chosen, and what speaks against the others, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from marlin.routing.option import RegionChoice
from marlin.routing.score import Strategy

__all__ = ["reasons_against", "reasons_for"]

_WORDS = {
    "carbon": "carbon",
    "water": "water",
    "water_stress": "water stress",
    "latency": "latency",
}


def reasons_for(
    best: RegionChoice,
    others: Sequence[RegionChoice],
    strategy: Strategy,
    weights: Mapping[str, float],
) -> list[str]:
    """What made `best` the best of all."""
    said = [_headline(best, strategy, weights, alone=not others)]
    if best.start is not None:
        until = best.forecast_valid_until
        said.append(
            f"start at {best.start:%Y-%m-%d %H:%M} UTC"
            + (f"; values reach to {until:%Y-%m-%d %H:%M} UTC" if until else "")
        )
    if others:
        carbon = max(others, key=lambda one: one.carbon_g_per_it_kwh)
        water = max(others, key=lambda one: one.water_l_per_it_kwh)
        said += _savings(best, carbon, water)
    return said


def _headline(
    best: RegionChoice, strategy: Strategy, weights: Mapping[str, float], *, alone: bool
) -> str:
    carbon = (
        f"{best.carbon_g_per_it_kwh:.4g} gCO2e per kWh of IT energy "
        f"({best.carbon_intensity_g_kwh:.4g} g/kWh grid x PUE {best.pue:.3g})"
    )
    water = f"{best.water_l_per_it_kwh:.3g} L of water per kWh of IT energy"
    if alone:
        return f"the only candidate that fits: {carbon}, {water}"
    if strategy == "lowest_carbon":
        return f"lowest carbon: {carbon}"
    if strategy == "lowest_water":
        return f"lowest water: {water}"
    shares = ", ".join(f"{_WORDS[name]} {share:.0%}" for name, share in weights.items() if share)
    return f"best balance of {shares}: {carbon}, {water}"


def _savings(best: RegionChoice, carbon: RegionChoice, water: RegionChoice) -> list[str]:
    said: list[str] = []
    if carbon.carbon_g_per_it_kwh > best.carbon_g_per_it_kwh:
        less = 1 - best.carbon_g_per_it_kwh / carbon.carbon_g_per_it_kwh
        said.append(f"{less:.0%} less carbon than {carbon.region}")
    if water.water_l_per_it_kwh > best.water_l_per_it_kwh:
        less = 1 - best.water_l_per_it_kwh / water.water_l_per_it_kwh
        said.append(f"{less:.0%} less water than {water.region}")
    return said


def reasons_against(one: RegionChoice, best: RegionChoice) -> list[str]:
    """How an alternative compares with the best."""
    return [
        _compared("carbon", one.carbon_g_per_it_kwh, best.carbon_g_per_it_kwh, best.region),
        _compared("water", one.water_l_per_it_kwh, best.water_l_per_it_kwh, best.region),
    ]


def _compared(what: str, value: float, other: float, region: str) -> str:
    if value == other:
        return f"as much {what} as {region}"
    if value >= 2 * other:
        times = f"{value / other:.1f} times" if other else "more than"
        return f"{times} the {what} of {region}"
    change = value / other - 1
    return f"{abs(change):.0%} {'more' if change > 0 else 'less'} {what} than {region}"
