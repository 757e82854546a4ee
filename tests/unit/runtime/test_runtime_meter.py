"""`marlin.run` around any code: who counts for what, how it ends, what is told to whom."""

# What is under test is a `with` statement and what leaves it:
# ruff: noqa: PT012, SIM117

from __future__ import annotations

import asyncio
import contextvars
import doctest
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime_doubles import REGION, Sink, call_g

import marlin
from marlin.errors import CarbonBudgetExceededError, ConfigurationError, DataError
from marlin.runtime import meter
from marlin.runtime.meter import (
    BudgetWarning,
    MeteredRun,
    current_agent,
    current_run,
    metering_run,
    run,
)
from marlin.runtime.result import AgentStatus, RunStatus
from marlin.runtime.run import Run
from marlin.schemas import Command, Policy, command_id
from marlin.tokens import TokenUsage

MODEL = "large-70b"
USAGE = TokenUsage(1000, 200)
ONE_CALL_G = call_g()


def local(budget: Policy | float | None = None, **options: Any) -> MeteredRun:
    arguments: dict[str, Any] = {"preflight": False}
    return run(budget, kafka=False, region=REGION, **(arguments | options))


def call(metered: MeteredRun) -> float:
    return metered.record(USAGE, model=MODEL).carbon_g


def test_a_run_counts_what_is_recorded_by_agent() -> None:
    with local(1.0, run_id="run-1", task="a report") as metered:
        with metered.agent("reader"):
            call(metered)
        with metered.agent("writer") as writer:
            call(metered)
            call(metered)
            writer.output = "text"
        call(metered)

    result = metered.result
    assert (result.run_id, result.status, result.reason) == ("run-1", RunStatus.COMPLETED, None)
    assert result.total_carbon_g == sum([ONE_CALL_G] * 4)
    assert [(s.agent_id, s.status, s.calls) for s in result.agent_states] == [
        *(("reader", "completed", 1), ("writer", "completed", 2), ("default", "completed", 1)),
    ]
    assert result.outputs == {"writer": "text"}


def test_nothing_is_counted_for_a_result_before_the_end() -> None:
    with local() as metered, pytest.raises(ConfigurationError, match="has not ended"):
        _ = metered.result


def test_a_run_is_entered_once() -> None:
    metered = local()
    with metered:
        pass

    with pytest.raises(ConfigurationError, match="entered before"):
        metered.__enter__()


# --- Who counts for what


def test_nested_code_finds_its_run_and_agent() -> None:
    assert (current_run(), current_agent()) == (None, "default")
    with local() as outer, outer.agent("a"):
        assert (current_run(), current_agent()) == (outer, "a")
        with local() as inner:
            assert (current_run(), current_agent()) == (inner, "default")
            with outer.agent("b"):
                assert (current_run(), current_agent()) == (outer, "b")
            assert current_run() is inner
            # A run that is handed in does not take another run's agent for its own.
            assert outer.record(USAGE, model=MODEL).agent_id == "default"
        assert (current_run(), current_agent()) == (outer, "a")
    assert (current_run(), current_agent()) == (None, "default")


async def test_tasks_keep_apart_and_to_thread_inherits() -> None:
    async def work(name: str) -> str:
        async with local(run_id=name) as metered:
            with metered.agent(f"agent of {name}"):
                await asyncio.sleep(0)
                found = await asyncio.to_thread(current_run)
                assert found is metered
                event = await asyncio.to_thread(metered.record, USAGE, model=MODEL)
        assert metered.result.total_carbon_g == ONE_CALL_G
        return event.agent_id

    names = [f"run-{number}" for number in range(20)]

    assert await asyncio.gather(*map(work, names)) == [f"agent of {name}" for name in names]


def test_threads_started_by_hand_are_told() -> None:
    found: dict[str, tuple[MeteredRun | None, str]] = {}

    def look(name: str) -> None:
        found[name] = current_run(), current_agent()

    def in_agent() -> None:
        with metered.agent("worker"):
            look("entered inside")

    with local() as metered, metered.agent("main"):
        context = contextvars.copy_context()
        targets: list[Callable[[], None]] = [
            lambda: look("bare"),
            lambda: context.run(look, "copied"),
            in_agent,
        ]
        for target in targets:
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()

    assert found == {
        "bare": (None, "default"),
        "copied": (metered, "main"),
        "entered inside": (metered, "worker"),
    }


