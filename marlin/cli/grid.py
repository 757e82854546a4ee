"""`marlin grid`: carbon intensity of electricity by zone and hour."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from marlin.cli.console import AsJson, err, out, print_json

if TYPE_CHECKING:
    from marlin.grid.provider import GridValue
    from marlin.settings import Settings

__all__ = ["grid", "register"]

_BAR_CELLS = 24

grid = typer.Typer(help="Carbon intensity of electricity by zone and hour.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `marlin grid`."""
    app.add_typer(grid, name="grid", rich_help_panel="Results")


@grid.command()
def show(
    zone: Annotated[str, typer.Argument(help="Electricity Maps zone, such as DE or US-MIDA-PJM.")],
    hours: Annotated[
        int, typer.Option(min=1, max=24 * 366, help="Show so many hours, up to the present one.")
    ] = 24,
    forecast: Annotated[
        bool, typer.Option("--forecast", help="Show the hours ahead instead.")
    ] = False,
    provider: Annotated[
        str | None,
        typer.Option(
            help="Ask this one, also for memo values: electricitymaps, watttime, ukci, eia, entsoe "
            "or static. Unset: those of MARLIN_GRID__PROVIDER that footprints are counted with."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a zone's carbon intensity, hour by hour.

    Without MARLIN_GRID__PROVIDER these are yearly averages, without any network.

    Example: `marlin grid show DE --hours 6`
    """
    from marlin.cli.settings import load_settings

    values = asyncio.run(_values(zone, hours, forecast, provider, load_settings()))
    if as_json:
        print_json([_as_json(value) for value in values])
    elif values:
        out().print(_table(values))
    else:
        out().print(Text(f"No source knows zone {zone} in these hours: yearly averages stand in"))
    if not as_json and any(not value.is_headline for value in values):
        err().print("a memo: footprints are counted with average lifecycle values only")


async def _values(
    zone: str, hours: int, forecast: bool, provider: str | None, settings: Settings
) -> list[GridValue]:
    from marlin.grid.opening import open_grid, open_provider
    from marlin.grid.provider import hour_of

    now = hour_of(datetime.now(UTC))
    opened = open_grid(settings) if provider is None else open_provider(provider, settings)
    async with opened as source:
        if forecast:
            return await source.forecast(zone, now + timedelta(hours=hours))
        return await source.history(
            zone, now - timedelta(hours=hours - 1), now + timedelta(hours=1)
        )


def _as_json(value: GridValue) -> dict[str, object]:
    times = {"hour": value.hour.isoformat(), "fetched_at": value.fetched_at.isoformat()}
    return {**asdict(value), **times}


def _table(values: list[GridValue]) -> Table:
    largest = max(value.intensity_g_per_kwh for value in values) or 1.0
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("hour (UTC)", no_wrap=True)
    table.add_column("g/kWh", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, style="green")
    table.add_column("kind", no_wrap=True)
    table.add_column("source", style="dim", overflow="fold")
    for value in values:
        cells = round(_BAR_CELLS * value.intensity_g_per_kwh / largest)
        table.add_row(
            f"{value.hour:%Y-%m-%d %H:%M}",
            f"{value.intensity_g_per_kwh:.1f}",
            "▇" * cells,
            _kind(value),
            value.source,
        )
    return table


def _kind(value: GridValue) -> Text:
    words: list[str] = [value.estimate if value.tier == "hour" else _AVERAGES[value.tier]]
    if value.signal != "average":
        words.append(value.signal)
    if value.basis != "lifecycle":
        words.append(value.basis)
    return Text(", ".join(words), style="" if value.is_headline else "yellow")


_AVERAGES = {
    "year": "the zone's yearly average",
    "country": "the country's yearly average",
    "world": "the world's yearly average",
}
