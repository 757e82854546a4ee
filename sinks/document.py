"""Writes `docs/sql.md`: every view, table, column and macro with its comment, and examples.

`python -m marlin.sinks.document` writes the page, `--check` only tells whether it is what the
migrations say (exit code 1 when not).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb

from marlin.errors import SinkError
from marlin.sinks.examples import Example, example_queries
from marlin.sinks.migrations import migrate

__all__ = ["PAGE", "main", "page", "page_of"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "sql.md"
"""Where the page is, in a checkout."""

_INTRODUCTION = """\
# The database

<!-- Written by `make docs` from the comments in sinks/sql: change them, not this page. -->

The sink keeps everything in one DuckDB file. Ask it with `marlin sql`, whether the pipeline runs
or not; queries only read, and never stop the sink. From Python, `marlin.query.query` does the same.

```sh
marlin sql "SELECT model, calls, carbon_g_per_call FROM model_comparison"
marlin sql --csv "FROM daily_footprint ORDER BY day"
```

- **Start with the views.** They are made for people: units of a report, ranges, names of tenants
  and projects. They read aggregates, never the ledger, so they stay fast however long it gets.
- **`events` is the ledger**: one row per model call, never updated. `runs`, `agents`, `hourly` and
  `daily` are its sums, kept up to date in the transaction that adds the rows, and they stay when
  old events are removed (`marlin ledger trim`, table `ledger_removals`).
- **Every amount is a range**: the plain name is the central estimate, `_low` and `_high` are the
  ends. Units are in the names: `_wh`, `_kwh`, `_g`, `_kg`, `_t` (CO2e), `_ml`, `_l`, `_usd`, `_s`.
- **Times are UTC**; days and months begin at midnight UTC.
- **NULL** means that nobody told, never zero. Carbon is operational and location-based; `embodied`
  is apart, and only `total` has both.
- **History does not change.** Each row names its `method` and `factors`; a restatement is rows of
  its own (`restatements`, `adjustments`) beside what was recorded.
"""


class _Column(NamedTuple):
    name: str
    kind: str
    comment: str


class _Relation(NamedTuple):
    name: str
    comment: str
    columns: tuple[_Column, ...]


class _Macro(NamedTuple):
    name: str
    parameters: tuple[str, ...]
    comment: str


def page() -> str:
    """The page for a database that was migrated just now, and the examples."""
    with duckdb.connect() as connection:
        migrate(connection)
        return page_of(connection, example_queries())


def page_of(connection: duckdb.DuckDBPyConnection, examples: Sequence[Example]) -> str:
    """The page for this database. Raises `SinkError` naming whatever has no comment."""
    views, tables = _relations(connection, "view"), _relations(connection, "table")
    macros = _macros(connection)
    _refuse_silence(views + tables, macros)
    parts = [
        _INTRODUCTION,
        _contents(views, tables),
        "## Views\n",
        *(_section(view) for view in views),
        "## Tables\n",
        *(_section(table) for table in tables),
        "## Macros\n",
        *(f"`{one.name}({', '.join(one.parameters)})`: {one.comment}\n" for one in macros),
        "## Examples\n",
        *(f"### {one.title}\n\n{one.about}\n\n```sql\n{one.sql};\n```\n" for one in examples),
    ]
    return "\n".join(parts)


def _relations(connection: duckdb.DuckDBPyConnection, kind: str) -> list[_Relation]:
    """Views or tables in the order in which migrations made them."""
    found = connection.execute(
        f"SELECT {kind}_name, comment FROM duckdb_{kind}s() WHERE NOT internal ORDER BY {kind}_oid"
    ).fetchall()
    return [_Relation(name, comment, _columns(connection, name)) for name, comment in found]


def _columns(connection: duckdb.DuckDBPyConnection, relation: str) -> tuple[_Column, ...]:
    found = connection.execute(
        "SELECT column_name, data_type, comment FROM duckdb_columns() "
        "WHERE table_name = ? AND NOT internal ORDER BY column_index",
        [relation],
    ).fetchall()
    return tuple(_Column(*row) for row in found)


def _macros(connection: duckdb.DuckDBPyConnection) -> list[_Macro]:
    found = connection.execute(
        "SELECT function_name, parameters, comment FROM duckdb_functions() "
        "WHERE NOT internal AND function_type LIKE '%macro' ORDER BY ALL"
    ).fetchall()
    return [_Macro(name, tuple(parameters), comment) for name, parameters, comment in found]


def _refuse_silence(relations: Sequence[_Relation], macros: Sequence[_Macro]) -> None:
    silent = [one.name for one in relations if not one.comment]
    silent += [one.name for one in macros if not one.comment]
    silent += [
        f"{one.name}.{column.name}"
        for one in relations
        for column in one.columns
        if not column.comment
    ]
    if silent:
        raise SinkError(
            f"a comment is expected on everything in sinks/sql; none on: {', '.join(silent)}; "
            "nothing was written"
        )


def _contents(views: Sequence[_Relation], tables: Sequence[_Relation]) -> str:
    def links(relations: Sequence[_Relation]) -> str:
        return ", ".join(f"[`{one.name}`](#{one.name})" for one in relations)

    return (
        f"Views: {links(views)}.\n\nTables: {links(tables)}.\n\n"
        "[Macros](#macros), and [example queries](#examples).\n"
    )


def _section(relation: _Relation) -> str:
    rows = "\n".join(
        f"| `{column.name}` | {column.kind} | {_cell(column.comment)} |"
        for column in relation.columns
    )
    return (
        f"### {relation.name}\n\n{relation.comment}\n\n"
        f"| column | type | meaning |\n|---|---|---|\n{rows}\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: Sequence[str] | None = None, target: Path = PAGE) -> int:
    """Write the page, or check it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m marlin.sinks.document",
        description="Write docs/sql.md from the comments in sinks/sql.",
    )
    parser.add_argument("--check", action="store_true", help="only report whether it differs")
    only_check: bool = parser.parse_args(arguments).check
    expected = page()
    if not only_check:
        target.write_text(expected, encoding="utf-8")
        return 0
    if target.exists() and target.read_text(encoding="utf-8") == expected:
        return 0
    print(f"{target} is not what sinks/sql says; run `make docs`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
