"""The prompt of `marlin sql`: queries until Ctrl-D, with history, colours and completion."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.filters import completion_is_selected
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.history import FileHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import Output
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style
from pygments.lexers import get_lexer_by_name  # pyright: ignore[reportUnknownVariableType]
from rich.text import Text

from marlin.cli.console import out, print_error
from marlin.cli.sql_completion import SqlCompleter, read_schema
from marlin.cli.sql_result import Mode, most_rows, print_result
from marlin.errors import MarlinError
from marlin.query import query
from marlin.settings import Settings
from marlin.sinks.discovery import find_server
from marlin.sinks.examples import example_queries

__all__ = ["Prompt", "is_complete"]

_HELP = """\
.tables            the tables and views, and what they are for
.schema NAME       the columns of one, and what they mean
.examples [N]      queries to begin with, or run the N-th
.mode table|csv|json   how results are shown
.help              this
.quit              leave (Ctrl-D does too)
A query may take several lines and ends with ; Ctrl-C stops one that runs. Tab completes."""

_TABLES = """
SELECT table_name AS "table", 'table' AS kind, comment AS "what it is" FROM duckdb_tables()
WHERE NOT internal UNION ALL
SELECT view_name, 'view', comment FROM duckdb_views() WHERE NOT internal ORDER BY kind DESC, 1"""
_SCHEMA = """
SELECT column_name AS "column", data_type AS type, comment AS "what it is" FROM duckdb_columns()
WHERE table_name = ? ORDER BY column_index"""

_STYLE = Style.from_dict(
    {
        "prompt": "ansicyan bold",
        "continuation": "ansibrightblack",
        "bottom-toolbar": "noreverse ansibrightblack",
        "auto-suggestion": "ansibrightblack",
        "completion-menu.completion": "bg:ansibrightblack ansiwhite",
        "completion-menu.completion.current": "bg:ansicyan ansiblack",
        "completion-menu.meta.completion": "bg:ansibrightblack ansiwhite",
        "completion-menu.meta.completion.current": "bg:ansicyan ansiblack",
        "pygments.keyword": "ansiblue bold",
        "pygments.name.builtin": "ansimagenta",
        "pygments.literal.string": "ansigreen",
        "pygments.literal.number": "ansiyellow",
        "pygments.comment": "ansibrightblack italic",
    }
)


def is_complete(text: str) -> bool:
    """Whether Enter runs it: a command, nothing at all, or a query with its semicolon."""
    stripped = text.strip()
    return not stripped or stripped.startswith(".") or stripped.endswith(";")


class Prompt:
    """Reads and answers until the end of input. Errors are shown and end nothing."""

    def __init__(
        self,
        settings: Settings,
        mode: Mode,
        *,
        source: Input | None = None,
        screen: Output | None = None,
    ) -> None:
        self._settings = settings
        self._mode: Mode = mode
        self._commands: dict[str, Callable[[str], None]] = {
            ".tables": lambda _: self._answer(_TABLES),
            ".schema": self._describe,
            ".examples": self._examples,
            ".mode": self._set_mode,
            ".help": lambda _: out().print(Text(_HELP)),
        }
        self._completer = SqlCompleter(read_schema(settings), [*self._commands, ".quit"])
        settings.home_dir.mkdir(parents=True, exist_ok=True)
        self._session: PromptSession[str] = PromptSession(
            HTML("<prompt>marlin&gt;</prompt> "),
            prompt_continuation=HTML("<continuation>    ...</continuation> "),
            multiline=True,
            history=FileHistory(str(settings.home_dir / "sql_history")),
            auto_suggest=AutoSuggestFromHistory(),
            completer=self._completer,
            complete_style=CompleteStyle.COLUMN,
            lexer=PygmentsLexer(type(get_lexer_by_name("sql"))),
            key_bindings=_keys(),
            bottom_toolbar=self._toolbar,
            style=_STYLE,
            input=source,
            output=screen,
        )

    def run(self) -> None:
        """Until Ctrl-D or `.quit`."""
        out().print(Text("Queries end with ; and only read. .help tells more, Ctrl-D leaves."))
        while True:
            try:
                text = self._session.prompt().strip()
            except KeyboardInterrupt:
                continue  # the line is dropped, as a shell does
            except EOFError:
                return
            if text == ".quit":
                return
            try:
                self._do(text)
            except KeyboardInterrupt:
                print_error("stopped")
            except MarlinError as exc:
                print_error(str(exc))

    def _do(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        if name.startswith("."):
            command = self._commands.get(name.rstrip(";"))
            if command is None:
                print_error(f"there is no {name}; .help lists what there is")
            else:
                command(rest.strip().rstrip(";"))
        elif text.rstrip("; \n"):
            self._answer(text)

    def _answer(self, sql: str, params: list[str] | None = None) -> None:
        limit = most_rows(self._mode)
        result = query(sql, params, settings=self._settings, max_rows=limit)
        print_result(result, self._mode)
        if not self._completer.schema.tables:  # the database was made since
            self._completer.schema = read_schema(self._settings)

    def _describe(self, table: str) -> None:
        known = read_schema(self._settings).tables
        if table in known:
            self._answer(_SCHEMA, [table])
        else:
            print_error(f"expected .schema and one of {', '.join(known) or 'no tables yet'}")

    def _examples(self, number: str) -> None:
        examples = example_queries()
        if number.isdecimal() and 1 <= int(number) <= len(examples):
            chosen = examples[int(number) - 1]
            out().print(Text(f"{chosen.sql};\n", style="cyan"))
            self._answer(chosen.sql)
        elif number:
            print_error(f"expected .examples and a number up to {len(examples)}")
        else:
            for count, one in enumerate(examples, 1):
                title = (f"{count:>3}  ", "bold cyan"), (one.title, "bold"), f"\n     {one.about}"
                out().print(Text.assemble(*title))

    def _set_mode(self, mode: str) -> None:
        for known in get_args(Mode):
            if mode == known:
                self._mode = known
                return
        print_error("expected .mode table, .mode csv or .mode json")

    def _toolbar(self) -> str:
        owner = find_server(self._settings.database_path)
        who = f"asking the sink (process {owner.pid})" if owner else "no pipeline runs, file read"
        return f" {self._settings.database_path}   {who}   {self._mode}"


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=~completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @keys.add("enter", filter=completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        # Takes what is chosen in the menu; the next Enter goes on.
        event.current_buffer.complete_state = None

    return keys