def test_a_generator_may_leave_in_another_context() -> None:
    def steps() -> Any:
        with local() as metered, metered.agent("a"):
            yield metered

    generator = steps()
    metered = contextvars.copy_context().run(next, generator)
    contextvars.copy_context().run(generator.close)

    assert metered.result.status is RunStatus.FAILED
    assert metered.result.reason == "interrupted: GeneratorExit"


# --- What is recorded


def test_a_mapping_of_usage_is_read_and_names_what_is_missing() -> None:
    with local(provider="azure") as metered:
        with pytest.raises(DataError, match="names no model"):
            metered.record(USAGE)
        with pytest.raises(DataError, match="usage"):
            metered.record(object(), model=MODEL)
        event = metered.record(USAGE, model=MODEL, agent_id="x", region="SE", latency_s=0.5)

    assert (event.agent_id, event.usage.provider, event.usage.region) == ("x", "azure", "SE")
    assert event.usage.latency_s == 0.5
    assert metered.result.agent("x").calls == 1


def test_impossible_counts_are_refused_and_nothing_is_counted() -> None:
    with local() as metered:
        with pytest.raises(DataError):
            metered.record(TokenUsage(-1, 0), model=MODEL)

    assert metered.result.total_tokens == 0


# --- How it ends


def test_the_call_that_crosses_is_counted_and_the_next_step_raises() -> None:
    with pytest.raises(CarbonBudgetExceededError) as raised, local(0.5 * ONE_CALL_G) as metered:
        with metered.agent("first") as first:
            first.output = "half a page"
            call(metered)
        assert (metered.spent_g, metered.remaining_g) == (ONE_CALL_G, 0.0)
        with metered.agent("second"):
            pytest.fail("a blocked agent must not run")

    error, result = raised.value, metered.result
    assert (error.agent_id, error.step, error.partial) == ("first", 1, {"first": "half a page"})
    assert (result.status, result.reason) == (RunStatus.ABORTED, "carbon_budget_exceeded")
    assert result.stopped_by == "first"
    assert [(s.agent_id, s.status) for s in result.agent_states] == [
        *(("first", "completed"), ("second", "blocked")),
    ]
    assert result.outputs == {"first": "half a page"}


def test_an_agent_that_is_stopped_at_work_is_aborted_with_what_it_has() -> None:
    with pytest.raises(CarbonBudgetExceededError), local(0.5 * ONE_CALL_G) as metered:
        with metered.agent("writer") as writer:
            for number in range(5):
                metered.check()
                call(metered)
                writer.output = f"page {number}"

    state = metered.result.agent("writer")
    assert (state.status, state.calls, state.output) == (AgentStatus.ABORTED, 1, "page 0")


def test_a_refused_call_that_gets_out_aborts_the_run() -> None:
    with pytest.raises(CarbonBudgetExceededError), local(1e-9, preflight=True) as metered:
        with metered.agent("writer"):
            metered.start_call(provider="", model=MODEL, prompt_tokens=10)

    result = metered.result
    assert (result.status, result.reason) == (RunStatus.ABORTED, "carbon_budget_forecast")
    assert (result.stopped_by, result.total_tokens) == ("writer", 0)
    assert result.agent("writer").status is AgentStatus.ABORTED


def test_a_refused_call_that_is_handled_does_not() -> None:
    with local(call_g(output_tokens=300), preflight=True) as metered:
        with pytest.raises(CarbonBudgetExceededError):
            metered.start_call(provider="", model=MODEL, prompt_tokens=1000)
        metered.start_call(
            provider="", model=MODEL, prompt_tokens=1000, max_output_tokens=300
        ).finish(USAGE)
        assert metered.reserved_g == 0.0

    assert metered.result.status is RunStatus.COMPLETED


def test_a_budget_crossed_by_the_last_call_aborts_and_raises_nothing() -> None:
    with local(0.5 * ONE_CALL_G) as metered:
        call(metered)

    assert metered.result.status is RunStatus.ABORTED


def test_another_exception_fails_the_run_and_names_the_agent() -> None:
    with pytest.raises(LookupError), local() as metered, metered.agent("reader"):
        raise LookupError("no such book")

    result = metered.result
    assert (result.status, result.stopped_by) == (RunStatus.FAILED, "reader")
    assert result.reason == "agent reader failed: LookupError: no such book"
    assert isinstance(result.error, LookupError)


