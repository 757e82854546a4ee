"""`marlin report`: energy, carbon and water of a run or a period, for an ESG report."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from marlin.cli.console import AsJson, err, out
from marlin.errors import ConfigurationError

if TYPE_CHECKING:
    from marlin.reports import Report
    from marlin.reports.model import Amount
    from marlin.reports.quantities import Units

__all__ = ["register", "write_out"]


class Format(str, Enum):  # noqa: UP042  typer reads the values of a str enum
    """How a report is written."""

    JSON = "json"
    CSV = "csv"
    HTML = "html"
    XLSX = "xlsx"


def register(app: typer.Typer) -> None:
    """Add `marlin report`."""
    app.command(rich_help_panel="Results")(report)


def report(
    run: Annotated[
        str | None, typer.Option("--run", help="Of this run.", show_default=False)
    ] = None,
    period: Annotated[
        str | None,
        typer.Option(
            help="Of all use in 2026-05, 2026-Q2, 2026, 2026-05-31 or 2026-05-01..2026-05-31.",
            show_default=False,
        ),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant.", show_default=False)
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            help="Leave out restatements after this time (UTC): an earlier report again.",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"],
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="By default by --output's name.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Report a run or a period: emissions, energy, water, their sources and quality.

    Needs exactly one of --run and --period. Without a format, a summary for people.

    Example: `marlin report --period 2026-05 --output may.html`
    """
    from marlin.cli.settings import load_settings
    from marlin.reports import ESGReporter

    if (run is None) == (period is None):
        raise typer.BadParameter("give exactly one of --run and --period")
    wanted = _format(format, output, as_json)
    at = None if as_of is None else as_of.replace(tzinfo=UTC)
    reporter = ESGReporter(load_settings())
    if wanted is None:
        _print(reporter.report(run_id=run, period=period, tenant=tenant, as_of=at))
        return
    if wanted is Format.XLSX and output is None:
        raise typer.BadParameter("a workbook is a file: give --output")
    made = reporter.generate(
        run_id=run, period=period, tenant=tenant, as_of=at, format=wanted.value
    )
    write_out(made, output)


def _format(format: Format | None, output: Path | None, as_json: bool) -> Format | None:
    if as_json:
        return Format.JSON
    if format is not None or output is None:
        return format
    try:
        return Format(output.suffix.lower().removeprefix("."))
    except ValueError as exc:
        raise typer.BadParameter(
            f"{output.name} does not tell the format; give --format json, csv, html or xlsx"
        ) from exc


def write_out(made: str | bytes, output: Path | None) -> None:
    """Write to a file, and say so on stderr, or to stdout."""
    data = made.encode() if isinstance(made, str) else made
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        output.write_bytes(data)
    except OSError as exc:
        raise ConfigurationError(f"{output} cannot be written: {exc}") from exc
    err().print(Text(f"wrote {output}"))


def _print(report: Report) -> None:
    from marlin.reports.quantities import CARBON_G, ENERGY_KWH, WATER_ML, percent, ranged, short

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in (report.reporting_period.label, "central", "range"):
        table.add_column(
            Text(name), justify="left" if name not in ("central", "range") else "right"
        )

    def add(name: str, value: Amount, units: Units) -> None:
        central, unit, spread = ranged(value, units)
        table.add_row(Text(name), Text(f"{central} {unit}"), Text(f"{spread} {unit}", style="dim"))

    add("emissions, location-based", report.total_emissions_g_co2e, CARBON_G)
    add("embodied, apart", report.sci.m_g, CARBON_G)
    add("energy", report.energy_kwh, ENERGY_KWH)
    if report.water_consumed_ml.total.value is not None:
        add("water consumed", report.water_consumed_ml.total.value, WATER_ML)
    intensity = short(report.carbon_intensity_g_kwh.value)
    table.add_row("carbon intensity", Text(f"{intensity} g/kWh"), "")
    console = out()
    console.print(table)
    tiers = ", ".join(
        f"T{tier.tier or '?'} {percent(tier.share_of_carbon)}" for tier in report.data_quality.tiers
    )
    count = len(report.restatements.adjustments)
    console.print(
        Text(
            f"{report.calls:,} calls; carbon by data quality: {tiers or 'none'}; {count} "
            f"restatement{'' if count == 1 else 's'}. All of it: --format json, csv, html or xlsx",
            style="dim",
        )
    )
