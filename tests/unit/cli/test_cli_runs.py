"""`marlin runs`, as a user sees it: above all, how aborts were obeyed."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from marlin.cli.main import app
from marlin.sinks.conformance import (
    NOON,
    acknowledged,
    batch_of,
    carbon,
    command,
    finished,
    identity,
    started,
)
from marlin.sinks.duckdb_sink import DuckDBSink

RUNNER = CliRunner()

ABORTS: dict[str, dict[str, Any] | None] = {
    "obeyed": {"outcome": "stopped", "overshoot_ms": 180.0},
    "late": {"outcome": "already_finished", "overshoot_ms": 0.0},
    "unable": {"outcome": "refused", "overshoot_ms": None},
    "deaf": None,
    "killed": None,
}
"""What the runtime of each run answered to its abort."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    offsets = iter(range(1000))
    commanded = iter(range(1000))
    records: list[Any] = []
    for run_id, answer in ABORTS.items():
        command_id = f"abort of {run_id}"
        records += [
            started(next(offsets), run_id=run_id),
            carbon(next(offsets), run_id=run_id, event_id=run_id, producer_id=run_id, seq=0),
            command(next(commanded), run_id=run_id, command_id=command_id),
        ]
        if answer is not None:
            records.append(
                acknowledged(next(offsets), run_id=run_id, command_id=command_id, **answer)
            )
    records.append(
        command(
            next(commanded),
            run_id="killed",
            command_id="escalation",
            action="escalate",
            reason="abort_unacknowledged",
            issued_at=NOON + timedelta(minutes=1, seconds=30),
        )
    )
    records += [started(next(offsets), run_id="free"), finished(next(offsets), run_id="free")]
    with DuckDBSink(tmp_path / "marlin.duckdb") as sink:
        sink.bind(identity())
        sink.apply(batch_of(*records))
    return tmp_path


def runs(home: Path, *flags: str, columns: int = 200) -> str:
    env = {"MARLIN_HOME": str(home), "COLUMNS": str(columns)}
    done = RUNNER.invoke(app, ["runs", *flags], env=env)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_how_each_abort_stands_is_told_to_programs(home: Path) -> None:
    rows = {row["run_id"]: row for row in json.loads(runs(home, "--json"))}

    assert {name: row["acknowledgement"] for name, row in rows.items()} == {
        **dict.fromkeys(("obeyed", "late", "unable"), "acknowledged"),
        **{"deaf": "unacknowledged", "killed": "escalated", "free": None},
    }
    obeyed, killed = rows["obeyed"], rows["killed"]
    assert (obeyed["ack_outcome"], obeyed["overshoot_g"], obeyed["overshoot_ms"]) == (
        *("stopped", 0.75),
        180.0,
    )
    assert obeyed["command_id"] == "abort of obeyed"
    assert (killed["status"], killed["ack_outcome"], killed["overshoot_ms"]) == (
        *("running", None),
        None,
    )
    assert (killed["commanded_at"], killed["escalated_at"]) == (
        "2026-05-01T12:01:00Z",
        "2026-05-01T12:01:30Z",
    )


@pytest.mark.parametrize("columns", [100, 200])
def test_and_to_people(home: Path, columns: int) -> None:
    lines = {line.split()[0]: line for line in runs(home, columns=columns).splitlines()}

    assert {
        name: phrase in lines[name]
        for name, phrase in {
            "obeyed": "stopped in 180 ms",
            "late": "had ended",
            "unable": "refused",
            "deaf": "unacknowledged since 12:01:00",
            "killed": "escalated 12:01:30",
        }.items()
    } == dict.fromkeys(ABORTS, True)
    assert "0.750 g" in lines["obeyed"]
    assert not {"stopped", "unacknowledged", "escalated"} & set(lines["free"].split())
