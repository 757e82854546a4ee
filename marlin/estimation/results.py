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
    """Consumption [mL]: off-site, and on-site where the operator publishes consumption."""
    water_offsite_ml: Range
    """Consumed where the electricity is made [mL]; inside `water_ml`."""
    water_onsite_ml: Range
    """Of the data centre's cooling [mL], on `water_onsite_basis`; inside `water_ml` only where that
    is `consumption`."""
    water_onsite_basis: str
    """`consumption`, `withdrawal`, `unstated`, or `unknown`. Never add different bases."""
    carbon_market_g: Range | None
    """Operational, market-based [gCO2e]: a memo beside `carbon_g`; None where no factor is."""
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
        _spread(gpu_wh, c.gpu_low, c.gpu_high),
        _spread(energy_wh, c.energy_low, c.energy_high),
        _spread(carbon_g, c.carbon_low, c.carbon_high),
        _spread(embodied_g, c.embodied_low, c.embodied_high),
        _spread(water_ml, c.water_low, c.water_high),
        _spread(energy_wh * c.water_offsite_ml_per_wh, c.water_offsite_low, c.water_offsite_high),
        _spread(energy_wh * c.water_onsite_ml_per_wh, c.water_onsite_low, c.water_onsite_high),
        c.water_onsite_basis,
        None
        if c.market_g_per_wh is None
        else _spread(energy_wh * c.market_g_per_wh, c.carbon_low, c.carbon_high),
        c.intensity_g_per_kwh,
        c.method,
        c.factors,
        c.codes,
    )


def _spread(central: float, low: float, high: float) -> Range:
    return Range(central * low, central, central * high)
