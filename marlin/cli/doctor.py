"""`marlin doctor`: is everything well?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from marlin.cli.console import AsJson, err, out, print_json
from marlin.cli.loop import run_async

if TYPE_CHECKING:
    from marlin.doctor import Check
    from marlin.settings import Settings

__all__ = ["register"]

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}
_SHOWN_DETAILS = 20


def register(app: typer.Typer) -> None:
    """Add `marlin doctor`."""
    app.command(rich_help_panel="Operations")(doctor)


def doctor(
    fast: Annotated[
        bool, typer.Option("--fast", help="Do not compare the accounts run by run.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at everything: settings, broker, workers, sink, database, and whether all agree.

    Compares run by run what the workers' table, the carbon topic and the database have counted,
    also while they work. Changes nothing. Ends with 1 when something is wrong.

    Example: `marlin doctor --fast`
    """
    from marlin.cli.settings import load_settings

    checks = run_async(_examine(load_settings(), fast=fast, show=not as_json))
    failed = [check for check in checks if check.status == "fail"]
    if as_json:
        print_json({"ok": not failed, "checks": [check.to_dict() for check in checks]})
    if failed:
        raise typer.Exit(1)


async def _examine(settings: Settings, *, fast: bool, show: bool) -> list[Check]:
    from marlin.doctor import examine

    checks: list[Check] = []
    console = out()
    with err().status("looking …"):
        async for check in examine(settings, fast=fast):
            checks.append(check)
            if show:
                _print(console, check)
    return checks


def _print(console: Console, check: Check) -> None:
    console.print(
        Text.assemble(
            (f"{check.status:<5}", _STYLES[check.status]), (f"{check.name}: ", "bold"), check.text
        ),
        soft_wrap=True,
    )
    for line in check.details[:_SHOWN_DETAILS]:
        console.print(Text(f"     {line}", style="dim"), soft_wrap=True)
    if len(check.details) > _SHOWN_DETAILS:
        more = len(check.details) - _SHOWN_DETAILS
        console.print(Text(f"     and {more:,} more (all of them with --json)", style="dim"))
    if check.remedy:
        console.print(Text(f"     → {check.remedy}"), soft_wrap=True)
