from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from events import NOW, usage
from runtime_doubles import REGION, Sink, call_g, new_run

from marlin.errors import CarbonBudgetExceededError, ConfigurationError, DataError
from marlin.estimation import default_estimator
from marlin.runtime import RunStatus, TokenUsage
from marlin.runtime.carbon_event import CarbonEvent
from marlin.runtime.run import MAX_TASK_CHARACTERS, Run, RunScope
from marlin.runtime.stop import BudgetWarning
from marlin.runtime.sums import RunSums
from marlin.schemas import (
    AbortAcknowledged,
    Command,
    Policy,
    RunFinished,
    RunStarted,
    Usage,
    command_id,
)
from marlin.streams import run as worker_run
from marlin.totals import MAX_AGENTS, OTHER_AGENTS

TOKENS = TokenUsage(input_tokens=1000, output_tokens=200)
ONE_CALL_G = call_g()
REASON = "carbon_budget_exceeded"


def record(run: Run, agent_id: str = "writer", tokens: TokenUsage = TOKENS) -> CarbonEvent:
    return run.record(tokens, agent_id=agent_id, model="large-70b", provider="", region=REGION)


def command(reason: str = REASON, **changes: Any) -> Command:
    fields: dict[str, Any] = {
        "command_id": command_id("run-1", reason),
        "run_id": "run-1",
        "action": "abort",
        "reason": reason,
        "issued_at": datetime(2026, 3, 1, tzinfo=UTC),
    }
    return Command(**(fields | changes))


def acknowledgements(sink: Sink) -> list[AbortAcknowledged]:
    return [event for event in sink.events if isinstance(event, AbortAcknowledged)]


def test_totals_are_the_estimators_sums() -> None:
    run = new_run()

    record(run, "a")
    record(run, "b")
    event = record(run, "a")

    assert run.totals.carbon_g == ONE_CALL_G + ONE_CALL_G + ONE_CALL_G
    assert run.agent_totals("a").carbon_g == ONE_CALL_G + ONE_CALL_G
    assert run.agent_totals("b").tokens == 1200
    assert run.agent_totals("nobody").calls == 0
    assert event.run_carbon_g == run.totals.carbon_g
    assert event.carbon_g == ONE_CALL_G


def test_events_come_in_order_start_first_end_last() -> None:
    sink = Sink()
    run = new_run(sink=sink, scope=RunScope("acme", "apollo", {"team": "red"}))

    run.start("a task")
    record(run)
    record(run)
    run.finish(RunStatus.COMPLETED, None)

    start, first, second, end = sink.events
    assert isinstance(start, RunStarted)
    assert (start.task, start.tenant, start.project) == ("a task", "acme", "apollo")
    assert isinstance(first, Usage)
    assert isinstance(second, Usage)
    assert (first.seq, second.seq) == (0, 1)
    assert first.producer_id == second.producer_id
    assert first.event_id != second.event_id
    assert (first.tenant, first.project, first.labels) == ("acme", "apollo", {"team": "red"})
    assert isinstance(end, RunFinished)
    assert (end.status, end.reason) == ("completed", None)


def test_two_runs_under_one_id_are_two_producers() -> None:
    """Both count from 0: as one producer the second's usage would be dropped as repeats."""
    assert new_run().producer_id != new_run().producer_id


@pytest.mark.parametrize(
    ("budget_g", "stops"),
    [
        (2 * ONE_CALL_G * (1 + 1e-15), False),
        (2 * ONE_CALL_G, False),
        (2 * ONE_CALL_G * (1 - 1e-15), True),
        (0.0, True),
        (None, False),
    ],
)
def test_spending_exactly_the_budget_is_within_it(budget_g: float | None, stops: bool) -> None:
    run = new_run(budget_g)

    record(run)
    event = record(run)

    assert (run.stop is not None) is stops
    assert event.breached is stops
    assert event.budget_g == budget_g


