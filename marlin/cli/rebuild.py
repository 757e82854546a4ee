"""`marlin rebuild`: the DuckDB file again, from the topics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from marlin.cli.console import AsJson, err, out, print_json
from marlin.cli.loop import run_async

if TYPE_CHECKING:
    from marlin.settings import Settings
    from marlin.sinks.rebuild import Rebuilt

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `marlin rebuild`."""
    app.command(rich_help_panel="Operations")(rebuild)


def rebuild(
    database: Annotated[
        Path | None,
        typer.Option(help="Another database than the configured one.", show_default=False),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Go on when the topics no longer hold everything, and replace a file kept before.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the database again from the topics, when it is lost, damaged or in doubt.

    Stop the sink first. The old file is kept beside the new one as FILE.before-rebuild. Refuses
    when the topics hold less than the old file has, because of retention or a new cluster.

    Example: `marlin rebuild --database carbon.duckdb`
    """
    from marlin.cli.settings import load_settings

    settings = load_settings()
    if database is not None:
        sink = settings.sink.model_copy(update={"database": database})
        settings = settings.model_copy(update={"sink": sink})
    rebuilt = run_async(_rebuild(settings, force=force))
    if as_json:
        print_json(
            {
                "database": settings.database_path,
                "kept": rebuilt.kept,
                "before": rebuilt.before.to_dict() if rebuilt.before else None,
                "after": rebuilt.after.to_dict(),
                "lost": list(rebuilt.lost),
            }
        )
    else:
        _print(rebuilt, settings.database_path)


async def _rebuild(settings: Settings, *, force: bool) -> Rebuilt:
    from marlin.sinks.rebuild import rebuild

    with Progress(
        TextColumn("reading the topics"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("records"),
        TimeRemainingColumn(),
        console=err(),
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None)

        def warn(text: str) -> None:
            bar.console.print(Text.assemble(("warning: ", "bold yellow"), text), soft_wrap=True)

        return await rebuild(
            settings,
            force=force,
            progress=lambda done, records: bar.update(task, completed=done, total=records),
            warn=warn,
        )


def _print(rebuilt: Rebuilt, database: Path) -> None:
    table = Table("", "before", "after", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    before = rebuilt.before.to_dict() if rebuilt.before else {}
    for name, value in rebuilt.after.to_dict().items():
        table.add_row(name, _figure(before.get(name)), _figure(value))
    console = out()
    console.print(table)
    console.print(Text(f"{database} is rebuilt"), soft_wrap=True)
    if rebuilt.kept:
        console.print(Text(f"the old one is {rebuilt.kept}"), soft_wrap=True)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6f}"
