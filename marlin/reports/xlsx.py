"""A report as an Excel workbook: summary, rows, methods and queries."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from typing import Any

from marlin.errors import ConfigurationError
from marlin.reports.csv import cells, columns
from marlin.reports.model import Amount, Figure, PartialFigure
from marlin.reports.report import Report

__all__ = ["to_xlsx"]

_CELL_CHARACTERS = 32_767
"""Most that a cell of Excel takes."""


def to_xlsx(report: Report) -> bytes:
    """The workbook. Numbers are numbers, to the 15 digits that Excel has; the CSV has them all.

    Raises ConfigurationError when xlsxwriter is missing.
    """
    try:
        xlsxwriter: Any = import_module("xlsxwriter")
    except ImportError as exc:
        raise ConfigurationError(
            "workbooks need xlsxwriter: pip install 'marlin-carbon[reports]'; nothing was reported"
        ) from exc
    file = io.BytesIO()
    # Text stays text, whatever it looks like: names come from whoever sends events.
    options = {
        "in_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
        "remove_timezone": True,
    }
    with xlsxwriter.Workbook(file, options) as book:
        book.set_properties({"title": "Marlin ESG report", "created": report.generated_at})
        head = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        for name, header, rows, widths in (
            (
                "Summary",
                ("figure", "low", "central", "high", "unit", "query"),
                _summary(report),
                44,
            ),
            ("Rows", tuple(columns()), (list(cells(row)) for row in report.rows), 18),
            ("Methods", _SOURCE_HEAD, _methods(report), 22),
            ("Queries", ("name", "gives", "sql"), _queries(report), 26),
        ):
            sheet = book.add_worksheet(name)
            sheet.freeze_panes(1, 1)
            sheet.set_column(0, 0, widths)
            sheet.set_column(1, len(header) - 1, 20)
            sheet.write_row(0, 0, header, head)
            for at, row in enumerate(rows, start=1):
                sheet.write_row(at, 0, [_cell(value) for value in row])
    return file.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value[:_CELL_CHARACTERS] if isinstance(value, str) else value


def _summary(report: Report) -> Iterable[list[Any]]:
    ghg, period = report.ghg_protocol, report.reporting_period
    for name, text in (
        ("reporting period", period.label),
        ("from", period.start),
        ("until", period.end),
        ("tenant", report.tenant or "all"),
        ("as of", report.as_of),
        ("scope", f"{ghg.scope}, category {ghg.category}"),
        ("method", f"{ghg.calculation_method}, {ghg.headline_basis}"),
        ("GWP", ghg.gwp),
        ("excluded", "; ".join(ghg.exclusions)),
    ):
        yield [name, None, text]
    intensity = report.carbon_intensity_g_kwh
    yield ["calls", None, report.calls, None, "calls", "totals"]
    for name, figure in (
        ("total emissions, location-based", report.total_emissions_g_co2e),
        ("total emissions, location-based", report.total_emissions_t_co2e),
        ("energy", report.energy_kwh),
        ("embodied emissions, apart", ghg.embodied_t_co2e),
        ("category 1, operational and embodied", ghg.category_1_total_t_co2e),
        ("market-based emissions, memo", ghg.market_based_t_co2e),
        ("water consumed", report.water_consumed_ml.total),
        ("water consumed on site", report.water_consumed_ml.on_site),
        ("water consumed off site", report.water_consumed_ml.off_site),
        ("water withdrawn", report.water_withdrawn_ml.total),
        ("water withdrawn on site", report.water_withdrawn_ml.on_site),
        ("on-site water, basis not stated", report.water_unstated_ml),
    ):
        yield _figure(name, figure)
    yield ["carbon intensity", None, intensity.value, None, intensity.unit, intensity.query]
    if report.sci.value is not None:
        yield ["SCI", *_ends(report.sci.value), report.sci.unit, report.sci.query]
    for label, totals in (
        ("as recorded", report.restatements.as_recorded),
        ("restated", report.restatements.restated),
    ):
        yield [f"emissions {label}", *_ends(totals.carbon_g), "gCO2e", totals.query]
    for one in report.restatements.adjustments:
        name = f"adjustment {one.restatement_id}: {one.reason}"
        yield [name, *_ends(one.carbon_g), "gCO2e", report.restatements.query]


def _figure(name: str, of: Figure | PartialFigure) -> list[Any]:
    figure = of.value if isinstance(of, PartialFigure) else of
    if figure is None:
        assert isinstance(of, PartialFigure)
        return [name, None, f"not known: {of.reason}"]
    return [name, *_ends(figure), figure.unit, figure.query]


def _ends(of: Amount) -> tuple[Decimal, Decimal, Decimal]:
    return of.low, of.central, of.high


_SOURCE_HEAD = (
    *("provider", "region", "factors", "quantity", "scope", "key", "value", "unit", "basis"),
    *("year", "source", "licence", "tier"),
)


def _methods(report: Report) -> Iterable[list[Any]]:
    for use in report.methods:
        yield ["method", use.method, use.factors, "calls", "", "", use.calls, "calls"]
    for place in report.places:
        for factor in place.sources:
            yield [place.provider, place.region, place.factors, *factor.model_dump().values()]


def _queries(report: Report) -> Iterable[list[Any]]:
    for query in report.queries:
        yield [query.name, query.gives, query.sql]
