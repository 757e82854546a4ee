"""`marlin up`, and replays of real traces into it: exact while it runs, after it, and again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest
from command_line import COMMAND, MarlinUp, marlin, marlin_json

COUNTS = "SELECT count(*) AS n, sum(input_tokens) AS i, sum(output_tokens) AS o FROM events"
CALLS = ("--model", "gpt-4o", "--region", "fr")

TRACES = Path(__file__).parents[2] / "../shared/data"


@pytest.fixture
def up(tmp_path: Path) -> Generator[MarlinUp]:
    running = MarlinUp(tmp_path / "home")
    yield running
    running.kill()


def trace(path: Path, rows: int) -> tuple[int, int, int]:
    """Write a trace; returns its rows, input tokens and output tokens."""
    lines = [
        f"2023-11-16 18:{n // 60 % 60:02}:{n % 60:02}.1234567,{n},{n % 7}" for n in range(rows)
    ]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(lines))
    return rows, sum(range(rows)), sum(n % 7 for n in range(rows))


def totals(rows: int, input_tokens: int, output_tokens: int) -> list[dict[str, int]]:
    return [{"n": rows, "i": input_tokens, "o": output_tokens}]


@pytest.mark.timeout(400)
def test_counts_are_exact_while_it_runs_after_it_and_when_it_runs_again(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    n, i, o = trace(path, 5000)
    up = MarlinUp(tmp_path / "home")
    try:
        sent = marlin_json("replay", path, *CALLS, "--runs", "7", env=up.env)
        assert (sent["events"], sent["input_tokens"], sent["output_tokens"]) == (n, i, o)
        up.until(COUNTS, totals(n, i, o))
        ended = "SELECT count(*) AS n, sum(calls) AS calls FROM runs WHERE status = 'completed'"
        up.until(ended, [{"n": 7, "calls": n}])
        # Interrupted right after a second replay: what was acknowledged must be there.
        marlin_json("replay", path, *CALLS, env=up.env)
        assert up.interrupt() == 0, up.said

        assert marlin_json("sql", COUNTS, env=up.env) == totals(2 * n, 2 * i, 2 * o)

        up = MarlinUp(tmp_path / "home")
        assert up.ask(COUNTS) == totals(2 * n, 2 * i, 2 * o)
        marlin_json("replay", path, *CALLS, env=up.env)
        up.until(COUNTS, totals(3 * n, 3 * i, 3 * o))
        assert up.interrupt() == 0, up.said
        assert marlin_json("sql", COUNTS, env=up.env) == totals(3 * n, 3 * i, 3 * o)
    finally:
        up.kill()


@pytest.mark.timeout(400)
@pytest.mark.skipif(not TRACES.is_dir(), reason="the Azure LLM traces are not in ../shared/data")
def test_the_azure_traces_are_counted_to_the_last_token(up: MarlinUp) -> None:
    counted = (0, 0, 0)
    for path in sorted(TRACES.glob("*.csv")):
        rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
        of_file = (len(rows), sum(int(row[1]) for row in rows), sum(int(row[2]) for row in rows))
        counted = (
            counted[0] + of_file[0],
            counted[1] + of_file[1],
            counted[2] + of_file[2],
        )

        sent = marlin_json("replay", path, *CALLS, env=up.env)

        assert (sent["events"], sent["input_tokens"], sent["output_tokens"]) == of_file
        up.until(COUNTS, totals(*counted))
    assert counted[0] == 8819 + 19366
    assert up.interrupt() == 0, up.said
    assert marlin_json("sql", COUNTS, env=up.env) == totals(*counted)


def test_nothing_is_lost_when_it_stops_during_a_replay(up: MarlinUp, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    trace(path, 2000)
    repeated = [path] * 50
    with (tmp_path / "replay.out").open("w") as output:
        replaying = psutil.Popen(
            [*COMMAND, "replay", *map(str, repeated), *CALLS, "--json"],
            env={**os.environ, **up.env},
            stdout=output,
        )
        while not up.ask("SELECT 1 AS x FROM events LIMIT 1"):
            assert replaying.poll() is None
        assert up.interrupt() == 0, up.said
        assert replaying.wait(timeout=60) in (0, 130)

    sent = json.loads((tmp_path / "replay.out").read_text())
    assert 0 < sent["events"] <= 100_000
    assert marlin_json("sql", COUNTS, env=up.env) == totals(
        sent["events"], sent["input_tokens"], sent["output_tokens"]
    )


def test_a_second_one_is_refused_and_the_first_goes_on(up: MarlinUp) -> None:
    second = marlin("up", env=up.env)

    assert (second.returncode, second.stdout) == (1, "")
    assert f"`marlin up` already runs in {up.env['MARLIN_HOME']}" in second.stderr
    assert f"process {up.process.pid}" in second.stderr
    assert up.process.poll() is None
    assert marlin("topics", "list", env=up.env).returncode == 0


def test_killed_parts_come_back_and_nothing_is_counted_twice(up: MarlinUp, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    n, i, o = trace(path, 3000)
    marlin_json("replay", path, *CALLS, env=up.env)
    for child in psutil.Process(up.process.pid).children():
        if "marlin.cli" in child.cmdline():
            child.kill()

    marlin_json("replay", path, *CALLS, env=up.env)

    assert up.interrupt() == 0, up.said
    assert "the worker ended (killed by SIGKILL); starting it again" in up.said
    assert "the sink ended (killed by SIGKILL); starting it again" in up.said
    assert marlin_json("sql", COUNTS, env=up.env) == totals(2 * n, 2 * i, 2 * o)


def test_it_gives_up_when_its_broker_dies_and_leaves_nothing_behind(up: MarlinUp) -> None:
    children = psutil.Process(up.process.pid).children(recursive=True)
    (broker,) = [child for child in children if child.name() == "tansu"]

    broker.kill()

    assert up.process.wait(timeout=60) == 1
    assert "error: the embedded broker ended by itself (exit code -9)" in up.said
    assert not any(child.is_running() for child in children)
    assert "no Kafka cluster" in marlin("topics", "list", env=up.env).stderr


def test_asked_twice_it_drops_what_is_under_way(up: MarlinUp) -> None:
    children = psutil.Process(up.process.pid).children(recursive=True)
    (worker,) = [child for child in children if "worker" in child.cmdline()]
    worker.suspend()  # it will never finish by itself
    try:
        up.process.send_signal(signal.SIGINT)
        while "stopping" not in up.said:
            time.sleep(0.05)
        up.process.send_signal(signal.SIGINT)

        assert up.process.wait(timeout=60) == 130
    finally:
        if worker.is_running():
            worker.resume()
    assert "stopped at once; what was under way is dropped" in up.said
    assert not any(child.is_running() for child in children)


def test_what_cannot_start_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "marlin.duckdb").write_text("not a database")

    done = marlin("up", env={"MARLIN_HOME": str(tmp_path)})

    assert (done.returncode, done.stdout) == (1, "")
    assert "the sink did not start (exit code 1" in done.stderr
    assert str(tmp_path / "marlin.duckdb") in done.stderr
