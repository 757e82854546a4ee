"""Low, central and high: how a range is written, combined and applied.

A range is a judgement band, not a confidence interval. Independent factors combine in quadrature
of their logarithms; the same factor applied to many events is one systematic error and does not
shrink with their number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, hypot, log

__all__ = ["Range", "combine"]


@dataclass(frozen=True, slots=True)
class Range:
    """`low <= central <= high`, all in the unit of the field that holds it.

    Raises ValueError where the order is broken or a value is not a number.
    """

    low: float
    central: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.central <= self.high:
            raise ValueError(
                f"a range needs low <= central <= high, got {self.low}, {self.central}, {self.high}"
            )

    def scaled(self, factor: float) -> Range:
        """This range times an exact `factor` of 0 or more [any unit]."""
        return Range(self.low * factor, self.central * factor, self.high * factor)


def combine(factors: Iterable[float]) -> float:
    """One multiplicative spread from independent ones, in quadrature of the logarithms [1].

    Each factor is 1 or more ("within a factor of 1.4"); a factor below 1 counts as its inverse,
    so that low and high ends can be combined by the same function. Without factors: 1.
    """
    return exp(hypot(*(log(factor) for factor in factors)))
