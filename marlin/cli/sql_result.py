"""A query's result on a terminal, as a table, or for programs."""

from __future__ import annotations

import csv
import json
import re
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rich.table import Table
from rich.text import Text

from marlin.cli.console import out

if TYPE_CHECKING:
    from marlin.query import Result

__all__ = ["Mode", "most_rows", "print_result"]

Mode: TypeAlias = Literal["table", "csv", "json"]

_SHOWN_ROWS = 1000
"""Most rows that are printed for people; programs get all."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def most_rows(mode: Mode) -> int | None:
    """How many rows are worth asking for; None: all."""
    return _SHOWN_ROWS if mode == "table" else None


def print_result(result: Result, mode: Mode) -> None:
    """To stdout; that rows were left out is told, to programs on stderr."""
    if mode == "json":
        print(result.to_json(), flush=True)
    elif mode == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(result.columns)
        for row in json.loads(result.to_json()):
            writer.writerow([_csv_cell(value) for value in row.values()])
    else:
        _print_table(result)
    if result.truncated and mode != "table":
        print(
            f"only the first {len(result.rows)} rows (MARLIN_SINK__QUERY_MAX_ROWS)",
            file=sys.stderr,
        )


def _print_table(result: Result) -> None:
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
    # Shown, not obeyed: text of events may hold sequences that steer the terminal.
    return Text(_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", str(value)))
