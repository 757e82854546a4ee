"""Compiled coefficients: what one event costs, in a handful of multiplications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Coefficients", "Footprint", "Ranged"]

Footprint = Callable[[int, int, int, int], tuple[float, float, float, float]]
"""Prices one call: four token counts to central energy, carbon, embodied carbon and water."""

_F = float
Twelve = tuple[_F, _F, _F, _F, _F, _F, _F, _F, _F, _F, _F, _F]

Ranged = Callable[[int, int, int, int], Twelve]
"""Prices one call: four token counts to energy, carbon, embodied carbon and water, of each the
central value, the low and the high end: 12 numbers."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Everything needed to price the calls of one model, provider, region and grid hour.

    Energy coefficients are at the data centre's boundary (accelerator, host, idle, PUE) [Wh].
    The `*_low` and `*_high` multipliers apply to the central value: `low <= 1 <= high`.
    """

    prefill_wh: float
    """Per fresh input token [Wh/token]."""
    prefill_attention_wh: float
    """Per fresh input token and token of context before it [Wh/token²]: what makes long prompts
    grow faster than linearly."""
    cached_wh: float
    """Per input token served from a cache [Wh/token]."""
    decode_wh: float
    """Per output token at an empty context [Wh/token]."""
    context_wh: float
    """Per output token and token of context [Wh/token²]."""
    carbon_g_per_wh: float
    """Operational, location-based [gCO2e/Wh]."""
    embodied_g_per_wh: float
    """Hardware, cradle-to-gate, by time in use [gCO2e/Wh]."""
    water_ml_per_wh: float
    """Consumption [mL/Wh], which equals L/kWh."""
    water_offsite_ml_per_wh: float
    """Consumed where the electricity is made [mL/Wh]; part of `water_ml_per_wh`."""
    water_onsite_ml_per_wh: float
    """Of the data centre's cooling, on `water_onsite_basis` [mL/Wh]; part of `water_ml_per_wh` only
    where that is `consumption`."""
    water_onsite_basis: str
    """`consumption`, `withdrawal`, `unstated`, or `unknown` where nothing is published."""
    market_g_per_wh: float | None
    """Operational, market-based [gCO2e/Wh], where the factor set has one; never netted."""
    gpu_share: float
    """Accelerator energy over data-centre energy [1]: 1 / (host overhead x PUE)."""
    energy_low: float
    energy_high: float
    carbon_low: float
    carbon_high: float
    embodied_low: float
    embodied_high: float
    water_low: float
    water_high: float
    water_offsite_low: float
    water_offsite_high: float
    water_onsite_low: float
    water_onsite_high: float
    gpu_low: float
    gpu_high: float
    intensity_g_per_kwh: float
    """Grid intensity used [gCO2e/kWh]."""
    method: str
    """Name and version of the equations."""
    factors: str
    """Version of the factor set: its date and content hash."""
    codes: tuple[str, ...]
    """What was assumed, in a fixed order; empty where everything was known."""

    footprint: Footprint = field(init=False, repr=False, compare=False)
    """`footprint(input_tokens, cache_read_tokens, cache_write_tokens, output_tokens)` gives the
    central `(energy_wh, carbon_g, embodied_g, water_ml)` of one call, positionally; never raises.

    Token classes do not overlap. Writing to a cache computes the tokens, so they cost what fresh
    input costs. Reasoning tokens are inside `output_tokens`. `carbon_g` is operational,
    `embodied_g` is not part of it."""
    ranged: Ranged = field(init=False, repr=False, compare=False)
    """`footprint` with its ranges: `(energy_wh, energy_wh_low, energy_wh_high, carbon_g, …)`, in
    the order of `marlin.totals.Footprint`."""

    def __post_init__(self) -> None:
        ranged = _ranged(self)
        object.__setattr__(self, "ranged", ranged)
        object.__setattr__(self, "footprint", _footprint(ranged))


def _footprint(ranged: Ranged) -> Footprint:
    def footprint(
        input_tokens: int, cache_read_tokens: int, cache_write_tokens: int, output_tokens: int, /
    ) -> tuple[float, float, float, float]:
        of = ranged(input_tokens, cache_read_tokens, cache_write_tokens, output_tokens)
        return of[0], of[3], of[6], of[9]

    return footprint


def _ranged(coefficients: Coefficients) -> Ranged:
    """The call's price as a closure: half the time of a method, whose every `self.` is a look-up.

    The factor 1/2 of both context sums (token N follows N - 1 others) is folded into its constant.
    """
    prefill = coefficients.prefill_wh
    attention = coefficients.prefill_attention_wh
    half_attention = coefficients.prefill_attention_wh / 2
    cached = coefficients.cached_wh
    decode = coefficients.decode_wh
    context = coefficients.context_wh
    half_context = coefficients.context_wh / 2
    carbon = coefficients.carbon_g_per_wh
    embodied = coefficients.embodied_g_per_wh
    water = coefficients.water_ml_per_wh
    energy_low, energy_high = coefficients.energy_low, coefficients.energy_high
    carbon_low, carbon_high = coefficients.carbon_low, coefficients.carbon_high
    embodied_low, embodied_high = coefficients.embodied_low, coefficients.embodied_high
    water_low, water_high = coefficients.water_low, coefficients.water_high

    def ranged(
        input_tokens: int, cache_read_tokens: int, cache_write_tokens: int, output_tokens: int, /
    ) -> Twelve:
        fresh = input_tokens + cache_write_tokens
        energy_wh = (
            fresh * (prefill + attention * cache_read_tokens + half_attention * fresh)
            + cached * cache_read_tokens
            + output_tokens
            * (decode + context * (fresh + cache_read_tokens) + half_context * output_tokens)
        )
        carbon_g = energy_wh * carbon
        embodied_g = energy_wh * embodied
        water_ml = energy_wh * water
        return (
            energy_wh,
            energy_wh * energy_low,
            energy_wh * energy_high,
            carbon_g,
            carbon_g * carbon_low,
            carbon_g * carbon_high,
            embodied_g,
            embodied_g * embodied_low,
            embodied_g * embodied_high,
            water_ml,
            water_ml * water_low,
            water_ml * water_high,
        )

    return ranged
