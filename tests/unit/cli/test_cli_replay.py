"""`marlin replay` on the command line: what is refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from marlin.cli.main import app

ROW = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 12:00:00,7,8\n"
CALLS = ("--model", "gpt-4o", "--region", "fr")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(ROW)
    return path


def invoke(*args: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["replay", *map(str, args)], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--region", "fr"), "--model"),
        (("--model", "gpt-4o"), "--region"),
        ((*CALLS, "--speed", "0"), "--speed"),
        ((*CALLS, "--speed", "-1"), "--speed"),
        ((*CALLS, "--speed", "nan"), "--speed"),
        ((*CALLS, "--speed", "inf"), "--speed"),
        ((*CALLS, "--speed", "fast"), "--speed"),
        ((*CALLS, "--runs", "0"), "--runs"),
        ((*CALLS, "--agents", "0"), "--agents"),
        ((*CALLS, "--limit", "0"), "--limit"),
    ],
)
def test_wrong_usage_names_the_option(trace: Path, options: tuple[str, ...], named: str) -> None:
    exit_code, stdout, stderr = invoke(trace, *options)

    assert (exit_code, stdout) == (2, "")
    assert named in stderr


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_cannot_be_read_is_wrong_usage(tmp_path: Path, name: str) -> None:
    assert invoke(tmp_path / name, *CALLS)[0] == 2


def test_no_file_is_wrong_usage() -> None:
    assert invoke(*CALLS)[0] == 2


def test_a_wrong_header_in_any_file_stops_before_the_cluster_is_asked(
    trace: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text("time,tokens\n1,2\n")

    exit_code, stdout, stderr = invoke(trace, other, *CALLS)

    assert (exit_code, stdout) == (1, "")
    assert f"{other}: the trace needs each of the columns" in stderr


def test_without_a_cluster_it_says_how_to_get_one(trace: Path) -> None:
    exit_code, stdout, stderr = invoke(trace, *CALLS)

    assert (exit_code, stdout) == (1, "")
    assert "no Kafka cluster: start one with `marlin up`" in stderr


def test_a_model_that_no_event_can_carry_is_an_error(trace: Path) -> None:
    exit_code, _, stderr = invoke(trace, "--model", "m" * 257, "--region", "fr")

    assert exit_code == 1
    assert "model: String should have at most 256 characters" in stderr
