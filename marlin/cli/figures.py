"""Quantities as people read them. For machines there is `--json`."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text

__all__ = [
    "amount",
    "budget_bar",
    "grams",
    "millilitres",
    "milliseconds",
    "moment",
    "spread",
    "status",
    "watt_hours",
]

_BAR_CELLS = 10
_STYLES = {"completed": "green", "running": "cyan", "aborted": "red", "failed": "yellow"}


def amount(value: float) -> str:
    """Three significant digits, never in exponents where they can be avoided."""
    if value == 0:
        return "0"
    if abs(value) < 0.0001:
        return f"{value:.2g}"
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def grams(value_g: float) -> str:
    """A mass of CO2e, from milligrams to kilograms."""
    if value_g and abs(value_g) < 0.1:
        return f"{amount(value_g * 1000)} mg"
    if abs(value_g) >= 10_000:
        return f"{amount(value_g / 1000)} kg"
    return f"{amount(value_g)} g"


def watt_hours(value_wh: float) -> str:
    """An energy, in watt-hours or kilowatt-hours."""
    return f"{amount(value_wh / 1000)} kWh" if abs(value_wh) >= 10_000 else f"{amount(value_wh)} Wh"


def millilitres(value_ml: float) -> str:
    """A volume of water, in millilitres or litres."""
    return f"{amount(value_ml / 1000)} L" if abs(value_ml) >= 10_000 else f"{amount(value_ml)} mL"


def milliseconds(value_ms: float) -> str:
    """A short time, from milliseconds to minutes."""
    if value_ms < 1000:
        return f"{amount(value_ms)} ms"
    seconds = value_ms / 1000
    return f"{amount(seconds)} s" if seconds < 600 else f"{amount(seconds / 60)} min"


def spread(low_g: float, high_g: float) -> str:
    """A range of masses, both ends in the unit of the higher one."""
    if high_g and high_g < 0.1:
        return f"{amount(low_g * 1000)} to {amount(high_g * 1000)} mg"
    if high_g >= 10_000:
        return f"{amount(low_g / 1000)} to {amount(high_g / 1000)} kg"
    return f"{amount(low_g)} to {amount(high_g)} g"


def budget_bar(spent_g: float, budget_g: float | None) -> Text:
    """How much of a budget is spent: a bar, the share, the budget."""
    if budget_g is None:
        return Text("no budget", style="dim")
    share = spent_g / budget_g if budget_g else (2.0 if spent_g else 0.0)
    filled = min(_BAR_CELLS, int(share * _BAR_CELLS))
    colour = "red" if share > 1 else "yellow" if share >= 0.8 else "green"
    percent = f"{share:>5.0%}" if share < 10 else ">999%"
    return Text.assemble(
        ("█" * filled, colour),
        ("░" * (_BAR_CELLS - filled), "dim"),
        (f" {percent}", colour),
        (f" of {grams(budget_g)}", "dim"),
    )


def status(name: str) -> Text:
    """A run's status in its colour."""
    return Text(name, style=_STYLES.get(name, ""))


def moment(time: datetime | None) -> str:
    """A time in UTC to the second."""
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"
