"""`marlin sql`: a query on the database, beside the running pipeline or without it."""

from __future__ import annotations

import csv
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from marlin.cli.console import AsJson, out

if TYPE_CHECKING:
    from marlin.query import Result

__all__ = ["register"]

_SHOWN_ROWS = 1000
"""Most rows that are printed for people; programs get all."""


def register(app: typer.Typer) -> None:
    """Add `marlin sql`."""
    app.command("sql", rich_help_panel="Results")(sql)


def sql(
    statement: Annotated[str | None, typer.Argument(help="One query.", show_default=False)] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Read the query from a file; - is stdin.")
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    database: Annotated[
        Path | None,
        typer.Option(help="Another database than the configured one.", show_default=False),
    ] = None,
) -> None:
    """Query the database with DuckDB's SQL, while the pipeline runs or when it does not.

    Queries only read. `SHOW TABLES` and `DESCRIBE runs` tell what there is.

    Example: `marlin sql "SELECT model, sum(carbon_g) FROM events GROUP BY model"`
    """
    from marlin.cli.settings import load_settings
    from marlin.query import query

    if as_json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")
    settings = load_settings()
    if database is not None:
        sink = settings.sink.model_copy(update={"database": database})
        settings = settings.model_copy(update={"sink": sink})
    for_people = not (as_json or as_csv)
    result = query(
        _statement(statement, file),
        settings=settings,
        max_rows=_SHOWN_ROWS if for_people else None,
    )
    if as_json:
        print(result.to_json(), flush=True)
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(result.columns)
        for row in json.loads(result.to_json()):
            writer.writerow([_csv_cell(value) for value in row.values()])
    else:
        _print(result)
    if result.truncated and not for_people:
        print(
            f"only the first {len(result.rows)} rows (MARLIN_SINK__QUERY_MAX_ROWS)",
            file=sys.stderr,
        )


def _statement(statement: str | None, file: str | None) -> str:
    if (statement is None) == (file is None):
        raise typer.BadParameter("give one query, or --file FILE (- for stdin)")
    if statement is not None:
        return statement
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file or "").read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise typer.BadParameter(f"{file} cannot be read: {exc}") from exc


def _print(result: Result) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, kind in zip(result.columns, result.types, strict=True):
        # Text, not markup: names and values may contain brackets of their own.
        table.add_column(Text(name), justify="right" if _is_number(kind) else "left")
    for row in result.rows:
        table.add_row(*(_cell(value) for value in row))
    console = out()
    console.print(table)
    count = len(result.rows)
    footer = f"{count:,} row{'' if count == 1 else 's'} in {result.elapsed_s:.3f} s"
    if result.truncated:
        footer = f"the first {footer}; all of them with --json or --csv"
    console.print(Text(footer, style="dim"))


def _csv_cell(value: Any) -> Any:
    """Lists, objects and truth values as in JSON; NULL is empty."""
    if isinstance(value, (bool, list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return value


def _is_number(kind: str) -> bool:
    return kind.endswith(("INT", "INTEGER", "DOUBLE", "FLOAT")) or kind.startswith("DECIMAL")


def _cell(value: Any) -> Text:
    if value is None:
        return Text("NULL", style="dim")
    if isinstance(value, float):
        return Text(f"{value:.6g}")
    if isinstance(value, int) and not isinstance(value, bool):
        return Text(str(value))
    if isinstance(value, Decimal):
        return Text(f"{value:f}")
    return Text(str(value))
