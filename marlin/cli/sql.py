"""`marlin sql`: a query on the database, beside the running pipeline or without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from marlin.cli.console import AsJson
from marlin.cli.sql_result import Mode, most_rows, print_result

__all__ = ["register"]


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

    Queries only read. `SHOW TABLES` and `DESCRIBE runs` tell what there is. On a terminal, without
    a query, a prompt with history and completion opens.

    Example: `marlin sql "SELECT model, sum(carbon_g) FROM events GROUP BY model"`
    """
    from marlin.cli.settings import load_settings
    from marlin.query import query

    if as_json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")
    settings = load_settings()
    if database is not None:
        sink = settings.sink.model_copy(update={"database": database, "lake_catalog": None})
        settings = settings.model_copy(update={"sink": sink})
    mode: Mode = "json" if as_json else "csv" if as_csv else "table"
    if statement is None and file is None and sys.stdin.isatty():
        from marlin.cli.sql_prompt import Prompt

        Prompt(settings, mode).run()
        return
    result = query(_statement(statement, file), settings=settings, max_rows=most_rows(mode))
    print_result(result, mode)


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