def test_an_exception_outside_any_agent_fails_the_run() -> None:
    with pytest.raises(LookupError), local() as metered:
        raise LookupError("no such book")

    assert metered.result.reason == "failed: LookupError: no such book"
    assert metered.result.stopped_by is None


def test_a_failure_that_is_handled_is_the_agents_alone() -> None:
    with local() as metered:
        with pytest.raises(LookupError), metered.agent("reader"):
            raise LookupError
        with metered.agent("writer"):
            call(metered)

    assert metered.result.status is RunStatus.COMPLETED
    assert metered.result.agent("reader").status is AgentStatus.FAILED


def test_another_runs_budget_is_a_failure_of_this_one() -> None:
    inner = local(0.0)
    with pytest.raises(CarbonBudgetExceededError), local() as outer, outer.agent("a"):
        with inner:
            call(inner)
            inner.check()

    assert (outer.result.status, inner.result.status) == ("failed", "aborted")
    assert outer.result.agent("a").status is AgentStatus.FAILED


@pytest.mark.parametrize(
    ("raised", "status", "reason"),
    [
        (SystemExit(), RunStatus.COMPLETED, None),
        (SystemExit(0), RunStatus.COMPLETED, None),
        (SystemExit(3), RunStatus.FAILED, "interrupted: SystemExit"),
        (KeyboardInterrupt(), RunStatus.FAILED, "interrupted: KeyboardInterrupt"),
    ],
)
def test_leaving_the_program_ends_the_run(
    raised: BaseException, status: RunStatus, reason: str | None
) -> None:
    with pytest.raises(type(raised)), local() as metered:
        raise raised

    assert (metered.result.status, metered.result.reason) == (status, reason)


async def test_a_task_group_that_breaks_on_the_budget_aborts_the_run() -> None:
    metered = local(1e-9, preflight=True)
    with pytest.raises(BaseExceptionGroup):
        async with metered, asyncio.TaskGroup() as group:
            for name in ("a", "b"):
                group.create_task(ask(metered, name))

    assert (metered.result.status, metered.result.stopped_by) == (RunStatus.ABORTED, "a")


async def ask(metered: MeteredRun, name: str) -> None:
    metered.start_call(provider="", model=MODEL, prompt_tokens=1, agent_id=name)


# --- In-flight tasks


async def crosses(metered: MeteredRun) -> None:
    await asyncio.sleep(0)
    call(metered)


async def forever() -> None:
    await asyncio.Event().wait()


async def test_watched_tasks_are_cancelled_when_the_run_stops() -> None:
    metered = local(0.0, cancel_in_flight=True)
    watched, left = asyncio.create_task(forever()), asyncio.create_task(forever())
    crossing = asyncio.create_task(crosses(metered))
    with pytest.raises(CarbonBudgetExceededError) as raised:
        async with metered:
            metered.watch(watched)
            metered.watch(crossing)
            await watched

    assert isinstance(raised.value.__cause__, asyncio.CancelledError)
    assert metered.result.status is RunStatus.ABORTED
    assert (watched.cancelled(), left.done(), crossing.cancelled()) == (True, False, False)
    left.cancel()


async def test_the_task_that_entered_the_run_gets_the_error_instead() -> None:
    task = asyncio.current_task()
    assert task is not None

    metered = local(0.0, cancel_in_flight=True)
    crossing = asyncio.create_task(crosses(metered))
    with pytest.raises(CarbonBudgetExceededError):
        async with metered:
            metered.watch(task)
            await forever()

    assert task.cancelling() == 0
    await crossing


async def test_who_cancels_from_outside_is_obeyed() -> None:
    entered = asyncio.Event()
    runs: list[MeteredRun] = []

    async def work() -> None:
        async with local(0.0, cancel_in_flight=True) as metered:
            runs.append(metered)
            current = asyncio.current_task()
            assert current is not None
            metered.watch(current)
            entered.set()
            await forever()

    working = asyncio.create_task(work())
    await entered.wait()
    call(runs[0])
    working.cancel()

    with pytest.raises(asyncio.CancelledError):
        await working


