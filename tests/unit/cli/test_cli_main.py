"""The command as a whole: help, errors, what it imports."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import marlin
from marlin.cli.main import app
from marlin.errors import QueryError

COMMANDS = (
    *("demo", "up", "replay", "runs", "abort", "sql", "estimate", "models", "worker", "sink"),
    "gateway",
    *("topics create", "topics list", "doctor", "rebuild"),
    *("report", "runs export"),
    *("grid show", "grid publish", "route", "restate", "ledger export", "ledger trim"),
)

HEAVY = ("aiokafka", "duckdb", "faust", "numpy", "pyarrow", "pydantic", "starlette", "uvicorn")


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.stdout) == (0, f"marlin {marlin.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})

    assert result.exit_code == 0
    assert re.search(rf"Example: .*marlin {command}\b", result.stdout)


def test_no_command_is_missing_here() -> None:
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})

    listed = re.findall(r"^│ ([a-z]+) ", result.stdout, flags=re.MULTILINE)
    assert set(listed) == {command.split()[0] for command in COMMANDS}


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["rnus"])

    assert result.exit_code == 2
    assert "Did you mean 'runs'" in result.stderr


def test_errors_of_ours_are_a_message_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise QueryError("the table [bold]x[/] is missing; nothing was changed")

    monkeypatch.setattr("marlin.query.query", fail)

    result = CliRunner().invoke(app, ["runs"])

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "error: the table [bold]x[/] is missing; nothing was changed\n"


@pytest.mark.parametrize("command", [["runs"], ["worker"], ["up"], ["topics", "list"]])
def test_invalid_settings_are_named_as_the_user_wrote_them(command: list[str]) -> None:
    wrong = {"MARLIN_KAFKA__PARTITIONS": "none", "MARLIN_SINK__BATCH_RECORDS": "0"}

    result = CliRunner().invoke(app, command, env=wrong)

    assert result.exit_code == 1
    assert "MARLIN_KAFKA__PARTITIONS: Input should be a valid integer" in result.stderr
    assert "MARLIN_SINK__BATCH_RECORDS: Input should be greater" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["worker"],
        ["sink"],
        ["gateway"],
        ["topics", "create"],
        ["topics", "list"],
        ["abort", "run-1"],
    ],
)
def test_without_a_cluster_commands_say_how_to_get_one(command: list[str]) -> None:
    result = CliRunner().invoke(app, command)

    assert result.exit_code == 1
    assert "no Kafka cluster: start one with `marlin up`" in result.stderr


def test_a_command_that_nothing_can_carry_is_refused_before_kafka_is_asked() -> None:
    result = CliRunner().invoke(app, ["abort", "r" * 257])

    assert result.exit_code == 1
    assert "nothing was sent: run_id: String should have at most 256" in result.stderr


def test_without_its_libraries_the_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from marlin.cli import run; run()"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == "pip install 'marlin-carbon[pipeline]'\n"


def test_a_missing_module_of_ours_is_not_taken_for_a_missing_library() -> None:
    code = "import sys; sys.modules['marlin.cli.up'] = None; from marlin.cli import run; run()"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "ModuleNotFoundError" in done.stderr


def test_help_costs_no_heavy_import() -> None:
    code = f"import sys, marlin.cli.main; print([m for m in {HEAVY} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
