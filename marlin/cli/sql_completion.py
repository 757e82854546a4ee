"""What the prompt of `marlin sql` offers while one types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from marlin.errors import MarlinError
from marlin.query import query
from marlin.settings import Settings

__all__ = ["Schema", "SqlCompleter", "read_schema"]

_COLUMNS = """
SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal ORDER BY table_name,
column_index"""
_KEYWORDS = "SELECT upper(keyword_name) FROM duckdb_keywords() ORDER BY 1"
_FUNCTIONS = (
    *("avg", "coalesce", "count", "date_trunc", "epoch", "first", "last", "list", "max", "median"),
    *("min", "quantile_cont", "round", "strftime", "string_agg", "sum"),
)
_WORD = re.compile(r"\w+$")
_TABLE_NEXT = re.compile(r"\b(?:from|join|describe|summarize)\s+\w*$", re.IGNORECASE)
_QUALIFIED = re.compile(r"(\w+)\.(\w*)$")
_ALIAS = r"\b{table}\s+(?:as\s+)?{alias}\b"


@dataclass(frozen=True)
class Schema:
    """The database's tables and views with their columns, and SQL's keywords."""

    tables: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    keywords: list[str] = field(default_factory=list[str])


def read_schema(settings: Settings) -> Schema:
    """What the database has now; nothing where there is none yet, or it cannot be asked."""
    tables: dict[str, list[str]] = {}
    with suppress(MarlinError):
        for table, column in query(_COLUMNS, settings=settings).rows:
            tables.setdefault(table, []).append(column)
        return Schema(tables, [word for (word,) in query(_KEYWORDS, settings=settings).rows])
    return Schema()


class SqlCompleter(Completer):
    """Columns of the tables that the statement names, tables, functions and keywords."""

    def __init__(self, schema: Schema, commands: Iterable[str]) -> None:
        self.schema = schema
        self._commands = list(commands)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """Those that begin with what was typed, likelier ones first."""
        before = document.text_before_cursor
        if before.startswith("."):
            yield from self._of_command(before)
            return
        qualified = _QUALIFIED.search(before)
        if qualified:
            columns = self._columns_of(qualified[1], document.text)
            yield from _offer(qualified[2], columns, "column")
            return
        found = _WORD.search(before)
        word = found[0] if found else ""
        if _TABLE_NEXT.search(before):
            yield from _offer(word, self.schema.tables, "table")
        elif word or complete_event.completion_requested:
            yield from _offer(word, self._columns_near(document.text), "column")
            yield from _offer(word, self.schema.tables, "table")
            yield from _offer(word, _FUNCTIONS, "function")
            yield from _offer(word, self.schema.keywords, "keyword")

    def _of_command(self, before: str) -> Iterator[Completion]:
        command, space, rest = before.partition(" ")
        if not space:
            yield from _offer(command, self._commands, "")
        elif command == ".schema":
            yield from _offer(rest, self.schema.tables, "table")
        elif command == ".mode":
            yield from _offer(rest, ("table", "csv", "json"), "")

    def _columns_near(self, text: str) -> list[str]:
        """Columns of the tables that the text names; of all while it names none."""
        words = set(re.findall(r"\w+", text.lower()))
        named = [table for table in self.schema.tables if table in words] or self.schema.tables
        return list(
            dict.fromkeys(column for table in named for column in self.schema.tables[table])
        )

    def _columns_of(self, name: str, text: str) -> list[str]:
        """Columns of the table of this name, or of the one that has it as alias."""
        for table, columns in self.schema.tables.items():
            aliased = re.search(_ALIAS.format(table=table, alias=name), text, re.IGNORECASE)
            if table == name or aliased:
                return columns
        return []


def _offer(word: str, names: Iterable[str], what: str) -> Iterator[Completion]:
    for name in names:
        if name.lower().startswith(word.lower()) and name != word:
            # A keyword is written as the word was begun.
            text = name.lower() if what == "keyword" and word.islower() else name
            yield Completion(text, start_position=-len(word), display_meta=what)