async def test_tasks_are_cancelled_by_a_stop_seen_in_another_thread() -> None:
    async with local(0.0, cancel_in_flight=True) as metered:
        task = asyncio.create_task(forever())
        metered.watch(task)
        await asyncio.to_thread(call, metered)
        with pytest.raises(asyncio.CancelledError):
            await task

    assert metered.result.status is RunStatus.ABORTED


async def test_a_task_that_comes_too_late_is_cancelled_at_once() -> None:
    async with local(0.0, cancel_in_flight=True) as metered:
        call(metered)
        task = asyncio.create_task(forever())
        metered.watch(task)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_without_the_policy_calls_in_flight_end_by_themselves() -> None:
    async with local(0.0) as metered:
        task = asyncio.create_task(asyncio.sleep(0.01, "done"))
        metered.watch(task)
        call(metered)
        assert await task == "done"


async def test_a_cancelled_run_that_was_not_stopped_has_failed() -> None:
    runs: list[MeteredRun] = []

    async def work() -> None:
        async with local() as metered:
            runs.append(metered)
            await forever()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert runs[0].result.reason == "interrupted: CancelledError"


# --- Warnings


def test_each_share_is_warned_of_once_with_what_was_spent() -> None:
    told: list[BudgetWarning] = []
    policy = Policy(carbon_budget_g=4 * ONE_CALL_G, warn_at=(0.9, 0.25, 0.5))

    with local(policy, on_warn=told.append, run_id="run-1") as metered, metered.agent("a"):
        for _ in range(4):
            call(metered)

    assert [(warning.share, warning.spent_g) for warning in told] == [
        (0.25, ONE_CALL_G),
        (0.5, sum([ONE_CALL_G] * 2)),
        (0.9, sum([ONE_CALL_G] * 4)),
    ]
    assert told[0] == BudgetWarning("run-1", 0.25, ONE_CALL_G, 4 * ONE_CALL_G, "a")


def test_one_call_may_reach_several_shares() -> None:
    told: list[BudgetWarning] = []

    with local(Policy(carbon_budget_g=1e-6, warn_at=(0.5, 1.0)), on_warn=told.append) as metered:
        call(metered)

    assert [warning.share for warning in told] == [0.5, 1.0]


def test_a_handler_may_ask_the_run_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    def handler(warning: BudgetWarning) -> None:
        # Under the run's lock this would never return.
        assert metered.spent_g == warning.spent_g
        metered.check()
        raise ValueError("the pager is down")

    policy = Policy(carbon_budget_g=10 * ONE_CALL_G, warn_at=(0.1,))
    with caplog.at_level(logging.ERROR), local(policy, on_warn=handler, run_id="run-1") as metered:
        call(metered)

    assert metered.result.status is RunStatus.COMPLETED
    assert "a warning handler of run run-1 failed; the run goes on" in caplog.text


