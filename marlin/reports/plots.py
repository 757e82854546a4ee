"""Plots of a report as SVG to put into a page. Needs matplotlib, from the extra `reports`."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from decimal import Decimal
from importlib import import_module
from typing import Any

from marlin.errors import ConfigurationError
from marlin.reports.model import Amount, Budgets, Day
from marlin.reports.quantities import CARBON_G, short, unit_for
from marlin.reports.report import Report

__all__ = ["draw"]

_INK, _SOFT, _LINE = "#1d2b2a", "#5f6f6d", "#d9e0de"
_MAIN, _BAND, _ALERT = "#1f7a6d", "#bfe0d8", "#c0492f"
_TIER_COLOURS = {1: "#14594f", 2: "#1f7a6d", 3: "#66a99d", 4: "#d6b25e", 5: "#c0492f"}
_MOST_BARS = 8
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names with a dollar sign are names
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _SOFT,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(report: Report) -> dict[str, str]:
    """The plots by name, as SVG elements; what has nothing to show is left out.

    Raises ConfigurationError when matplotlib is missing.
    """
    found = {"tiers": _tiers(report)} if report.calls else {}
    if len(report.by_day) > 1:
        found["days"] = _days(report.by_day)
    if report.by_model:
        found["models"] = _bars(
            "models", [(one.model, one.carbon_g) for one in report.by_model[:_MOST_BARS]]
        )
        places: dict[str, Amount] = {}
        for one in report.places:
            name = f"{one.region or '(none)'} · {one.provider}"
            places[name] = _add(places.get(name), one.carbon_g)
        found["places"] = _bars("places", list(places.items())[:_MOST_BARS])
    if report.budgets.runs_with_budget:
        found["budgets"] = _budgets(report.budgets)
    return found


def _add(one: Amount | None, other: Amount) -> Amount:
    if one is None:
        return other
    return Amount(
        low=one.low + other.low,
        central=one.central + other.central,
        high=one.high + other.high,
    )


def _plot(name: str, height: float, paint: Any, width: float = 5.4) -> str:
    """Paint on axes and give the SVG; without dates and random ids, so the same each time."""
    try:
        matplotlib: Any = import_module("matplotlib")
        figures: Any = import_module("matplotlib.figure")
    except ImportError as exc:
        raise ConfigurationError(
            "web pages need matplotlib: pip install 'marlin-carbon[reports]'; nothing was reported"
        ) from exc
    text = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = figures.Figure(figsize=(width, height), layout="constrained")
        paint(figure.subplots())
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    # Ids of several plots on one page must differ.
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'role="img" class="{name}"', svg, count=1)


def _numbers(values: Sequence[Decimal], power: int) -> list[float]:
    return [float(value.scaleb(-power)) for value in values]


def _days(days: Sequence[Day]) -> str:
    power, unit = unit_for(max(day.carbon_g.central for day in days), CARBON_G)

    def paint(axes: Any) -> None:
        dates: Any = import_module("matplotlib.dates")
        ticker: Any = import_module("matplotlib.ticker")
        at = [float(dates.date2num(day.day)) for day in days]
        low, central, high = (
            _numbers([getattr(day.carbon_g, end) for day in days], power)
            for end in ("low", "central", "high")
        )
        axes.vlines(at, low, high, color=_BAND, linewidth=5)
        axes.plot(at, central, "o", color=_MAIN, markersize=4)
        positive = [value for value in low if value > 0]
        axes.set_yscale("symlog", linthresh=min(positive, default=1.0))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(_tick))
        locator = dates.AutoDateLocator(minticks=3, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        axes.set_ylabel(f"{unit} a day")
        axes.grid(axis="y", color=_LINE, linewidth=0.7)
        axes.set_axisbelow(True)

    return _plot("days", 2.7, paint, width=10.8)


def _bars(name: str, items: Sequence[tuple[str, Amount]]) -> str:
    power, unit = unit_for(max(amount.central for _, amount in items), CARBON_G)

    def paint(axes: Any) -> None:
        names = [_clip(label) for label, _ in items]
        rows = list(range(len(items)))
        low, central, high = (
            _numbers([getattr(amount, end) for _, amount in items], power)
            for end in ("low", "central", "high")
        )
        axes.barh(rows, central, color=_MAIN, height=0.5)
        axes.hlines(rows, low, high, color=_SOFT, linewidth=1.2)
        for row, (at, amount) in enumerate(zip(high, items, strict=True)):
            value = short(amount[1].central.scaleb(-power))
            axes.annotate(
                f" {value}", (at, row), va="center", fontsize=9, color=_INK, fontweight="bold"
            )
        axes.set_yticks(rows, names, color=_INK)
        axes.invert_yaxis()
        axes.margins(x=0.14)
        axes.set_xlim(left=0)
        axes.set_xlabel(unit)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)

    return _plot(name, 0.9 + 0.32 * len(items), paint)


def _tiers(report: Report) -> str:
    tiers = report.data_quality.tiers

    def paint(axes: Any) -> None:
        left = 0.0
        for tier in tiers:
            share = float(tier.share_of_carbon or 0)
            colour = _TIER_COLOURS.get(tier.tier or 0, _SOFT)
            label = f"T{tier.tier}" if tier.tier else "removed"
            axes.barh([0], [share], left=left, color=colour, height=0.9, edgecolor="white")
            if share > 0.06:
                axes.text(
                    left + share / 2,
                    0,
                    f"{label}\n{share:.0%}",
                    **{"ha": "center", "va": "center", "color": "white", "fontweight": "bold"},
                )
            left += share
        axes.set_xlim(0, 1)
        axes.set_axis_off()

    return _plot("tiers", 0.75, paint)


def _budgets(budgets: Budgets) -> str:
    within = budgets.runs_with_budget - min(budgets.runs_aborted, budgets.runs_with_budget)

    def paint(axes: Any) -> None:
        counts = (within, budgets.runs_aborted, len(budgets.breaches))
        names = ["not aborted", "aborted", "commands sent"]
        axes.barh([0, 1, 2], counts, color=[_MAIN, _ALERT, _SOFT], height=0.5)
        for row, count in enumerate(counts):
            axes.annotate(f" {count:,}", (count, row), va="center", fontweight="bold")
        axes.set_yticks([0, 1, 2], names, color=_INK)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(axis="y", length=0)

    return _plot("budgets", 1.2, paint)


def _tick(value: float, _position: int) -> str:
    return f"{value:,.10g}"


def _clip(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:29]}…"
