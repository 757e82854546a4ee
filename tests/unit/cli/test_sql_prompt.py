"""The prompt of `marlin sql`, as it is typed into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from marlin.cli.sql_completion import Schema, SqlCompleter, read_schema
from marlin.cli.sql_prompt import Prompt, is_complete
from marlin.settings import Settings
from marlin.sinks.conformance import batch_of, carbon, identity
from marlin.sinks.duckdb_sink import DuckDBSink

CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path)
    with DuckDBSink(made.database_path) as sink:
        sink.bind(identity())
        sink.apply(batch_of(carbon(0, tenant="a\x1b[31mcme"), carbon(1, tenant=None)))
    return made


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    settings = Settings(home=tmp_path_factory.mktemp("schema"))
    DuckDBSink(settings.database_path).close()
    return read_schema(settings)


@pytest.fixture
def typed(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[str, str]]:
    """Types into a prompt until it is left; what it wrote to stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def type_in(text: str) -> tuple[str, str]:
        with create_pipe_input() as source:
            source.send_text(text)
            Prompt(settings, "table", source=source, screen=DummyOutput()).run()
        return capsys.readouterr()

    return type_in


Typed = Callable[[str], tuple[str, str]]


def test_a_query_may_take_several_lines(typed: Typed) -> None:
    told, _ = typed("SELECT tenant,\rseq\rFROM events ORDER BY seq;\r.quit\r")
    lines = [line.rstrip() for line in told.splitlines()]
    assert lines[1:4] == ["tenant        seq", "a\\x1b[31mcme    0", "NULL            1"]
    assert lines[4].startswith("2 rows in 0.")


def test_errors_are_shown_in_place_and_the_next_query_runs(typed: Typed) -> None:
    told, wrong = typed(f"SELECT nothing FROM events;\rDELETE FROM events;\rSELECT 42;\r{CTRL_D}")
    assert '"nothing" not found' in wrong
    assert "queries only read" in wrong
    assert "42" in told


def test_ctrl_c_drops_the_line(typed: Typed) -> None:
    told, wrong = typed(f"SELECT 'dropped{CTRL_C}SELECT 'kept';\r{CTRL_D}")
    assert "dropped" not in told + wrong
    assert "kept" in told


def test_commands(typed: Typed) -> None:
    told, wrong = typed(
        ".help\r.tables\r.schema budget_breaches;\r.schema nothing\r.mode json\r"
        "SELECT 1 AS n;\r.mode csv\rSELECT 1 AS n;\r.mode xml\r.nope\r\r;\r.quit\r"
    )
    assert ".schema NAME" in told
    assert "run_summary" in told
    assert "Budget of the run when it was issued [gCO2e]." in told
    assert told.endswith('[{"n": 1}]\nn\r\n1\r\n')
    assert [line.removeprefix("error: ")[:30] for line in wrong.splitlines()] == [
        *("expected .schema and one of ad", "expected .mode table, .mode cs"),
        "there is no .nope; .help lists",
    ]


def test_examples_are_shown_and_run(typed: Typed) -> None:
    told, wrong = typed(".examples\r.examples 1\r.examples 999\r.quit\r")
    assert "1  Footprint per day" in told
    assert "FROM daily_footprint" in told
    assert "1 row in" in told
    assert "expected .examples and a number up to" in wrong


def test_what_was_typed_is_remembered(typed: Typed, settings: Settings) -> None:
    typed("SELECT 7;\r.quit\r")
    up = "\x1b[A"
    told, _ = typed(f"{up}{up}\r.quit\r")
    assert "+SELECT 7;\n" in (settings.home_dir / "sql_history").read_text()
    assert "7\n1 row in" in told


def test_without_a_database_it_says_so_and_stays(tmp_path: Path, typed: Typed) -> None:
    (tmp_path / "marlin.duckdb").unlink()
    told, wrong = typed("SELECT 1;\r.schema runs\r.help\r.quit\r")
    assert "no database at" in wrong
    assert "no tables yet" in wrong
    assert ".help" in told


@pytest.mark.parametrize(
    ("text", "complete"),
    [("", True), (" \n", True), (".tables", True), ("SELECT 1", False), ("SELECT 1 ;\n ", True)],
)
def test_when_enter_runs_it(text: str, complete: bool) -> None:
    assert is_complete(text) == complete


@pytest.mark.parametrize(
    ("text", "offered", "not_offered"),
    [
        ("select * from run", {"runs", "run_summary"}, {"run_id"}),
        ("SEL", {"SELECT"}, {"select"}),
        ("sel", {"select"}, {"SELECT"}),
        ("select * from budget_breaches where over", {"over_g", "overshoot_ms"}, {"energy_wh"}),
        ("select e.carb from events e", set[str](), {"carbon_g"}),
        ("select * from events e where e.carb", {"carbon_g"}, {"carbon_budget_g"}),
        ("select * from events where events.carb", {"carbon_g"}, {"carbon_budget_g"}),
        ("select nothing.", set[str](), {"carbon_g"}),
        ("select cou", {"count"}, set[str]()),
        (".sch", {".schema"}, {"schema_versions"}),
        (".schema run_", {"run_summary"}, {"runs"}),
        (".mode ", {"table", "csv", "json"}, set[str]()),
        (".help ", set[str](), {".help"}),
    ],
)
def test_completion(schema: Schema, text: str, offered: set[str], not_offered: set[str]) -> None:
    completer = SqlCompleter(schema, [".schema", ".mode", ".help"])
    given = {one.text for one in completer.get_completions(Document(text), CompleteEvent())}
    assert offered <= given
    assert not not_offered & given
