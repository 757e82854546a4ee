"""`marlin route`, as typed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from grid_api import TOKEN, Reply, running_api
from typer.testing import CliRunner

from marlin.cli.main import app

LAB = ["us-east-1", "eu-west-1", "ap-southeast-1", "us-west-2"]


def route(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["route", *args])
    return result.exit_code, result.stdout, result.stderr


def test_the_chosen_region_stands_first_with_its_reasons() -> None:
    code, stdout, _ = route(*LAB)

    rows = [line.split()[0] for line in stdout.splitlines() if line]
    assert code == 0
    assert rows[:5] == ["region", "us-west-2", "eu-west-1", "us-east-1", "ap-southeast-1"]
    assert "79% less carbon than ap-southeast-1" in stdout
    assert "latency" not in stdout


def test_json_has_every_figure_and_the_alternatives() -> None:
    code, stdout, _ = route(*LAB, "--strategy", "lowest_water", "--json")

    found = json.loads(stdout)
    assert code == 0
    assert (found["region"], found["carbon_intensity_g_kwh"]) == ("eu-west-1", 403.4)
    assert found["water_l_per_kwh"] == 1.4769
    assert len(found["alternatives"]) == 3
    assert found["model"] is None


def test_weights_and_latencies_are_name_and_number() -> None:
    options = ["--strategy", "balanced", "--weight", "carbon=1", "--weight", "latency=50"]
    options += ["--latency", "us-east-1=5", "--latency", "us-west-2=80"]
    code, stdout, _ = route("us-east-1", "us-west-2", *options)

    assert code == 0
    assert stdout.splitlines()[1].split()[0] == "us-east-1"
    assert "5 ms" in stdout


def test_a_model_is_chosen_for_the_chosen_region() -> None:
    options = ["--model", "large-70b", "--model", "small-7b", "--budget-g", "1e-9"]
    code, _, stderr = route("us-west-2", *options)
    assert code == 1
    assert "no candidate fits 1e-09 gCO2e: small-7b takes least" in " ".join(stderr.split())

    code, stdout, _ = route("us-west-2", "--model", "large-70b", "--model", "small-7b", "--json")
    assert code == 0
    assert json.loads(stdout)["model"]["model"] == "small-7b"


def test_a_configured_source_is_asked_for_its_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Well ahead, so that no hour passes under the test.
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=30)
    rows = [
        {"carbonIntensity": value, "datetime": (hour + timedelta(hours=number)).isoformat()}
        for number, value in enumerate((200, 40, 90))
    ]
    monkeypatch.setenv("MARLIN_HOME", str(tmp_path))
    monkeypatch.setenv("MARLIN_GRID__PROVIDER", "electricitymaps")
    monkeypatch.setenv("MARLIN_GRID__ELECTRICITYMAPS_TOKEN", TOKEN)
    with running_api() as api:
        monkeypatch.setenv("MARLIN_GRID__ELECTRICITYMAPS_URL", api.url)
        api.on("/carbon-intensity/forecast", Reply({"zone": "IE", "forecast": rows}))
        begin, end = hour.strftime("%Y-%m-%dT%H:%M"), hour + timedelta(hours=3)
        code, stdout, stderr = route(
            *("eu-west-1", "--at", begin, "--deadline", end.strftime("%Y-%m-%dT%H:%M"), "--json")
        )

    assert code == 0, stderr
    found = json.loads(stdout)
    assert found["carbon_intensity_g_kwh"] == 40
    assert found["start"] == str(hour + timedelta(hours=1))
    assert found["forecast_valid_until"] == str(end)
    assert api.requests[0].query["zone"] == ["IE"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["us-esat-1"], 1, "did you mean us-west-1 or us-east-1"),
        (["us-east-1", "--strategy", "cheapest"], 1, "strategy 'cheapest' is unknown"),
        (["us-east-1", "--weight", "carbon"], 2, "'carbon' is not NAME=NUMBER"),
        (["us-east-1", "--latency", "=5"], 2, "'=5' is not NAME=NUMBER"),
        (["us-east-1", "--budget-g", "1"], 2, "give --model too"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_answered_says_why(args: list[str], code: int, said: str) -> None:
    found, _, stderr = route(*args)

    assert found == code
    # Without the frame that typer draws around what it prints.
    assert said in " ".join(stderr.replace("│", " ").split())
    assert "Traceback" not in stderr