def test_a_breach_names_who_crossed_and_what_was_spent() -> None:
    run = new_run(1.5 * ONE_CALL_G)
    record(run, "a")
    record(run, "b")
    record(run, "c")

    with pytest.raises(CarbonBudgetExceededError) as raised:
        run.check()

    assert raised.value.agent_id == "b"
    assert raised.value.spent_g == 2 * ONE_CALL_G
    assert raised.value.budget_g == 1.5 * ONE_CALL_G
    assert raised.value.command_id is None
    assert run.totals.calls == 3


def test_the_high_bound_stops_earlier() -> None:
    policy = Policy(carbon_budget_g=1.5 * ONE_CALL_G, bound="high")
    run = new_run(policy=policy)

    record(run)

    assert run.stop is not None
    assert run.stop.spent_g == run.totals.carbon_g_high > 1.5 * ONE_CALL_G


@pytest.mark.parametrize(
    "policy",
    [
        Policy(enable_environmental=False, carbon_budget_g=0.0),
        Policy(carbon_budget_g=0.0, action="warn"),
    ],
)
def test_what_does_not_enforce_still_counts(policy: Policy) -> None:
    run = new_run(policy=policy)

    record(run)

    assert run.stop is None
    assert run.totals.carbon_g == ONE_CALL_G


def test_warnings_are_given_once_each(caplog: pytest.LogCaptureFixture) -> None:
    policy = Policy(carbon_budget_g=4 * ONE_CALL_G, warn_at=(0.5, 0.9))
    run = new_run(policy=policy)

    with caplog.at_level(logging.WARNING, "marlin.runtime"):
        for _ in range(4):
            record(run)

    assert [r.message for r in caplog.records] == [
        "run run-1 has spent 0.5 of its carbon budget",
        "run run-1 has spent 0.9 of its carbon budget",
    ]


@pytest.mark.parametrize(
    "tokens",
    [
        TokenUsage(-1, 0),
        TokenUsage(0, 10**9),
        TokenUsage(0, 1, reasoning_tokens=2),
        TokenUsage(1.5, 1),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        TokenUsage(1, 1, cost_usd=float("nan")),
    ],
)
def test_impossible_usage_is_refused_and_counts_nothing(tokens: TokenUsage) -> None:
    sink = Sink()
    run = new_run(sink=sink)

    with pytest.raises(DataError, match="usage of agent writer in run run-1 refused"):
        record(run, tokens=tokens)
    record(run)

    assert run.totals.calls == 1
    assert [e.seq for e in sink.events if isinstance(e, Usage)] == [0]


def test_a_command_stops_the_run_and_is_acknowledged_before_the_end() -> None:
    sink = Sink()
    run = new_run(0.5 * ONE_CALL_G, sink=sink, local_enforcement=False)
    record(run, "a")
    assert run.stop is None

    run.obey(command())
    with pytest.raises(CarbonBudgetExceededError) as raised:
        run.check()
    record(run, "a")
    run.finish(RunStatus.ABORTED, REASON)

    assert raised.value.command_id == command().command_id
    assert raised.value.agent_id == "a"
    assert sink.types == ["usage", "usage", "abort.acknowledged", "run.finished"]
    (acknowledged,) = acknowledgements(sink)
    assert acknowledged.outcome == "stopped"
    assert acknowledged.command_id == command().command_id
    assert acknowledged.overshoot_g == 2 * ONE_CALL_G - 0.5 * ONE_CALL_G


def test_repeated_commands_are_acknowledged_once() -> None:
    sink = Sink()
    run = new_run(sink=sink)

    run.obey(command("operator"))
    run.obey(command("operator"))
    run.finish(RunStatus.ABORTED, "operator")
    run.obey(command("operator"))

    (acknowledged,) = acknowledgements(sink)
    assert acknowledged.overshoot_g == 0.0


def test_a_local_stop_takes_the_id_of_the_command_for_the_same_cause() -> None:
    run = new_run(0.0)
    record(run)
    assert run.awaits_command

    run.obey(command("operator"))
    assert run.awaits_command
    run.obey(command())

    assert run.stop is not None
    assert run.stop.command_id == command().command_id
    assert not run.awaits_command


