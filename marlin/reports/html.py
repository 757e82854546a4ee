"""A report as one self-contained web page: no scripts, nothing loaded, prints on A4."""

from __future__ import annotations

from decimal import Decimal
from importlib.resources import files
from typing import Any

from marlin.errors import ConfigurationError
from marlin.reports.model import Amount
from marlin.reports.plots import draw
from marlin.reports.quantities import CARBON_G, ENERGY_KWH, WATER_ML, percent, ranged, short
from marlin.reports.report import Report

__all__ = ["to_html"]


def to_html(report: Report) -> str:
    """The page. Raises ConfigurationError when jinja2 or matplotlib is missing."""
    try:
        import jinja2
    except ImportError as exc:
        raise ConfigurationError(
            "web pages need jinja2: pip install 'marlin-carbon[reports]'; nothing was reported"
        ) from exc
    # Names come from whoever sends events: everything is escaped but the plots, which escape.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Any] = {"carbon": _carbon, "energy": _energy, "water": _water}
    environment.filters.update(filters | {"short": short, "percent": percent})
    text = (files("marlin.reports") / "templates" / "report.html").read_text(encoding="utf-8")
    page = environment.from_string(text).render(
        report=report, plots=draw(report), rows=_rows(report)
    )
    return page.lstrip()


def _carbon(value: Amount | Decimal) -> dict[str, str]:
    return _parts(value, CARBON_G)


def _energy(value: Amount | Decimal) -> dict[str, str]:
    return _parts(value, ENERGY_KWH)


def _water(value: Amount | Decimal) -> dict[str, str]:
    return _parts(value, WATER_ML)


def _parts(value: Amount | Decimal, units: Any) -> dict[str, str]:
    """Central value, unit and range; of a plain number, no range."""
    if isinstance(value, Decimal):
        value = Amount(low=value, central=value, high=value)
    central, unit, spread = ranged(value, units)
    return {"value": central, "unit": unit, "range": spread}


def _rows(report: Report) -> dict[str, int]:
    """How many entries of each kind the accounts have."""
    counts = {"recorded": 0, "reversed": 0, "restated": 0}
    for row in report.rows:
        counts[row.entry] += 1
    return counts
