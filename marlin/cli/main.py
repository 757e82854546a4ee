"""The commands put together, and how their errors end."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import marlin
from marlin.cli import (
    abort,
    demo,
    doctor,
    estimate,
    gateway,
    grid,
    grid_publish,
    ledger,
    rebuild,
    replay,
    report,
    restate,
    route,
    runs,
    service,
    sql,
    topics,
    up,
)
from marlin.cli.console import print_error
from marlin.errors import MarlinError

__all__ = ["app"]


class _Commands(TyperGroup):
    """Turns every error that Marlin raises on purpose into a message and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MarlinError as exc:
            print_error(str(exc))
            raise typer.Exit(1) from exc


app = typer.Typer(
    cls=_Commands,
    help="Real-time carbon metering and budgets for AI agents.",
    epilog="Try `marlin demo`, or `marlin up` and then `marlin replay` in another terminal.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # A traceback with the values of local variables could print a password.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"marlin {marlin.__version__}")
        raise typer.Exit


@app.callback()
def _main(  # pyright: ignore[reportUnusedFunction]  # typer calls it
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    # Libraries log; commands report. Without a handler, Python prints warnings to stderr.
    logging.getLogger().addHandler(logging.NullHandler())


for _module in (
    demo,
    up,
    replay,
    runs,
    abort,
    sql,
    report,
    restate,
    estimate,
    route,
    service,
    gateway,
    grid,
    grid_publish,
    topics,
    doctor,
    rebuild,
    ledger,
):
    _module.register(app)