@pytest.mark.parametrize(
    ("stopped", "status", "outcome"),
    [
        (True, RunStatus.ABORTED, "stopped"),
        (False, RunStatus.COMPLETED, "already_finished"),
        (False, RunStatus.FAILED, "already_finished"),
    ],
)
def test_a_late_command_is_acknowledged_as_it_comes(
    stopped: bool, status: RunStatus, outcome: str
) -> None:
    sink = Sink()
    run = new_run(0.0 if stopped else None, sink=sink)
    record(run)
    run.finish(status, None)

    run.obey(command())

    finished = sink.events[-2]
    (acknowledged,) = acknowledgements(sink)
    assert isinstance(finished, RunFinished)
    assert acknowledged.outcome == outcome
    assert acknowledged.stopped_at == finished.time


def test_pausing_is_refused_at_once() -> None:
    sink = Sink()
    run = new_run(sink=sink)

    run.obey(command("operator", action="pause"))

    assert run.stop is None
    assert [one.outcome for one in acknowledgements(sink)] == ["refused"]


def test_an_acknowledgement_measures_how_late_the_stop_was() -> None:
    """From the command, or from the breach where that was seen here before."""
    sink, late = Sink(), Sink()
    breached, told = new_run(0.0, sink=sink), new_run(0.0, sink=late, local_enforcement=False)
    for run in (breached, told):
        record(run)
    issued_at = datetime.now(UTC)

    breached.obey(command(issued_at=issued_at + timedelta(hours=1)))
    told.obey(command(issued_at=issued_at - timedelta(seconds=5)))
    for run in (breached, told):
        run.finish(RunStatus.ABORTED, REASON)

    (here,), (there,) = acknowledgements(sink), acknowledgements(late)
    assert breached.stop is not None
    took = here.stopped_at - breached.stop.at
    assert here.overshoot_ms == took.total_seconds() * 1000
    since = issued_at - timedelta(seconds=5)
    assert there.overshoot_ms == (there.stopped_at - since).total_seconds() * 1000
    assert here.overshoot_g == there.overshoot_g == ONE_CALL_G


def test_a_command_from_a_clock_that_is_ahead_counts_from_when_it_was_seen() -> None:
    sink = Sink()
    run = new_run(sink=sink)
    run.obey(command("operator", issued_at=datetime.now(UTC) + timedelta(hours=1)))
    run.finish(RunStatus.ABORTED, "operator")

    (acknowledged,) = acknowledgements(sink)
    assert run.stop is not None
    took = acknowledged.stopped_at - run.stop.at
    assert acknowledged.overshoot_ms == took.total_seconds() * 1000


def test_an_escalation_is_for_operators_and_changes_nothing() -> None:
    sink = Sink()
    run = new_run(sink=sink)

    run.obey(command("operator", action="escalate"))

    assert (run.stop, sink.events) == (None, [])


def test_a_warning_of_the_pipeline_counts_as_the_one_of_its_share() -> None:
    """Other processes of the run may have spent what this one does not know of."""
    told: list[BudgetWarning] = []
    policy = Policy(carbon_budget_g=10 * ONE_CALL_G, warn_at=(0.1, 0.5))
    run = Run("run-1", policy, default_estimator(), on_warn=told.append)

    run.obey(command("warn:0.5", action="warn", spent_g=5.5))
    run.obey(command("warn:0.75", action="warn"))
    for _ in range(6):
        record(run)

    assert [(warning.share, warning.spent_g, warning.agent_id) for warning in told] == [
        (0.5, 5.5, None),
        (0.1, ONE_CALL_G, "writer"),
    ]


def test_agents_beyond_number_share_one_name() -> None:
    run = new_run()
    for number in range(MAX_AGENTS + 5):
        record(run, f"agent {number}")

    assert len(run.agent_ids) == MAX_AGENTS + 1
    assert run.agent_totals(OTHER_AGENTS).calls == 5
    assert run.totals.calls == MAX_AGENTS + 5


