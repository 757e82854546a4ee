"""`marlin grid publish`: hourly intensities onto Kafka, for the whole fleet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from marlin.cli.console import AsJson, out, print_json
from marlin.cli.grid import grid
from marlin.cli.service import LogLevel, LogLevelOption, ReadyFile, configure_logging, serve

if TYPE_CHECKING:
    from marlin.schemas import GridRecord
    from marlin.settings import Settings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `marlin grid publish`."""
    del app  # it is one of `marlin grid`
    grid.command()(publish)


def publish(
    once: Annotated[
        bool, typer.Option("--once", help="Ask every zone once, say what was told, and end.")
    ] = False,
    as_json: AsJson = False,
    log_level: LogLevelOption = LogLevel.INFO,
    ready_file: ReadyFile = None,
) -> None:
    """Publish the hourly carbon intensity of MARLIN_GRID__ZONES on marlin.grid.v1.

    Asks MARLIN_GRID__PROVIDER once for the whole fleet, every MARLIN_GRID__POLL_INTERVAL_S, until
    Ctrl-C. Several may run: what one has told, the others do not repeat. Only average life-cycle
    values are told, those that footprints are counted with.

    Example: `MARLIN_GRID__PROVIDER=electricitymaps MARLIN_GRID__ZONES=DE,IE marlin grid publish`
    """
    configure_logging(LogLevel.WARNING if once else log_level)
    from marlin.cli.settings import load_settings

    settings = load_settings()
    if not once:

        async def service(*, stop: asyncio.Event, ready: asyncio.Event) -> None:
            await _until(stop, settings, ready)

        serve("grid publisher", service, ready_file)
        return
    told = asyncio.run(_once(settings))
    if as_json:
        print_json([record.model_dump(mode="json") for record in told])
    else:
        out().print(_table(told) if told else "nothing new")


async def _until(stop: asyncio.Event, settings: Settings, ready: asyncio.Event) -> None:
    from marlin.grid.opening import open_grid
    from marlin.grid.publisher import run_publisher

    async with open_grid(settings) as provider:
        await run_publisher(settings, provider, stop=stop, ready=ready)


async def _once(settings: Settings) -> list[GridRecord]:
    from marlin.grid.opening import open_grid
    from marlin.grid.publisher import open_publisher

    async with open_grid(settings) as provider, open_publisher(settings, provider) as publisher:
        return await publisher.publish()


def _table(told: list[GridRecord]) -> Table:
    table = Table("zone", "hour (UTC)", "g/kWh", "revision", "estimate", "source", box=None)
    table.columns[2].justify = table.columns[3].justify = "right"
    for one in told:
        table.add_row(
            *(one.zone, f"{one.hour:%Y-%m-%d %H:%M}", f"{one.intensity_g_per_kwh:.1f}"),
            *(str(one.revision), one.estimate, one.source),
        )
    return table
