"""The lab runs on its own, and what it prints holds together."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LAB = ROOT / "hands_on" / "13_environmental.py"


def run_lab(**environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MESHFLOW_", "MARLIN_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", str(LAB)],
        capture_output=True,
        text=True,
        timeout=120,
        env=kept | environment,
        check=False,
    )


@pytest.fixture(scope="module")
def output() -> str:
    done = run_lab(MESHFLOW_MOCK="1")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def rows(output: str, part: int) -> dict[str, dict[str, str]]:
    """The table of a part, by its first column."""
    lines = iter(output.splitlines())
    for line in lines:
        if line.startswith(f"{part}. "):
            break
    next(lines)
    head = next(lines).split()
    assert set(next(lines)) <= {"-", " "}
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        if not line.startswith("  "):
            return found
        cells = line.split()
        found[cells[0]] = dict(zip(head, cells, strict=True))
    return found


def test_without_the_mock_it_says_how_to_start_it() -> None:
    done = run_lab()

    assert done.returncode == 2
    assert "MESHFLOW_MOCK=1 python hands_on/13_environmental.py" in done.stderr
    assert done.stdout == ""


def test_the_other_name_of_the_switch_works_too() -> None:
    assert run_lab(MARLIN_MOCK="1").returncode == 0


def test_heavy_is_more_than_thrifty_is_more_than_light(output: str) -> None:
    table = rows(output, 1)

    for column in ("energy_wh", "carbon_g", "water_ml"):
        light, heavy, thrifty = (float(table[name][column]) for name in table)
        assert 0 < light < thrifty < heavy
    assert table["thrifty"]["tokens"] == table["heavy"]["tokens"]


def test_live_events_add_up_to_the_run(output: str) -> None:
    added = [float(g) for g in re.findall(r"event \d+: .* \+([\d.]+) g", output)]
    running = [float(g) for g in re.findall(r"-> run ([\d.]+) g", output)]

    assert len(added) == int(rows(output, 1)["heavy"]["calls"])
    for number, total in enumerate(running, start=1):
        assert total == pytest.approx(sum(added[:number]), abs=1e-5)
    assert f"{running[-1]:.6f}" == rows(output, 1)["heavy"]["carbon_g"]


def test_the_budget_stops_the_run_below_the_threshold_only(output: str) -> None:
    tiny, half, below, at, generous = rows(output, 3).values()

    assert (tiny["status"], tiny["crossed_by"], tiny["blocked"]) == (
        *("aborted", "research"),
        "draft,review",
    )
    assert tiny["calls"] == "1"
    assert (half["status"], below["status"]) == ("aborted", "aborted")
    assert (at["status"], generous["status"]) == ("completed", "completed")
    assert int(tiny["agents_run"]) <= int(half["agents_run"]) <= int(below["agents_run"]) == 3
    assert below["crossed_by"] == "review"


def test_what_cannot_fit_is_never_made(output: str) -> None:
    tiny, half, below, at, generous = rows(output, 4).values()

    assert (tiny["status"], tiny["calls"], tiny["carbon_g"]) == ("aborted", "0", "0.000000000")
    assert (tiny["crossed_by"], tiny["blocked"]) == ("research", "draft,review")
    assert (half["status"], below["status"]) == ("aborted", "aborted")
    assert (at["status"], generous["status"]) == ("completed", "completed")
    for row in (tiny, half, below, at, generous):
        assert float(row["carbon_g"]) <= float(row["budget_g"])
    assert int(half["calls"]) < int(below["calls"]) < int(at["calls"]) == int(generous["calls"])


def test_a_run_must_fit_by_its_forecast_so_it_needs_more_than_it_takes(output: str) -> None:
    (needed,) = re.findall(r"^preflight_threshold_g: ([\d.]+)", output, re.MULTILINE)
    taken = rows(output, 1)["heavy"]["carbon_g"]

    assert float(taken) < float(needed) < 1.5 * float(taken)


def test_the_error_tells_who_why_and_when(output: str) -> None:
    assert (
        "raised: CarbonBudgetExceededError: agent research, carbon_budget_forecast, step 0, "
        "0 g spent"
    ) in output


def test_the_threshold_is_the_runs_total_and_stays_where_it_is(output: str) -> None:
    def threshold(text: str) -> str:
        return re.findall(r"^threshold_g: ([\d.]+)", text, re.MULTILINE)[0]

    assert float(threshold(output)) == pytest.approx(
        float(rows(output, 1)["heavy"]["carbon_g"]), abs=1e-6
    )
    assert threshold(run_lab(MESHFLOW_MOCK="1").stdout) == threshold(output)


def test_the_agents_are_the_whole(output: str) -> None:
    total_g = sum(float(row["carbon_g"]) for row in rows(output, 5).values())

    assert total_g == pytest.approx(float(rows(output, 1)["heavy"]["carbon_g"]), abs=1e-5)


def test_larger_models_emit_more_for_the_same_tokens(output: str) -> None:
    small, medium, large = rows(output, 6).values()

    assert small["tokens"] == medium["tokens"] == large["tokens"]
    for column in ("energy_wh", "carbon_g", "water_ml"):
        assert float(small[column]) < float(medium[column]) < float(large[column])


def test_the_summaries_are_labelled(output: str) -> None:
    completed, aborted = output.partition("7. Environmental summaries")[2].split(
        "\nEnvironmental summary\n"
    )[1:]

    for label in ("run_id", "status", "total_carbon_g", "water_ml", "energy_wh"):
        assert f"  {label:<15} : " in completed
    assert "status          : completed" in completed
    assert "status          : aborted (carbon_budget_exceeded)" in aborted
    assert aborted.count(" blocked ") == 2
