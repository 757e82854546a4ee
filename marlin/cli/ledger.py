"""`marlin ledger`: the ledger as Parquet files, and removing its old rows."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from marlin.cli.console import AsJson, err, out, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marlin.ledger import ExportedDay, TrimmedDay
    from marlin.settings import Settings

__all__ = ["register"]

_DAY = ["%Y-%m-%d"]
_Database = Annotated[
    Path | None,
    typer.Option(help="Another database than the configured one.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add `marlin ledger`."""
    ledger = typer.Typer(no_args_is_help=True)
    ledger.command("export")(export)
    ledger.command("trim")(trim)
    app.add_typer(
        ledger,
        name="ledger",
        help="Export the ledger as Parquet, and remove its old rows.",
        rich_help_panel="Operations",
    )


def export(
    directory: Annotated[Path, typer.Argument(help="Folder to write to.", show_default=False)],
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=_DAY, help="First day (UTC). Unset: the oldest."),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option("--to", formats=_DAY, help="Last day (UTC), inclusive. Unset: yesterday."),
    ] = None,
    remove: Annotated[
        bool,
        typer.Option("--trim", help="Then remove from the database what is in the files."),
    ] = False,
    database: _Database = None,
    as_json: AsJson = False,
) -> None:
    """Write the ledger as Parquet files, a folder a day, while the pipeline runs or not.

    Whole days only. Exported again, a day gets a further file with what came since: each event is
    in the folder once, and `read_parquet('DIR/*/*.parquet')` reads all of them.

    Example: `marlin ledger export exports/ledger --from 2026-05-01 --to 2026-05-31`
    """
    from marlin.ledger import export_parquet

    def told(day: ExportedDay) -> None:
        if not as_json:
            err().print(Text(f"{day.day}: {day.rows:,} rows"))

    days = export_parquet(
        directory,
        settings=_settings(database),
        first=_date(first),
        last=_date(last),
        trim=remove,
        progress=told,
    )
    if as_json:
        print_json(
            [
                {"day": one.day, "rows": one.rows, "file": one.file, "removed": one.removed}
                for one in days
            ]
        )
        return
    rows, removed = sum(one.rows for one in days), sum(one.removed for one in days)
    said = f"{rows:,} rows of {len(days)} days are now in {directory}"
    out().print(Text(f"{said}; {removed:,} were removed" if remove else said), soft_wrap=True)


def trim(
    before: Annotated[
        datetime,
        typer.Option(formats=_DAY, help="The first day (UTC) that is kept.", show_default=False),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    database: _Database = None,
    as_json: AsJson = False,
) -> None:
    """Remove calls and dead letters of old days; totals of runs, hours and days stay.

    What is removed cannot be restated or listed call by call any more: export it first. It is
    counted by day in the table ledger_removals.

    Example: `marlin ledger trim --before 2026-01-01 --dry-run`
    """
    from marlin import ledger

    settings, end = _settings(database), before.date()
    would_go = ledger.trim(end, settings=settings, dry_run=True)
    if not (dry_run or yes or not would_go):
        if as_json:
            raise typer.BadParameter("--json needs --yes or --dry-run: nobody can be asked")
        _print(would_go)
        typer.confirm("Remove these rows?", abort=True, err=True)
    days = would_go if dry_run else ledger.trim(end, settings=settings)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "days": [{"table": d.table, "day": str(d.day), "rows": d.rows} for d in days],
            }
        )
        return
    if dry_run:
        _print(days)
    total = sum(one.rows for one in days)
    verb = "would be" if dry_run else "were"
    out().print(Text(f"{total:,} rows before {end} {verb} removed"), soft_wrap=True)


def _print(days: Sequence[TrimmedDay]) -> None:
    table = Table("table", "day", "rows", box=None, header_style="bold", pad_edge=False)
    table.columns[2].justify = "right"
    for one in days:
        table.add_row(one.table, str(one.day), f"{one.rows:,}")
    out().print(table)


def _settings(database: Path | None) -> Settings:
    from marlin.cli.settings import load_settings

    settings = load_settings()
    if database is None:
        return settings
    sink = settings.sink.model_copy(update={"database": database})
    return settings.model_copy(update={"sink": sink})


def _date(day: datetime | None) -> date | None:
    return None if day is None else day.replace(tzinfo=UTC).date()
