"""Compiled coefficients: what one event costs, in a handful of multiplications."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Coefficients"]


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

    def footprint(
        self,
        input_tokens: int,
        cache_read_tokens: int,
        cache_write_tokens: int,
        output_tokens: int,
    ) -> tuple[float, float, float, float]:
        """Central `(energy_wh, carbon_g, embodied_g, water_ml)` of one call; never raises.

        Token classes do not overlap. Writing to a cache computes the tokens, so they cost what
        fresh input costs. Reasoning tokens are inside `output_tokens`. `carbon_g` is operational,
        `embodied_g` is not part of it.
        """
        fresh = input_tokens + cache_write_tokens
        energy_wh = (
            fresh
            * (self.prefill_wh + self.prefill_attention_wh * (cache_read_tokens + 0.5 * fresh))
            + self.cached_wh * cache_read_tokens
            + output_tokens
            * (self.decode_wh + self.context_wh * (fresh + cache_read_tokens + 0.5 * output_tokens))
        )
        return (
            energy_wh,
            energy_wh * self.carbon_g_per_wh,
            energy_wh * self.embodied_g_per_wh,
            energy_wh * self.water_ml_per_wh,
        )
