"""Quantities of a report as people read them: three digits, a fitting unit, the range beside."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from marlin.reports.model import Amount

__all__ = ["CARBON_G", "ENERGY_KWH", "WATER_ML", "percent", "ranged", "short", "unit_for"]

_UNKNOWN: Final = "\N{EN DASH}"

Units = Sequence[tuple[int, str]]

CARBON_G: Final[Units] = ((-3, "mgCO2e"), (0, "gCO2e"), (3, "kgCO2e"), (6, "tCO2e"))
ENERGY_KWH: Final[Units] = ((-3, "Wh"), (0, "kWh"), (3, "MWh"), (6, "GWh"))
WATER_ML: Final[Units] = ((0, "mL"), (3, "L"), (6, "m³"))
"""Powers of ten of the base unit, and the unit there."""


def unit_for(value: Decimal, units: Units) -> tuple[int, str]:
    """The largest unit in which `value` is 1 or more; the smallest where there is none."""
    fitting = [unit for unit in units if abs(value) >= Decimal(10) ** unit[0]]
    if fitting:
        return fitting[-1]
    return units[0] if value else min(units, key=lambda unit: abs(unit[0]))


def short(value: Decimal | None) -> str:
    """Three significant digits, thousands set apart; a dash for what is not known."""
    if value is None:
        return _UNKNOWN
    if value == 0:
        return "0"
    digits = 2 - value.adjusted()
    text = f"{round(value, digits):,.{max(digits, 0)}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def ranged(value: Amount, units: Units) -> tuple[str, str, str]:
    """Central value, unit, and `low to high` in that unit."""
    power, unit = unit_for(value.central, units)
    low, central, high = (part.scaleb(-power) for part in (value.low, value.central, value.high))
    return short(central), unit, f"{short(low)} to {short(high)}"


def percent(share: Decimal | None) -> str:
    """A share of 1, in percent; a dash for what is not known."""
    return _UNKNOWN if share is None else f"{share * 100:.1f}\N{NO-BREAK SPACE}%"
