"""`marlin route`: where, when and with which model a job costs the climate least."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table
from rich.text import Text

from marlin.cli.console import AsJson, out, print_json
from marlin.cli.estimate import parse_task_tokens
from marlin.cli.figures import amount, grams
from marlin.routing import CarbonAwareRouter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from marlin.routing import ModelChoice, RegionChoice, Strategy
    from marlin.settings import Settings

__all__ = ["register", "route"]

_FORMATS = ["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d"]


def register(app: typer.Typer) -> None:
    """Add `marlin route`."""
    app.command(rich_help_panel="Estimation")(route)


def route(
    regions: Annotated[
        list[str],
        typer.Argument(help="Candidates: `eu-west-1`, `gcp:europe-west1`, a grid zone, a country."),
    ],
    strategy: Annotated[
        str, typer.Option(help="`lowest_carbon`, `lowest_water` or `balanced`.")
    ] = "lowest_carbon",
    weight: Annotated[
        list[str] | None,
        typer.Option(
            help="Of `balanced`: `carbon=0.5`, `water=…`, `water_stress=…`, `latency=…`.",
            show_default=False,
        ),
    ] = None,
    latency: Annotated[
        list[str] | None,
        typer.Option(help="As you measured it [ms]: `eu-west-1=20`.", show_default=False),
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(min=0, help="Leave out what is farther.", show_default=False)
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(formats=_FORMATS, help="When it may start (UTC); now.", show_default=False),
    ] = None,
    deadline: Annotated[
        datetime | None,
        typer.Option(
            formats=_FORMATS,
            help="When it must have ended (UTC): a later, cleaner hour may be chosen.",
            show_default=False,
        ),
    ] = None,
    duration_h: Annotated[int, typer.Option(min=1, help="Hours that it takes.")] = 1,
    provider: Annotated[
        str | None,
        typer.Option(
            help="Ask this grid source, also a marginal one: electricitymaps, watttime, ukci, eia, "
            "entsoe. Unset: those of MARLIN_GRID__PROVIDER.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Candidate models, in order of preference: choose one too.", show_default=False
        ),
    ] = None,
    task_tokens: Annotated[str, typer.Option(help="The task: `INPUT:OUTPUT` tokens.")] = "1000:500",
    budget_g: Annotated[
        float | None,
        typer.Option(min=0, help="The task's budget [gCO2e].", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Choose the region, the hour and the model for a job.

    Compares yearly averages, or the hours that the configured grid source knows
    (`MARLIN_GRID__PROVIDER`).

    Example: `marlin route us-east-1 eu-west-1 us-west-2 --strategy balanced`
    """
    from marlin.cli.settings import load_settings
    from marlin.routing import select_model

    if budget_g is not None and not model:
        raise typer.BadParameter("a budget is for choosing a model: give --model too")
    asked = partial(
        CarbonAwareRouter.aselect_region,
        candidates=regions,
        strategy=cast("Strategy", strategy),  # checked by the router, which says what it knows
        weights=_numbers(weight, "--weight"),
        max_latency_ms=max_latency_ms,
        at=at,
        deadline=deadline,
        duration_h=duration_h,
    )
    latencies = _numbers(latency, "--latency") or {}
    chosen = asyncio.run(_chosen(asked, latencies, provider, load_settings()))
    picked = None
    if model:
        cloud, _, region = chosen.region.rpartition(":")
        input_tokens, output_tokens = parse_task_tokens(task_tokens)
        picked = select_model(
            model,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            budget_g=budget_g,
            provider=cloud,
            region=region,
        )
    if as_json:
        print_json({**asdict(chosen), "model": asdict(picked) if picked else None})
        return
    _print_regions(chosen)
    if picked:
        _print_models(picked)


async def _chosen(
    asked: Callable[[CarbonAwareRouter], Awaitable[RegionChoice]],
    latency_ms: dict[str, float],
    provider: str | None,
    settings: Settings,
) -> RegionChoice:
    """What is asked of a router that has the source to use open; none: yearly averages."""
    if provider is None and not settings.grid.provider:
        return await asked(CarbonAwareRouter(latency_ms=latency_ms))
    from marlin.grid.opening import open_grid, open_provider

    async with open_provider(provider, settings) if provider else open_grid(settings) as grid:
        return await asked(CarbonAwareRouter(grid=grid, latency_ms=latency_ms))


def _numbers(pairs: Sequence[str] | None, option: str) -> dict[str, float] | None:
    """`name=number` pairs; raises `typer.BadParameter` on anything else."""
    if not pairs:
        return None
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.rpartition("=")
        try:
            found[name] = float(text)
        except ValueError:
            name = ""
        if not name:
            raise typer.BadParameter(f"{pair!r} is not NAME=NUMBER", param_hint=option)
    return found


def _print_regions(chosen: RegionChoice) -> None:
    headings = ["region", "g/kWh grid", "PUE", "g/kWh IT", "L/kWh IT", "water stress"]
    options = (chosen, *chosen.alternatives)
    if any(one.latency_ms is not None for one in options):
        headings.append("latency")
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for column in (*table.columns[1:5], *table.columns[6:]):
        column.justify = "right"
    for one in options:
        cells = (
            Text(one.region, style="bold green" if one is chosen else ""),
            amount(one.carbon_intensity_g_kwh),
            f"{one.pue:.2f}",
            amount(one.carbon_g_per_it_kwh),
            amount(one.water_l_per_it_kwh),
            one.water_stress_class or "unknown",
            "unknown" if one.latency_ms is None else f"{one.latency_ms:g} ms",
        )
        table.add_row(*cells[: len(headings)])
    out().print(table)
    _print_reasons(chosen.region, chosen.reasons)
    out().print(Text(f"grid: {chosen.carbon_source}", style="dim"), soft_wrap=True)


def _print_models(picked: ModelChoice) -> None:
    table = Table("model", "central", "low", "high", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for one in (picked, *picked.alternatives):
        carbon = one.carbon_g
        table.add_row(
            Text(one.model, style="bold green" if one is picked else ""),
            *map(grams, (carbon.central, carbon.low, carbon.high)),
        )
    out().print()
    out().print(table)
    _print_reasons(picked.model, picked.reasons)


def _print_reasons(name: str, reasons: Sequence[str]) -> None:
    out().print()
    out().print(Text(name, style="bold green"))
    for reason in reasons:
        out().print(Text(f"  {reason}"), soft_wrap=True)
