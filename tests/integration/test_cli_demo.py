"""`marlin demo`: the whole pipeline in one command, twice in a row, and interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from command_line import COMMAND, marlin, marlin_json


def check(printed: dict[str, Any], home: Path) -> None:
    assert printed["runs"] == 24
    assert printed["completed"] + printed["aborted"] == 24
    assert printed["failed"] == 0
    assert printed["completed"] > 0
    assert printed["aborted"] > 0
    assert printed["commands"] == printed["aborted"] == len(printed["aborted_runs"])
    assert all(run["reason"] == "carbon_budget_exceeded" for run in printed["aborted_runs"])
    assert all(run["overshoot_g"] > 0 for run in printed["aborted_runs"])
    assert 0 < printed["carbon_g_low"] < printed["carbon_g"] < printed["carbon_g_high"]
    agents_g = sum(agent["carbon_g"] for agent in printed["agents"])
    assert agents_g == pytest.approx(printed["carbon_g"], rel=1e-9)
    assert sum(agent["calls"] for agent in printed["agents"]) == printed["events"]
    assert printed["water_ml"] > 0
    assert printed["duckdb"] == str(home / "demo" / "marlin.duckdb")


@pytest.mark.timeout(400)
def test_it_works_twice_and_tells_only_of_itself(tmp_path: Path) -> None:
    env = {"MARLIN_HOME": str(tmp_path)}

    first = marlin_json("demo", env=env)
    second = marlin("demo", env=env)

    check(first, tmp_path)
    assert second.returncode == 0, second.stderr
    assert f"24: {first['completed']} completed, {first['aborted']} aborted" in second.stdout
    assert f"{first['events']} model calls, {first['commands']} abort commands" in second.stdout
    query = ("sql", "SELECT count(*) AS n FROM runs", "--database", first["duckdb"])
    assert query[-1] in second.stdout
    assert marlin_json(*query, env=env) == [{"n": 48}]
    assert not (tmp_path / "marlin.duckdb").exists()


@pytest.mark.parametrize("said", ["", "finished"], ids=["starting", "running"])
def test_interrupted_it_leaves_nothing_running(tmp_path: Path, said: str) -> None:
    # A terminal of its own, as a person's, so that it shows its progress.
    script = f"import pty, sys; sys.exit(pty.spawn({[*COMMAND, 'demo']!r}) >> 8)"
    demo = subprocess.Popen(
        [sys.executable, "-c", script],
        env={"MARLIN_HOME": str(tmp_path), "TERM": "xterm", "PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    seen = ""
    while "Starting" not in seen or said not in seen:
        seen += demo.stdout.read(1)
    (command,) = psutil.Process(demo.pid).children()
    children = command.children(recursive=True)
    assert children

    command.send_signal(signal.SIGINT)
    seen += demo.communicate(timeout=60)[0]

    assert demo.returncode == 130
    assert "interrupted; stopping Kafka, worker and sink" in seen
    assert not any(child.is_running() for child in children)
