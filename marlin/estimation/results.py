"""One estimate with its ranges, and the function that makes it."""

from __future__ import annotations

from dataclasses import dataclass

from marlin.estimation.catalogue import ModelSpec
from marlin.estimation.coefficients import Coefficients
from marlin.estimation.estimator import Estimator, default_estimator
from marlin.estimation.hardware import OperatingPoint
from marlin.estimation.ranges import Range

__all__ = ["Estimate", "estimate", "estimate_with"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """The footprint of one call."""

    gpu_energy_wh: Range
    """Accelerators only [Wh]: the boundary of GPU measurements."""
    energy_wh: Range
    """Data centre: accelerators, host, idle and PUE [Wh]."""
    carbon_g: Range
    """Operational, location-based [gCO2e]."""
    embodied_g: Range
    """Hardware [gCO2e]; not part of `carbon_g`."""
    water_ml: Range
    """Consumption, on-site and off-site [mL]."""
    intensity_g_per_kwh: float
    method: str
    factors: str
    codes: tuple[str, ...]


def estimate(
    model: str | ModelSpec,
    *,
    provider: str = "",
    region: str = "",
    input_tokens: int = 0,
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
    output_tokens: int = 0,
    operating_point: OperatingPoint | None = None,
    estimator: Estimator | None = None,
) -> Estimate:
    """The footprint of one call; unknown names give wide, coded ranges.

    Token classes do not overlap; reasoning tokens are part of `output_tokens`. Raises ValueError
    for a negative token count.

        >>> from marlin.estimation import estimate
        >>> estimate("gpt-4o", input_tokens=1000, output_tokens=500).energy_wh.central > 0
        True
    """
    tokens = (input_tokens, cache_read_tokens, cache_write_tokens, output_tokens)
    if min(tokens) < 0:
        raise ValueError(f"token counts must be 0 or more, got {tokens}; nothing was estimated")
    estimator = default_estimator() if estimator is None else estimator
    if isinstance(model, str) and operating_point is None:
        coefficients = estimator.coefficients(model, provider, region)
    else:
        coefficients = estimator.compile(
            model, provider=provider, region=region, operating_point=operating_point
        )
    return estimate_with(coefficients, *tokens)


def estimate_with(
    coefficients: Coefficients,
    input_tokens: int,
    cache_read_tokens: int,
    cache_write_tokens: int,
    output_tokens: int,
) -> Estimate:
    """The footprint of one call by compiled coefficients."""
    c = coefficients
    energy_wh, carbon_g, embodied_g, water_ml = c.footprint(
        input_tokens, cache_read_tokens, cache_write_tokens, output_tokens
    )
    gpu_wh = energy_wh * c.gpu_share
    return Estimate(
        Range(gpu_wh * c.gpu_low, gpu_wh, gpu_wh * c.gpu_high),
        Range(energy_wh * c.energy_low, energy_wh, energy_wh * c.energy_high),
        Range(carbon_g * c.carbon_low, carbon_g, carbon_g * c.carbon_high),
        Range(embodied_g * c.embodied_low, embodied_g, embodied_g * c.embodied_high),
        Range(water_ml * c.water_low, water_ml, water_ml * c.water_high),
        c.intensity_g_per_kwh,
        c.method,
        c.factors,
        c.codes,
    )