def test_a_share_reached_from_many_threads_is_warned_of_once() -> None:
    told: list[BudgetWarning] = []
    policy = Policy(carbon_budget_g=100 * ONE_CALL_G, warn_at=(0.1, 0.2))

    with local(policy, on_warn=told.append) as metered:
        threads = [threading.Thread(target=call, args=(metered,)) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(warning.share for warning in told) == [0.1, 0.2]


# --- The ambient run


def test_calls_outside_any_run_count_for_the_ambient_one() -> None:
    with local() as metered:
        assert metering_run() is metered


IN_CHILD = """
import atexit, os, sys
from marlin import TokenUsage
from marlin.runtime import meter
from marlin.runtime.meter import current_run, metering_run

ambient = metering_run()
assert ambient is metering_run()
assert current_run() is None
ambient.record(TokenUsage(1000, 200), model="large-70b")
assert ambient.remaining_g is None
pid = os.fork()
if pid == 0:
    os._exit(0 if metering_run().run_id != ambient.run_id else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
# Runs first: before the ambient run's own.
atexit.register(lambda: None)
meter._ambient.end()
print(ambient.result.status, ambient.result.total_tokens)
"""


def test_the_ambient_run_is_one_per_process_and_ends_with_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IN_CHILD],
        env={"MARLIN_HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "completed 1200\n"


# --- Arguments


@pytest.mark.parametrize("budget", [-1.0, float("nan"), float("inf"), Policy(action="pause")])
def test_impossible_policies_are_refused(budget: Policy | float) -> None:
    with pytest.raises(ConfigurationError):
        run(budget, kafka=False)


def test_an_id_that_events_cannot_carry_is_refused_and_nothing_is_entered() -> None:
    with pytest.raises(ConfigurationError, match="run_id"):
        local(run_id="x" * 257).__enter__()

    assert current_run() is None


@pytest.mark.parametrize("name", ["", "x" * 257])
def test_an_agents_name_that_events_cannot_carry_is_refused(name: str) -> None:
    with local() as metered, pytest.raises(ConfigurationError, match="1 to 256 characters"):
        metered.agent(name)


def test_the_public_names_are_these() -> None:
    assert (marlin.run, marlin.current_run) == (run, current_run)
    assert (marlin.MeteredRun, marlin.BudgetWarning) == (MeteredRun, BudgetWarning)


def test_the_documented_example_works() -> None:
    failed, tried = doctest.testmod(meter)

    assert (failed, tried > 0) == (0, True)


# --- With a pipeline


class Pipeline(Sink):
    """An uplink that answers the first flush with a command; keeps the order of what happened."""

    def __init__(self, command: Command | None = None) -> None:
        super().__init__()
        self.command = command
        self.runs: list[Run] = []
        self.log: list[str] = []

    def emit(self, event: Any) -> None:
        super().emit(event)
        self.log.append(event.type)

    def open(self, run: Run) -> None:
        self.runs.append(run)
        self.log.append("open")

    def close(self, run: Run) -> None:
        self.runs.remove(run)
        self.log.append("close")

    async def flush(self, timeout_s: float) -> bool:
        self.log.append("flush")
        for one in self.runs:
            if self.command is not None:
                one.obey(self.command)
        return True


def piped(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, budget: float | None = None, **options: Any
) -> MeteredRun:
    def uplink_for(*_: object, **__: object) -> Pipeline:
        return pipeline

    monkeypatch.setattr(meter, "uplink_for", uplink_for)
    arguments: dict[str, Any] = {"run_id": "run-1", "region": REGION, "preflight": False}
    return run(budget, **(arguments | options))


ABORT = Command.model_validate(
    {
        "command_id": command_id("run-1", "carbon_budget_exceeded"),
        "run_id": "run-1",
        "action": "abort",
        "reason": "carbon_budget_exceeded",
        "issued_at": "2026-03-01T00:00:00Z",
    },
    strict=False,
)
ALL_STEPS = [
    *("open", "run.started", "usage", "flush", "abort.acknowledged"),
    *("run.finished", "close", "flush"),
]


def test_leaving_waits_for_the_command_and_for_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(ABORT)

    with piped(monkeypatch, pipeline, 0.0) as metered:
        call(metered)

    assert pipeline.log == ALL_STEPS
    assert metered.result.command_id == ABORT.command_id


async def test_the_async_form_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(ABORT)

    async with piped(monkeypatch, pipeline, 0.0) as metered:
        call(metered)

    assert pipeline.log == ALL_STEPS


async def test_the_plain_form_never_blocks_a_running_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline()

    with piped(monkeypatch, pipeline) as metered:
        call(metered)

    assert pipeline.log == ["open", "run.started", "usage", "run.finished", "close"]


def test_an_interrupted_program_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline()

    with pytest.raises(KeyboardInterrupt), piped(monkeypatch, pipeline):
        raise KeyboardInterrupt

    assert pipeline.log == ["open", "run.started", "run.finished", "close"]


def test_a_run_that_cannot_start_is_not_listened_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline()
    with pytest.raises(ConfigurationError):
        piped(monkeypatch, pipeline, run_id="x" * 257).__enter__()

    assert pipeline.log == ["open", "close"]


async def test_an_operators_abort_reaches_watched_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline()
    operator = ABORT.model_copy(update={"command_id": "op", "reason": "operator: enough"})

    metered = piped(monkeypatch, pipeline, cancel_in_flight=True)
    task = asyncio.create_task(forever())
    with pytest.raises(CarbonBudgetExceededError, match="operator: enough") as raised:
        async with metered:
            metered.watch(task)
            await asyncio.to_thread(pipeline.runs[0].obey, operator)
            await task

    assert raised.value.command_id == "op"
    assert metered.result.reason == "operator: enough"
    assert "abort.acknowledged" in pipeline.types
