"""Who counts as deaf, and that it is said once, whatever restarts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from events import NOW, log_of, started, usage
from faust.types import TP

from marlin.estimation import default_estimator
from marlin.schemas import AbortAcknowledged, Command, Policy, RunFinished, command_id
from marlin.streams.escalation import Unanswered, awaits_answer, escalation
from marlin.streams.meter import Meter
from marlin.streams.partition import Outcome, Partition
from marlin.streams.publisher import Publisher
from marlin.streams.table import RunTable
from marlin.streams.transport import Consumer

DEADLINE = timedelta(seconds=30)
BUDGET = Policy(carbon_budget_g=1.5)


@dataclass(frozen=True)
class Told:
    """A run that was told to abort at `NOW`."""

    run_id: str = "run-1"
    policy: Policy = BUDGET
    spent_g: float = 2.5
    breached_at: datetime | None = NOW
    acknowledged: str | None = None
    is_finished: bool = False
    escalated: bool = False


def test_a_run_that_was_told_and_goes_on_awaits_an_answer() -> None:
    assert awaits_answer(Told())


@pytest.mark.parametrize(
    "run",
    [
        Told(breached_at=None),
        Told(acknowledged="stopped"),
        Told(acknowledged="refused"),
        Told(is_finished=True),
        Told(escalated=True),
        Told(policy=Policy(carbon_budget_g=1.5, action="warn")),
        Told(policy=Policy(carbon_budget_g=1.5, action="pause")),
    ],
)
def test_who_was_not_told_answered_ended_or_was_escalated_does_not(run: Told) -> None:
    assert not awaits_answer(run)


def test_an_escalation_says_what_was_not_obeyed_and_what_was_spent_since() -> None:
    assert escalation(Told(), now=NOW + DEADLINE) == Command(
        command_id=command_id("run-1", "abort_unacknowledged"),
        run_id="run-1",
        action="escalate",
        reason="abort_unacknowledged",
        budget_g=1.5,
        spent_g=2.5,
        caused_by=command_id("run-1", "carbon_budget_exceeded"),
        issued_at=NOW + DEADLINE,
    )


def test_only_those_told_until_then_are_overdue_in_their_order() -> None:
    runs = {
        f"run-{late_s}": Told(f"run-{late_s}", breached_at=NOW + timedelta(seconds=late_s))
        for late_s in (2, 0, 1)
    }
    unanswered = Unanswered()
    for run in runs.values():
        unanswered.add(run)

    def overdue(late_s: float) -> list[str]:
        until = NOW + timedelta(seconds=late_s)
        return [run.run_id for run in unanswered.overdue(runs, commanded_until=until)]

    assert overdue(-0.001) == []
    assert overdue(0) == ["run-0"]
    assert overdue(1) == ["run-0", "run-1"]
    assert overdue(5) == ["run-2", "run-0", "run-1"]


def test_who_answers_or_leaves_the_table_is_forgotten() -> None:
    runs = {name: Told(name) for name in ("a", "b", "c")}
    unanswered = Unanswered()
    for run in runs.values():
        unanswered.add(run)
    del runs["a"]
    runs["b"] = replace(runs["b"], acknowledged="stopped")

    assert unanswered.overdue(runs, commanded_until=NOW) == [runs["c"]]
    assert len(unanswered) == 1


# -- in a partition


def breached(*, answered: bool = False) -> tuple[Partition, Outcome]:
    """One run beyond its budget since `NOW`."""
    partition = Partition("events", 3, estimator=default_estimator())
    events: list[Any] = [started(carbon_budget_g=0.0), usage()]
    if answered:
        events.append(acknowledged())
    outcome = partition.apply(log_of(*events), now=NOW, max_event_bytes=1_000_000)
    return partition, outcome


def acknowledged() -> AbortAcknowledged:
    return AbortAcknowledged(
        run_id="run-1",
        command_id=command_id("run-1", "carbon_budget_exceeded"),
        outcome="stopped",
        stopped_at=NOW,
        overshoot_g=0.0,
    )


def escalate(partition: Partition, after_s: float) -> list[Command]:
    now = NOW + timedelta(seconds=after_s)
    outcome = partition.escalate(commanded_until=now - DEADLINE, now=now)
    assert len(outcome.rows) == len(outcome.commands)
    return [Command.model_validate_json(value) for _, value in outcome.commands]


def test_an_unacknowledged_abort_is_escalated_once_after_its_deadline() -> None:
    partition, _ = breached()

    assert escalate(partition, 29.999) == []
    (command,) = escalate(partition, 30)
    assert escalate(partition, 31) == []

    assert (command.run_id, command.action, command.budget_g) == ("run-1", "escalate", 0.0)
    assert command.spent_g == partition.runs["run-1"].carbon_g


def test_an_acknowledged_abort_is_not() -> None:
    partition, _ = breached(answered=True)

    assert escalate(partition, 3600) == []


def test_a_run_that_ended_without_an_answer_is_not() -> None:
    partition, _ = breached()
    end = RunFinished(run_id="run-1", time=NOW, status="aborted")
    partition.apply(log_of(end, start=2), now=NOW, max_event_bytes=1_000_000)

    assert escalate(partition, 3600) == []


def test_an_acknowledgement_in_time_prevents_it_and_a_late_one_is_still_taken() -> None:
    in_time, _ = breached()
    late, _ = breached()
    in_time.apply(log_of(acknowledged(), start=2), now=NOW, max_event_bytes=1_000_000)
    assert escalate(in_time, 30) == []

    assert len(escalate(late, 30)) == 1
    late.apply(log_of(acknowledged(), start=2), now=NOW, max_event_bytes=1_000_000)

    assert late.runs["run-1"].acknowledged == "stopped"
    assert escalate(late, 60) == []


@pytest.mark.parametrize("row_is_durable", [True, False])
def test_a_restarted_worker_escalates_what_is_not_known_to_be_escalated_under_the_same_id(
    row_is_durable: bool,
) -> None:
    partition, outcome = breached()
    now = NOW + DEADLINE
    told = partition.escalate(commanded_until=NOW, now=now)
    rows = [*outcome.rows, *(told.rows if row_is_durable else [])]

    again = Partition("events", 3, estimator=default_estimator())
    for key, value in rows:
        again.recover(key, value, now=now)

    assert again.runs["run-1"].breached_at == NOW
    first = Command.model_validate_json(told.commands[0][1])
    repeated = escalate(again, 100)
    assert [command.command_id for command in repeated] == (
        [] if row_is_durable else [first.command_id]
    )


# -- by the worker


@dataclass
class Log:
    """What the meter asks of its table and its consumer, of one partition."""

    partition: Partition
    end: int | None
    assigned: bool = True
    consumer_generation_id = 1

    @property
    def app(self) -> Log:
        return self

    @property
    def partitions_held(self) -> dict[int, Partition]:
        return {3: self.partition}

    def assignment(self) -> set[TP]:
        return {TP("events", 3)} if self.assigned else set()

    def highwater(self, tp: TP) -> int | None:
        assert tp == TP("events", 3)
        return self.end

    async def publish(self, number: int, outcome: Outcome, done: object) -> None:
        assert number == 3
        assert len(outcome.commands) == 1


async def escalated(log: Log, *, after_s: float) -> int:
    meter = Meter(
        cast(RunTable, log),
        cast(Publisher, log),
        log_has=cast(Any, None),
        max_event_bytes=1,
        now=lambda: NOW + timedelta(seconds=after_s),
    )
    return await meter.escalate(cast(Consumer, log), "events", deadline_s=30.0)


async def test_a_worker_at_the_end_of_the_log_escalates_when_the_deadline_has_passed() -> None:
    log = Log(breached()[0], end=2)

    assert [await escalated(log, after_s=s) for s in (29, 31, 32)] == [0, 1, 0]


@pytest.mark.parametrize("end", [3, None])
async def test_a_worker_that_is_behind_may_have_the_answer_unread(end: int | None) -> None:
    log = Log(breached()[0], end=end)

    assert await escalated(log, after_s=3600) == 0

    # What it has handled since reaches beyond the deadline: there was no answer.
    later = replace(log_of(usage("run-2"), start=2)[0], timestamp=millis(NOW + 2 * DEADLINE))
    log.partition.apply([later], now=NOW, max_event_bytes=1_000_000)
    log.end = end and end + 5
    assert await escalated(log, after_s=3600) == 1


async def test_who_only_stands_by_for_a_partition_or_has_read_nothing_is_silent() -> None:
    standby = Log(breached()[0], end=2, assigned=False)
    unread = Log(Partition("events", 3, estimator=default_estimator()), end=None)

    assert await escalated(standby, after_s=3600) == 0
    assert await escalated(unread, after_s=3600) == 0


def millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)
