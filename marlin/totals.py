"""The footprint of a call, and sums over calls. Pure; the worker and the SDK share it, so that
both come to the same grams, to the bit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

from marlin import budget
from marlin.estimation import Coefficients, Range
from marlin.schemas import Policy, Usage

__all__ = ["Footprint", "Totals", "footprint"]


class Footprint(NamedTuple):
    """Energy [Wh], carbon, embodied carbon [gCO2e] and water [mL] of one call, with ranges."""

    energy_wh: float
    energy_wh_low: float
    energy_wh_high: float
    carbon_g: float
    carbon_g_low: float
    carbon_g_high: float
    embodied_g: float
    embodied_g_low: float
    embodied_g_high: float
    water_ml: float
    water_ml_low: float
    water_ml_high: float


def footprint(usage: Usage, by: Coefficients) -> Footprint:
    """The footprint of `usage`: a handful of multiplications by compiled coefficients."""
    energy_wh, carbon_g, embodied_g, water_ml = by.footprint(
        usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens, usage.output_tokens
    )
    return Footprint(
        energy_wh,
        energy_wh * by.energy_low,
        energy_wh * by.energy_high,
        carbon_g,
        carbon_g * by.carbon_low,
        carbon_g * by.carbon_high,
        embodied_g,
        embodied_g * by.embodied_low,
        embodied_g * by.embodied_high,
        water_ml,
        water_ml * by.water_low,
        water_ml * by.water_high,
    )


_COUNTS = (
    "calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "priced_calls",
)
_SUMS = (*Footprint._fields, "known_cost_usd")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Totals:
    """Running sums of a run or of one of its agents.

    Sums are made in log order, so that the same log always gives the same floats.
    """

    __slots__ = (*_COUNTS, *_SUMS, "first_event_at", "last_event_at")

    calls: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    priced_calls: int
    """Calls whose cost is known [count]."""
    energy_wh: float
    energy_wh_low: float
    energy_wh_high: float
    carbon_g: float
    carbon_g_low: float
    carbon_g_high: float
    embodied_g: float
    embodied_g_low: float
    embodied_g_high: float
    water_ml: float
    water_ml_low: float
    water_ml_high: float
    known_cost_usd: float
    """Sum of the known costs [USD]."""
    first_event_at: datetime | None
    last_event_at: datetime | None

    def __init__(self) -> None:
        for name in _COUNTS:
            setattr(self, name, 0)
        for name in _SUMS:
            setattr(self, name, 0.0)
        self.first_event_at = None
        self.last_event_at = None

    def add(self, usage: Usage, of: Footprint) -> None:
        """Count one call."""
        self.calls += 1
        self.input_tokens += usage.input_tokens
        self.cache_read_tokens += usage.cache_read_tokens
        self.cache_write_tokens += usage.cache_write_tokens
        self.output_tokens += usage.output_tokens
        self.reasoning_tokens += usage.reasoning_tokens
        self.energy_wh += of.energy_wh
        self.energy_wh_low += of.energy_wh_low
        self.energy_wh_high += of.energy_wh_high
        self.carbon_g += of.carbon_g
        self.carbon_g_low += of.carbon_g_low
        self.carbon_g_high += of.carbon_g_high
        self.embodied_g += of.embodied_g
        self.embodied_g_low += of.embodied_g_low
        self.embodied_g_high += of.embodied_g_high
        self.water_ml += of.water_ml
        self.water_ml_low += of.water_ml_low
        self.water_ml_high += of.water_ml_high
        if usage.cost_usd is not None:
            self.priced_calls += 1
            self.known_cost_usd += usage.cost_usd
        time = usage.time
        if self.first_event_at is None or time < self.first_event_at:
            self.first_event_at = time
        if self.last_event_at is None or time > self.last_event_at:
            self.last_event_at = time

    @property
    def tokens(self) -> int:
        """All tokens, cached ones included [count]."""
        cached = self.cache_read_tokens + self.cache_write_tokens
        return self.input_tokens + cached + self.output_tokens

    @property
    def cost_usd(self) -> float | None:
        """Sum of the known costs [USD]; None where calls were made and none said its cost."""
        return None if self.calls and not self.priced_calls else self.known_cost_usd

    @property
    def carbon_range_g(self) -> Range:
        """Operational carbon with its range [gCO2e]. Ends add up with ends: a factor's error is
        shared by all calls and does not average out."""
        return Range(self.carbon_g_low, self.carbon_g, self.carbon_g_high)

    def spent_g(self, policy: Policy) -> float:
        """What counts against the policy's budget [gCO2e]."""
        return budget.spent_g(policy, self.carbon_g_low, self.carbon_g, self.carbon_g_high)

    def dump(self) -> list[Any]:
        """As JSON: values in the order of `__slots__`, times as microseconds since 1970."""
        values = [getattr(self, name) for name in (*_COUNTS, *_SUMS)]
        return [*values, _to_us(self.first_event_at), _to_us(self.last_event_at)]

    @classmethod
    def load(cls, dumped: list[Any]) -> Self:
        """What `dump` wrote, to the last digit."""
        totals = cls()
        names = (*_COUNTS, *_SUMS)
        for name, value in zip(names, dumped, strict=False):
            setattr(totals, name, value)
        totals.first_event_at, totals.last_event_at = map(_from_us, dumped[len(names) :])
        return totals


def _to_us(time: datetime | None) -> int | None:
    if time is None:
        return None
    since = time - _EPOCH
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


def _from_us(us: int | None) -> datetime | None:
    if us is None:
        return None
    seconds, rest = divmod(us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