def test_the_worker_bounds_agents_alike() -> None:
    in_worker = worker_run.Run("run-1", epoch=0, touched_at=NOW)
    in_runtime = RunSums(Policy())
    for number in range(MAX_AGENTS + 5):
        for sums in (in_worker, in_runtime):
            sums.count(usage(agent_id=f"agent {number}"), (0.1,) * 12)

    assert (MAX_AGENTS, OTHER_AGENTS) == (1000, "(other agents)")
    assert list(in_worker.agents) == list(in_runtime.agents)
    assert len(in_worker.agents) == MAX_AGENTS + 1
    assert in_worker.totals.dump() == in_runtime.totals.dump()


def test_a_warning_stops_nothing_and_needs_no_answer() -> None:
    sink = Sink()
    run = new_run(sink=sink)

    run.obey(command("warn:0.8", action="warn"))

    assert run.stop is None
    assert sink.events == []


def test_whoever_waits_is_woken_by_any_command_and_a_cancelled_waiter_harms_nothing() -> None:
    run = new_run(0.0)
    assert run.next_command() is None
    record(run)
    waiter, gone = run.next_command(), run.next_command()
    assert waiter is not None
    assert gone is not None
    gone.cancel()

    run.obey(command())

    assert waiter.done()
    assert run.next_command() is None


def test_a_task_too_long_or_unspeakable_is_cut_not_refused() -> None:
    sink = Sink()
    run = new_run(sink=sink)

    run.start("\ud800" + "x" * 10_000)
    run.finish(RunStatus.FAILED, "y" * 10_000)

    start, end = sink.events
    assert isinstance(start, RunStarted)
    assert isinstance(end, RunFinished)
    assert start.task == "?" + "x" * (MAX_TASK_CHARACTERS - 1)
    assert end.reason == "y" * 1024


def test_an_id_that_events_cannot_carry_is_refused() -> None:
    run = new_run(scope=RunScope(tenant="x" * 300))

    with pytest.raises(ConfigurationError, match="tenant"):
        run.start("task")


def test_a_listener_that_fails_is_logged_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[CarbonEvent] = []

    def broken(_: CarbonEvent) -> None:
        raise ValueError("listener")

    run = Run("run-1", Policy(), default_estimator(), listeners=(broken, told.append))

    record(run)

    assert len(told) == 1
    assert "a carbon listener of run run-1 failed" in caplog.text


def test_threads_lose_nothing_and_number_in_the_order_of_sending() -> None:
    sink = Sink()
    run = new_run(50 * ONE_CALL_G, sink=sink)

    def work() -> None:
        for _ in range(50):
            record(run, threading.current_thread().name)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    usages = [event for event in sink.events if isinstance(event, Usage)]
    assert [usage.seq for usage in usages] == list(range(400))
    assert run.totals.calls == 400
    assert sum(run.agent_totals(thread.name).calls for thread in threads) == 400
    assert run.stop is not None
    # The sum of 50 equal calls may round above 50 times one call.
    assert run.stop.spent_g <= 51.5 * ONE_CALL_G


_FORKS = """
import json, os
from runtime_doubles import ONE_CALL, Sink, new_run

sink = Sink()
run = new_run(sink=sink)
told = dict(agent_id="a", model="small-7b", provider="", region="")
run.record(ONE_CALL, **told)
run._lock.acquire()  # as another thread of the parent might have it
child = os.fork()
if child:
    run._lock.release()
    os.waitpid(child, 0)
run.record(ONE_CALL, **told)
print(json.dumps([[event.producer_id, event.seq] for event in sink.events]), flush=True)
os._exit(0)
"""


def test_a_forked_child_numbers_its_calls_as_a_producer_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKS],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )

    in_child, in_parent = (json.loads(line) for line in done.stdout.splitlines())
    first, by_parent = in_parent
    assert by_parent == [first[0], 1]
    assert in_child[0] == first
    assert in_child[1][0] != first[0]
    assert in_child[1][1] == 0
