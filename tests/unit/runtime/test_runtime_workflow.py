"""What a run owes the pipeline: announced, stopped by command, acknowledged, waited for briefly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from runtime_doubles import REGION, FixedClient, Sink, call_g, new_run

from marlin.errors import CarbonBudgetExceededError, ConfigurationError
from marlin.runtime import AgentContext, AgentStatus, RunResult, RunStatus
from marlin.runtime.agent import Agent, AgentFunction
from marlin.runtime.context import CallDefaults
from marlin.runtime.run import OutgoingEvent, Run, RunScope
from marlin.runtime.workflow import Waits, Workflow
from marlin.schemas import Command, Event, RunFinished, Usage, command_id

REASON = "carbon_budget_exceeded"


class Pipeline(Sink):
    """An uplink whose worker is a function of the events; keeps the order of what happened."""

    def __init__(self, worker: Callable[[Event], Command | None] | None = None) -> None:
        super().__init__()
        self.worker = worker
        self.runs: list[Run] = []
        self.log: list[str] = []
        self.reachable = True

    def emit(self, event: OutgoingEvent) -> None:
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
        if self.worker is not None:
            commands = [self.worker(event) for event in self.events]
            for run in self.runs:
                for command in commands:
                    if command is not None:
                        run.obey(command)
        return self.reachable


def budget_command(event: Event) -> Command | None:
    if not isinstance(event, Usage):
        return None
    return Command(
        command_id=command_id(event.run_id, REASON),
        run_id=event.run_id,
        action="abort",
        reason=REASON,
        issued_at=datetime(2026, 3, 1, tzinfo=UTC),
    )


async def one_call(ctx: AgentContext) -> str:
    return (await ctx.call_model("x")).text


async def carry_out(
    run: Run,
    *functions: AgentFunction,
    uplink: Pipeline | None = None,
    local_enforcement: bool = True,
    command_s: float = 30.0,
) -> RunResult:
    return await Workflow(
        [Agent(f"a{number}", function) for number, function in enumerate(functions)],
        run,
        client=FixedClient(),
        defaults=CallDefaults("large-70b", "", REGION),
        uplink=uplink,
        local_enforcement=local_enforcement,
        waits=Waits(command_s=command_s, flush_s=1.0),
    ).carry_out("task")


async def test_listening_begins_before_the_start_and_flushing_comes_last() -> None:
    pipeline = Pipeline()

    await carry_out(new_run(sink=pipeline), one_call, uplink=pipeline)

    assert pipeline.log == ["open", "run.started", "usage", "run.finished", "close", "flush"]


async def test_a_local_stop_waits_for_its_command_and_acknowledges_it() -> None:
    pipeline = Pipeline(budget_command)
    run = new_run(0.0, sink=pipeline)

    result = await carry_out(run, one_call, one_call, uplink=pipeline)

    assert result.command_id == command_id("run-1", REASON)
    assert result.agent("a1").status is AgentStatus.BLOCKED
    assert pipeline.types == ["run.started", "usage", "abort.acknowledged", "run.finished"]


async def test_without_a_command_the_run_ends_all_the_same_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = Pipeline()

    with caplog.at_level(logging.WARNING, "marlin.runtime"):
        result = await carry_out(
            new_run(0.0, sink=pipeline), one_call, uplink=pipeline, command_s=0.01
        )

    assert (result.status, result.command_id) == (RunStatus.ABORTED, None)
    assert "abort.acknowledged" not in pipeline.types
    assert "is a worker running?" in caplog.text


async def test_nobody_waits_for_a_broker_that_is_away() -> None:
    pipeline = Pipeline()
    pipeline.reachable = False

    async with asyncio.timeout(5):
        result = await carry_out(new_run(0.0, sink=pipeline), one_call, uplink=pipeline)

    assert result.status is RunStatus.ABORTED


async def test_a_warning_in_between_is_not_the_command_that_is_waited_for() -> None:
    pipeline = Pipeline()
    run = new_run(0.0, sink=pipeline)
    waiting = asyncio.create_task(carry_out(run, one_call, uplink=pipeline))
    while not run.awaits_command:
        await asyncio.sleep(0)
    usage = next(event for event in pipeline.events if isinstance(event, Usage))
    command = budget_command(usage)
    assert command is not None
    run.obey(command.model_copy(update={"command_id": "w", "action": "warn"}))
    await asyncio.sleep(0.01)
    assert not waiting.done()

    run.obey(command)

    assert (await waiting).command_id == command.command_id


async def test_commands_alone_stop_the_run_where_local_enforcement_is_off() -> None:
    pipeline = Pipeline(budget_command)
    run = new_run(0.0, sink=pipeline, local_enforcement=False)

    result = await carry_out(run, one_call, one_call, uplink=pipeline, local_enforcement=False)

    assert [state.status for state in result.agent_states] == ["completed", "blocked"]
    assert result.stopped_by == "a0"
    assert result.total_carbon_g == call_g()


async def test_no_command_no_stop_where_local_enforcement_is_off() -> None:
    pipeline = Pipeline()
    run = new_run(0.0, sink=pipeline, local_enforcement=False)

    result = await carry_out(
        *(run, one_call, one_call), uplink=pipeline, local_enforcement=False, command_s=0.01
    )

    assert result.status is RunStatus.COMPLETED
    assert result.total_carbon_g == 2 * call_g()


async def test_an_operator_stops_a_run_within_its_budget() -> None:
    pipeline = Pipeline()
    run = new_run(sink=pipeline)

    def operator(_: AgentContext) -> None:
        run.obey(
            Command(
                command_id="op-1",
                run_id="run-1",
                action="abort",
                reason="operator: wrong prompt",
                issued_at=datetime(2026, 3, 1, tzinfo=UTC),
            )
        )

    result = await carry_out(run, one_call, operator, one_call, uplink=pipeline)

    assert (result.status, result.reason) == (RunStatus.ABORTED, "operator: wrong prompt")
    assert [state.status for state in result.agent_states] == ["completed", "completed", "blocked"]
    assert (result.command_id, result.stopped_by) == ("op-1", None)
    assert pipeline.types[-2:] == ["abort.acknowledged", "run.finished"]


async def test_a_breach_counts_more_than_what_fails_after_it() -> None:
    async def breaks_after_the_breach(ctx: AgentContext) -> None:
        await ctx.call_model("x")
        raise ValueError

    result = await carry_out(new_run(0.0), breaks_after_the_breach)

    assert result.status is RunStatus.ABORTED
    assert result.agent("a0").status is AgentStatus.FAILED
    assert isinstance(result.agent("a0").error, ValueError)


async def test_another_runs_budget_error_is_a_failure_of_this_one() -> None:
    def passes_on(_: AgentContext) -> None:
        raise CarbonBudgetExceededError(run_id="other", budget_g=1.0, spent_g=2.0)

    result = await carry_out(new_run(), passes_on)

    assert result.status is RunStatus.FAILED


async def test_a_cancelled_run_is_announced_as_failed() -> None:
    pipeline = Pipeline()

    async def forever(_: AgentContext) -> None:
        await asyncio.Event().wait()

    running = asyncio.create_task(carry_out(new_run(sink=pipeline), forever, uplink=pipeline))
    await asyncio.sleep(0.01)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    finished = pipeline.events[-1]
    assert isinstance(finished, RunFinished)
    assert (finished.status, finished.reason) == ("failed", "interrupted: CancelledError")
    assert pipeline.log[-1] == "close"


async def test_a_task_cancelled_inside_an_agent_fails_that_agent_only() -> None:
    async def cancels_its_own(_: AgentContext) -> None:
        inner = asyncio.ensure_future(asyncio.sleep(10))
        inner.cancel()
        await inner

    result = await carry_out(new_run(), cancels_its_own, one_call)

    assert result.status is RunStatus.FAILED
    assert "a task it awaited was cancelled" in (result.reason or "")


async def test_a_run_that_cannot_start_leaves_no_listener() -> None:
    pipeline = Pipeline()
    run = new_run(sink=pipeline, scope=RunScope(tenant="x" * 300))

    with pytest.raises(ConfigurationError):
        await carry_out(run, one_call, uplink=pipeline)

    assert pipeline.log == ["open", "close"]
