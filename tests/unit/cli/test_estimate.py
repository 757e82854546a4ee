"""`marlin estimate` and `marlin models`: what they print, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from marlin.cli import estimate as command
from marlin.cli.estimate import BAR_CELLS, bars, parse_task_tokens
from marlin.errors import EstimationError
from marlin.estimation import Range, estimate, shipped_factor_set

APP = typer.Typer()
command.register(APP)


def run(*words: str) -> Result:
    return CliRunner().invoke(APP, words)


def read(*words: str) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_json_is_the_estimate() -> None:
    found = read(
        "estimate",
        "gpt-4o",
        "--provider",
        "openai",
        "--region",
        "us-east-1",
        "--input-tokens",
        "700",
        "--cache-read-tokens",
        "300",
        "--output-tokens",
        "200",
    )
    one = estimate(
        "gpt-4o",
        provider="openai",
        region="us-east-1",
        input_tokens=700,
        cache_read_tokens=300,
        output_tokens=200,
    )
    assert found["energy_wh"] == one.energy_wh.central
    assert found["carbon_g_low"] == one.carbon_g.low
    assert found["water_ml_high"] == one.water_ml.high
    assert found["codes"] == list(one.codes)
    assert found["factors"] == shipped_factor_set().version


def test_people_read_ranges_and_reasons() -> None:
    result = run("estimate", "nobody-knows-this")
    assert result.exit_code == 0
    assert "carbon, operational" in result.stdout
    assert "the name is not in the catalogue" in result.stdout


def test_explain_prints_the_derivation() -> None:
    result = run("estimate", "gpt-4o", "--region", "FR", "--explain")
    assert "per output token" in result.stdout
    assert "52.87" in result.stdout
    steps = read("estimate", "gpt-4o", "--explain")["steps"]
    assert {"part", "name", "value", "unit", "source", "low", "high"} == set(steps[0])


def test_a_known_operating_point() -> None:
    point = ["--hardware", "B200", "--gpus", "2", "--batch", "64", "--precision", "bf16"]
    found = read("estimate", "llama-3.1-70b", *point)
    assert not {"hardware_assumed", "batch_unknown"} & set(found["codes"])


@pytest.mark.parametrize("option", ["--input-tokens", "--output-tokens"])
def test_negative_tokens_are_wrong_usage(option: str) -> None:
    assert run("estimate", "gpt-4o", option, "-1").exit_code == 2


def test_a_file_of_own_factors(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        '[models.acme]\nactive_params_b = 3\nsource = "s"\ndate = "2026"\nlicence = "own"\n'
    )
    found = read("estimate", "acme", "--factors", str(path))
    assert "model_unknown" not in found["codes"]
    assert found["factors"].startswith(f"{shipped_factor_set().version}+")
    missing = run("estimate", "acme", "--factors", str(tmp_path / "none.toml"))
    assert isinstance(missing.exception, EstimationError)


def test_models_lists_the_catalogue() -> None:
    assert len(read("models")) == len(shipped_factor_set().models)
    found = read("models", "llama", "70b")
    assert {"llama-3.1-70b", "llama-3.3-70b"} <= {spec["name"] for spec in found}
    assert all("70b" in json.dumps(spec).lower() for spec in found)


def test_models_for_people() -> None:
    result = run("models", "mistral-large-2407")
    assert "mistral-large-2407" in result.stdout
    assert "retired" in result.stdout
    assert "models: 1" in result.stderr


def test_comparing_classes() -> None:
    names = ["small-7b", "medium-13b", "large-70b"]
    found = read("models", "--compare", *names, "--task-tokens", "2000:800")
    assert [one["model"] for one in found] == names
    energies = [one["energy_wh"] for one in found]
    assert energies == sorted(energies)
    assert found[0]["energy_wh"] == (
        estimate("small-7b", input_tokens=2000, output_tokens=800).energy_wh.central
    )


def test_the_comparison_is_drawn() -> None:
    result = run("models", "--compare", "small-7b", "large-70b")
    lines = [line for line in result.stdout.splitlines() if "█" in line and "─" in line]
    small, large = (line for line in lines if line.startswith(("small-7b", "large-70b")))
    assert small.index("█") < large.index("█")


def test_comparing_nothing_is_wrong_usage() -> None:
    assert run("models", "--compare").exit_code == 2


@pytest.mark.parametrize(
    ("text", "tokens"), [("1000:500", (1000, 500)), ("0:1", (0, 1)), ("1500", (1000, 500))]
)
def test_task_tokens(text: str, tokens: tuple[int, int]) -> None:
    assert parse_task_tokens(text) == tokens


@pytest.mark.parametrize("text", ["", "x", "1:", ":1", "-1:5", "1:2:3", "-7", "1.5"])
def test_unreadable_task_tokens(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="INPUT:OUTPUT"):
        parse_task_tokens(text)


def test_bars_share_one_logarithmic_axis() -> None:
    lines = bars({"a": Range(1, 10, 100), "b": Range(100, 1000, 10_000)})
    assert {len(line) for line in lines.values()} == {BAR_CELLS}
    # 1 to 10 000 over 40 cells: a decade is ten cells.
    assert lines["a"] == "─" * 10 + "█" + "─" * 10 + " " * 19
    assert lines["b"] == " " * 20 + "─" * 10 + "█" + "─" * 9


def test_bars_of_nothing_are_blank() -> None:
    assert bars({"a": Range(0, 0, 0)}) == {"a": " " * BAR_CELLS}
    assert bars({}) == {}
