"""The commands on a cluster that is configured: topics, worker, sink, replay, runs, abort."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command_line import COMMAND, MarlinUp, environment, marlin, marlin_json
from pipeline import commands, eventually, produce, read_all

from marlin.broker.cluster import create_topics
from marlin.schemas import EVENT, AbortAcknowledged, Usage, command_id, dump
from marlin.schemas.runs import Outcome
from marlin.settings import Settings
from marlin.topics import Topics

CALLS = ("--model", "gpt-4o", "--region", "fr")
COUNTS = "SELECT count(*) AS n, sum(input_tokens) AS i, sum(output_tokens) AS o FROM events"

ROWS = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:00:00.0000001,1,10\n"
    "2023-11-16 18:00:01,2,20\n"
    "2023-11-16 18:00:02,3,30\n"
)
USAGE = (
    '{"type":"usage","event_id":"e%d","run_id":"mine","agent_id":"a","producer_id":"p","seq":%d,'
    '"time":"2023-11-16T12:00:00Z","provider":"openai","model":"gpt-4o","region":"fr",'
    '"input_tokens":5,"cache_read_tokens":6,"output_tokens":7}'
)


@pytest.fixture
def env(settings: Settings) -> dict[str, str]:
    return environment(settings)


@contextmanager
def running(env: Mapping[str, str], home: Path) -> Generator[dict[str, subprocess.Popen[str]]]:
    """`marlin worker` and `marlin sink`, both ready; killed at the end if they still run."""
    assert marlin("topics", "create", env=env).returncode == 0
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for name in ("worker", "sink"):
            processes[name] = subprocess.Popen(
                [*COMMAND, name, "--ready-file", str(home / name), "--log-level", "error"],
                env={**os.environ, **env},
                stdout=subprocess.PIPE,
                text=True,
            )
        for name, process in processes.items():
            assert process.stdout is not None
            assert process.stdout.readline() == f"{name} ready\n"
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def until(env: Mapping[str, str], expected: list[dict[str, Any]], sql: str = COUNTS) -> None:
    deadline_s = time.monotonic() + 60
    while (found := marlin_json("sql", sql, env=env)) != expected:
        assert time.monotonic() < deadline_s, f"{found} instead of {expected}"
        time.sleep(0.2)


def test_topics_are_created_once_and_listed(env: dict[str, str], settings: Settings) -> None:
    def partitions(answer: list[dict[str, Any]]) -> dict[str, int]:
        return {topic["topic"]: topic["partitions"] for topic in answer}

    topics = Topics(settings.kafka.topic_prefix)
    names = topics.all()
    before = partitions(marlin_json("topics", "list", env=env))
    created = partitions(marlin_json("topics", "create", env=env))
    after = partitions(marlin_json("topics", "list", env=env))

    assert before == dict.fromkeys(names, 0)
    assert created == after == {**dict.fromkeys(topics.by_run(), 3), topics.grid: 1}
    shown = marlin("topics", "create", env=env)
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in names)


async def test_a_replay_sends_every_row_once_in_order_per_run(
    env: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(ROWS)

    report = marlin_json("replay", trace, trace, *CALLS, "--runs", "2", "--agents", "1", env=env)

    run_ids = [f"{report['replay_id']}-1", f"{report['replay_id']}-2"]
    by_run: dict[str, list[Any]] = {run_id: [] for run_id in run_ids}
    for record in await read_all(settings, Topics(settings.kafka.topic_prefix).events):
        event = EVENT.validate_json(record.value or b"")
        assert (record.key or b"").decode() == event.run_id
        by_run[event.run_id].append(event)
    for events in by_run.values():
        assert [event.type for event in events] == ["run.started", *["usage"] * 3, "run.finished"]
    tokens = [
        [event.input_tokens for event in by_run[run_id] if isinstance(event, Usage)]
        for run_id in run_ids
    ]
    assert tokens == [[1, 3, 2], [2, 1, 3]]
    counted = {name: report[name] for name in ("rows", "events", "runs", "messages", "complete")}
    assert counted == {"rows": 6, "events": 6, "runs": 2, "messages": 10, "complete": True}
    assert (report["input_tokens"], report["output_tokens"]) == (12, 120)


def test_a_replay_is_counted_exactly_and_again_when_repeated(
    env: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(ROWS + "2023-11-16 18:00:03,-1,1\n" + "2023-11-16 18:00:04,4,40\n")
    with running(env, tmp_path) as processes:
        done = marlin("replay", trace, *CALLS, env=env)
        assert done.returncode == 1
        assert "1 lines were skipped:" in done.stderr
        assert "trace.csv:5: tokens: expected a whole number" in done.stderr
        until(env, [{"n": 4, "i": 10, "o": 100}])
        assert marlin("replay", trace, *CALLS, "--limit", "2", env=env).returncode == 0
        until(env, [{"n": 6, "i": 13, "o": 130}])

        listed = marlin_json("runs", "--status", "completed", env=env)
        assert sum(run["calls"] for run in listed) == 6
        assert marlin_json("runs", "--limit", "1", env=env) == listed[:1]
        shown = marlin("runs", env=env)
        assert (shown.returncode, listed[0]["run_id"] in shown.stdout) == (0, True)

        for name, process in processes.items():
            assert (tmp_path / name).read_text() == str(process.pid)
            process.send_signal(signal.SIGTERM if name == "worker" else signal.SIGINT)
            assert process.wait(timeout=60) == 0
            assert not (tmp_path / name).exists()
    until(env, [{"n": 6, "i": 13, "o": 130}])


def test_up_uses_the_cluster_that_is_configured(env: dict[str, str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(ROWS)
    up = MarlinUp(tmp_path / "home", env)
    try:
        assert env["MARLIN_KAFKA__BOOTSTRAP_SERVERS"] in up.said
        assert "embedded" not in up.said
        marlin_json("replay", trace, *CALLS, env=up.env)
        up.until(COUNTS, [{"n": 3, "i": 6, "o": 60}])
        assert up.interrupt() == 0, up.said

        # The cluster remembers: what came while it was down is counted when it is up again.
        marlin_json("replay", trace, *CALLS, env=up.env)
        up = MarlinUp(tmp_path / "home", env)
        up.until(COUNTS, [{"n": 6, "i": 12, "o": 120}])
        assert up.interrupt() == 0, up.said
    finally:
        up.kill()


def test_events_that_were_counted_are_not_counted_again(
    env: dict[str, str], tmp_path: Path
) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text("\n".join(USAGE % (n, n) for n in range(3)))
    with running(env, tmp_path):
        for _ in range(2):
            report = marlin_json("replay", events, env=env)
            assert (report["events"], report["runs"], report["cache_read_tokens"]) == (3, 1, 18)
        events.write_text(USAGE % (3, 3))
        marlin_json("replay", events, env=env)

        until(env, [{"n": 4, "i": 20, "o": 28}])


async def test_an_abort_reaches_the_commands_topic_under_one_id(
    env: dict[str, str], settings: Settings
) -> None:
    unknown = marlin("abort", "run-1", env=env)
    assert unknown.returncode == 1
    assert "there is no topic" in unknown.stderr
    marlin("topics", "create", env=env)

    first = marlin_json("abort", "run-1", "--reason", "wrong prompt", "--wait-s", "0", env=env)
    second = marlin("abort", "run-1", "--wait-s", "0.1", env=env)

    assert (first["acknowledged"], first["outcome"]) == (None, None)
    assert second.returncode == 3
    assert "abort sent to run run-1 (operator)" in second.stdout
    assert "unacknowledged: nobody has answered within 0.1 s" in second.stdout
    sent = await commands(settings)
    assert [(command.run_id, command.action, command.reason) for command in sent] == [
        ("run-1", "abort", "wrong prompt"),
        ("run-1", "abort", "operator"),
    ]
    assert {command.command_id for command in sent} == {command_id("run-1", "operator")}
    assert first["command_id"] == command_id("run-1", "operator")
    # Where the run's events are, so that order and ownership stay with it.
    (record, _) = await read_all(settings, Topics(settings.kafka.topic_prefix).commands)
    assert (record.key, record.partition) == (b"run-1", first["partition"])


@pytest.mark.parametrize("outcome", ["stopped", "already_finished", "refused"])
async def test_an_abort_says_what_the_runtime_answered(
    env: dict[str, str], settings: Settings, outcome: Outcome
) -> None:
    await create_topics(settings)
    answer = AbortAcknowledged(
        run_id="run-1",
        command_id=command_id("run-1", "operator"),
        outcome=outcome,
        stopped_at=datetime(2026, 3, 1, tzinfo=UTC),
        overshoot_g=0.5,
        overshoot_ms=12.0,
    )
    others = answer.model_copy(update={"command_id": "another"})
    asking = [
        asyncio.create_task(asyncio.to_thread(marlin, "abort", "run-1", *flags, env=env))
        for flags in (("--wait-s", "60"), ("--wait-s", "60", "--json"))
    ]

    async def both_sent() -> bool:
        return len(await commands(settings)) == 2

    await eventually(both_sent)
    await produce(settings, [(b"run-1", dump(event)) for event in (others, answer)])
    text, as_json = await asyncio.gather(*asking)

    assert text.returncode == as_json.returncode == (3 if outcome == "refused" else 0)
    assert {
        "stopped": "acknowledged: the run has stopped, 0.500 g over its budget, 12.0 ms after",
        "already_finished": "acknowledged: the run had ended",
        "refused": "refused by the runtime: the run goes on",
    }[outcome] in text.stdout
    told = json.loads(as_json.stdout)
    assert (told["acknowledged"], told["outcome"]) == (True, outcome)
    assert (told["overshoot_g"], told["overshoot_ms"]) == (0.5, 12.0)
    assert told["stopped_at"] == "2026-03-01T00:00:00Z"


def test_an_interrupted_replay_says_what_was_acknowledged(
    env: dict[str, str], tmp_path: Path
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(ROWS)
    replaying = subprocess.Popen(
        # The second row is due in eleven days.
        [*COMMAND, "replay", str(trace), *CALLS, "--speed", "0.000001", "--json"],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    topic_has_it = False
    while not topic_has_it:
        assert replaying.poll() is None
        listed = marlin_json("topics", "list", env=env)
        topic_has_it = all(topic["partitions"] for topic in listed)
        time.sleep(0.5)
    replaying.send_signal(signal.SIGINT)
    stdout, stderr = replaying.communicate(timeout=60)

    assert replaying.returncode == 130
    report = json.loads(stdout)
    assert (report["events"], report["complete"]) == (1, False)
    assert stderr == "interrupted; 1 events were acknowledged\n"
