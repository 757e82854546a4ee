from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from grid_api import TOKEN, Reply, running_api
from typer.testing import CliRunner

from marlin.cli.main import app


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MARLIN_HOME", str(tmp_path))


def test_yearly_averages_without_a_provider() -> None:
    result = CliRunner().invoke(app, ["grid", "show", "DE", "--hours", "2", "--json"])

    assert result.exit_code == 0
    values = json.loads(result.stdout)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    # The hour may have changed since the command ran.
    assert datetime.fromisoformat(values[1]["hour"]) in (now, now - timedelta(hours=1))
    assert [(v["zone"], v["intensity_g_per_kwh"], v["tier"]) for v in values] == [
        ("DE", 370.93, "year")
    ] * 2


def test_people_see_where_a_value_comes_from() -> None:
    result = CliRunner().invoke(app, ["grid", "show", "XX", "--forecast", "--hours", "1"])

    assert result.exit_code == 0
    assert "458.3" in result.stdout
    assert "the world's yearly average" in result.stdout


def test_a_memo_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    start = now - timedelta(hours=30)
    half_hours = [
        {
            "from": f"{start + n * timedelta(minutes=30):%Y-%m-%dT%H:%MZ}",
            "intensity": {"forecast": 99, "actual": 150},
        }
        for n in range(200)
    ]
    with running_api() as api:
        monkeypatch.setenv("MARLIN_GRID__UKCI_URL", api.url)
        # Whatever the hour, its path is answered.
        for first in range(-1, 2):
            begin = now + timedelta(hours=first - 1)
            path = (
                f"/intensity/{begin:%Y-%m-%dT%H:%MZ}/{begin + timedelta(hours=2):%Y-%m-%dT%H:%MZ}"
            )
            api.on(path, Reply({"data": half_hours}))
        result = CliRunner().invoke(
            app, ["grid", "show", "GB", "--provider", "ukci", "--hours", "2"]
        )

    assert result.exit_code == 0, result.output
    assert "150.0" in result.stdout
    assert "measured, direct" in result.stdout
    assert "a memo" in result.stderr


def test_errors_are_told_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_api() as api:
        monkeypatch.setenv("MARLIN_GRID__PROVIDER", "electricitymaps")
        monkeypatch.setenv("MARLIN_GRID__ELECTRICITYMAPS_TOKEN", TOKEN)
        monkeypatch.setenv("MARLIN_GRID__ELECTRICITYMAPS_URL", api.url)
        api.on("/carbon-intensity/history", Reply({"error": "Token is invalid"}, 401))
        result = CliRunner().invoke(app, ["grid", "show", "DE", "--hours", "3"])

    assert result.exit_code == 1
    assert "the token was refused" in result.stderr
    assert TOKEN not in result.output


@pytest.mark.parametrize("words", [["--provider", "nope"], ["--provider", "eia"]])
def test_what_cannot_be_asked(words: list[str]) -> None:
    result = CliRunner().invoke(app, ["grid", "show", "DE", *words])

    assert result.exit_code == 1
    assert "error: " in result.stderr
