"""Scalar factors: constants of the equations, each with range, unit and citation."""

from __future__ import annotations

from dataclasses import dataclass

from marlin.errors import EstimationError
from marlin.estimation.tables import Citation, Row

__all__ = ["Factor", "parse_factor"]


@dataclass(frozen=True, slots=True)
class Factor:
    """One constant in `unit`, with the range its source or its fit gives."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    citation: Citation
    note: str = ""


def parse_factor(row: Row) -> Factor:
    """A row of `factors.csv`; raises EstimationError where it is unfit.

    Low and high default to the value. They are ends of a range, in either order: for a batch
    size, the low end of the energy is the large batch.
    """
    value = row.number("value")
    low, high = row.number("low", value), row.number("high", value)
    if not min(low, high) <= value <= max(low, high):
        raise EstimationError(
            f"{row.place}: value {value:g} lies outside {low:g} to {high:g}; the file is refused"
        )
    return Factor(
        row.text("name"),
        value,
        low,
        high,
        row.text("unit"),
        row.citation(),
        row.optional_text("note"),
    )
