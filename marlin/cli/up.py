"""`marlin up`: the whole pipeline on one machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from marlin.cli.console import err, out
from marlin.cli.loop import on_signals, run_async, unless

if TYPE_CHECKING:
    from marlin.cli.pipeline import Pipeline
    from marlin.settings import Settings

__all__ = ["register"]

_KILLED = 130


def register(app: typer.Typer) -> None:
    """Add `marlin up`."""
    app.command(rich_help_panel="Start here")(up)


def up(
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open a browser window.")
    ] = False,
) -> None:
    """Run the whole pipeline here: Kafka, worker and DuckDB sink.

    Starts an embedded broker, unless MARLIN_KAFKA__BOOTSTRAP_SERVERS names a cluster. Other
    `marlin` commands and agents on this machine find it by themselves. Ctrl-C finishes what is
    under way and stops; a second Ctrl-C drops it.

    Example: `marlin up`
    """
    from marlin.cli.pipeline import only_one
    from marlin.cli.settings import load_settings

    settings = load_settings()
    with only_one(settings.home_dir, "up"):
        if not run_async(_up(settings)):
            raise typer.Exit(_KILLED)


async def _up(settings: Settings) -> bool:
    """Run until asked to stop; False when asked twice."""
    from marlin.broker.running import announced
    from marlin.cli.pipeline import Pipeline

    stop, drop = asyncio.Event(), asyncio.Event()

    def on_signal(received: int) -> None:
        stop.set()
        if received == 2:
            drop.set()
        elif received > 2:
            os._exit(_KILLED)

    with on_signals(on_signal):
        async with Pipeline(settings, say=_say) as pipeline:
            with err().status("Starting Kafka, worker and sink …"):
                started = await unless(stop, pipeline.start())
            if not started:
                _say("stopped before everything had started")
                return True
            with announced(pipeline.home, pipeline.bootstrap_servers):
                out().print(_welcome(pipeline))
                await pipeline.watch(stop)
            _say("stopping …")
            if not await unless(drop, pipeline.stop()):
                _say("stopped at once; what was under way is dropped")
                return False
        _say(f"stopped; everything is in {_shown(settings.database_path)}")
        return True


def _say(message: str) -> None:
    err().print(Text(message), style="dim", soft_wrap=True)


def _welcome(pipeline: Pipeline) -> Group:
    where = Table.grid(padding=(0, 2))
    where.add_column(style="bold")
    embedded = " (embedded, in memory)" if pipeline.embedded else ""
    where.add_row("Kafka", f"{pipeline.bootstrap_servers}{embedded}")
    where.add_row("DuckDB", _shown(pipeline.settings.database_path))
    where.add_row("Logs", _shown(pipeline.logs))
    again = Table.grid(padding=(0, 2))
    again.add_column(style="cyan", no_wrap=True)
    again.add_column(style="dim")
    again.add_row("marlin replay trace.csv --model gpt-4o --region fr", "feed a recorded trace")
    again.add_row("marlin runs", "see what runs spend")
    again.add_row('marlin sql "SELECT count(*) FROM events"', "ask anything")
    again.add_row("marlin abort RUN", "stop a run")
    return Group(
        Panel(where, title="Marlin is up", title_align="left", border_style="green", expand=False),
        Text("In another terminal:", style="bold"),
        again,
        Text("Ctrl-C here stops everything, with nothing lost.", style="dim"),
    )


def _shown(path: Path) -> str:
    """The path as a person would write it."""
    absolute = path.absolute()
    home = Path.home()
    return f"~/{absolute.relative_to(home)}" if absolute.is_relative_to(home) else str(absolute)
