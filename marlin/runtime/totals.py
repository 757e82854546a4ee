"""What calls add up to: the footprint of one, and sums over a run or an agent. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from marlin import budget
from marlin.estimation import Coefficients, Range
from marlin.schemas import Policy, Usage

__all__ = ["Footprint", "RangeSum", "Totals", "footprint"]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one model call took, each with its range."""

    energy_wh: Range
    carbon_g: Range
    embodied_g: Range
    water_ml: Range


def footprint(usage: Usage, by: Coefficients) -> Footprint:
    """The footprint of `usage` by compiled coefficients: the worker's estimate, to the bit."""
    energy_wh, carbon_g, embodied_g, water_ml = by.footprint(
        usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens, usage.output_tokens
    )
    return Footprint(
        energy_wh=Range(energy_wh * by.energy_low, energy_wh, energy_wh * by.energy_high),
        carbon_g=Range(carbon_g * by.carbon_low, carbon_g, carbon_g * by.carbon_high),
        embodied_g=Range(embodied_g * by.embodied_low, embodied_g, embodied_g * by.embodied_high),
        water_ml=Range(water_ml * by.water_low, water_ml, water_ml * by.water_high),
    )


@dataclass(slots=True)
class RangeSum:
    """A running sum of ranges, added in order so that the same calls give the same floats."""

    low: float = 0.0
    central: float = 0.0
    high: float = 0.0

    def add(self, value: Range) -> None:
        """Count one value. Ends add up with ends: a factor's error is shared, not averaged out."""
        self.low += value.low
        self.central += value.central
        self.high += value.high

    def snapshot(self) -> Range:
        """The sum so far."""
        return Range(self.low, self.central, self.high)


@dataclass(slots=True)
class Totals:
    """Running sums over model calls."""

    calls: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    energy_wh: RangeSum = field(default_factory=RangeSum)
    carbon_g: RangeSum = field(default_factory=RangeSum)
    embodied_g: RangeSum = field(default_factory=RangeSum)
    water_ml: RangeSum = field(default_factory=RangeSum)
    priced_calls: int = 0
    cost_sum_usd: float = 0.0

    def add(self, usage: Usage, of: Footprint) -> None:
        """Count one call."""
        self.calls += 1
        self.input_tokens += usage.input_tokens
        self.cache_read_tokens += usage.cache_read_tokens
        self.cache_write_tokens += usage.cache_write_tokens
        self.output_tokens += usage.output_tokens
        self.energy_wh.add(of.energy_wh)
        self.carbon_g.add(of.carbon_g)
        self.embodied_g.add(of.embodied_g)
        self.water_ml.add(of.water_ml)
        if usage.cost_usd is not None:
            self.priced_calls += 1
            self.cost_sum_usd += usage.cost_usd

    @property
    def tokens(self) -> int:
        """All tokens, cached ones included."""
        return (
            self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_tokens
            + self.output_tokens
        )

    @property
    def cost_usd(self) -> float | None:
        """Sum of the reported costs [USD]; None where calls were made and none said its cost."""
        return None if self.calls and not self.priced_calls else self.cost_sum_usd

    def spent_g(self, policy: Policy) -> float:
        """What counts against the policy's budget [gCO2e]."""
        carbon = self.carbon_g
        return budget.spent_g(policy, carbon.low, carbon.central, carbon.high)
