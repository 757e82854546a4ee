"""Carrying out one run: the agents in turn, the budget between them, the goodbye to Kafka."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marlin.errors import CarbonBudgetExceededError, ConfigurationError
from marlin.runtime.agent import Agent
from marlin.runtime.client import ModelClient
from marlin.runtime.context import AgentContext, CallDefaults, shared_keys
from marlin.runtime.result import AgentState, AgentStatus, RunResult, RunStatus
from marlin.runtime.run import Run
from marlin.runtime.uplink import Uplink

__all__ = ["Waits", "Workflow"]

log = logging.getLogger("marlin.runtime")


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a run may wait for the pipeline; both bounds are reached only when it is away."""

    command_s: float
    """For the command that a breach leads to [s]."""
    flush_s: float
    """For events to reach Kafka at the run's end [s]."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """How one agent ended."""

    agent_id: str
    status: AgentStatus
    output: Any = None
    error: Exception | None = None


class Workflow:
    """One run of a list of agents."""

    def __init__(
        self,
        agents: Sequence[Agent],
        run: Run,
        *,
        client: ModelClient,
        defaults: CallDefaults,
        uplink: Uplink | None,
        local_enforcement: bool,
        waits: Waits,
    ) -> None:
        self._agents = agents
        self._run = run
        self._client = client
        self._defaults = defaults
        self._uplink = uplink
        self._local_enforcement = local_enforcement
        self._waits = waits
        self._shared: dict[str, Any] = {}

    async def carry_out(self, task: str) -> RunResult:
        """Run the agents in order until one fails or the run must stop. Called once.

        Raises only what ends the program or the task (cancellation); the run is then announced
        as failed.
        """
        self._start(task)
        try:
            ended = await self._run_agents(task)
            await self._await_command()
        except BaseException as exc:
            self._finish(RunStatus.FAILED, f"interrupted: {type(exc).__name__}")
            raise
        result = _result(self._run, ended)
        self._finish(result.status, result.reason)
        if self._uplink is not None:
            await self._uplink.flush(self._waits.flush_s)
        return result

    def _start(self, task: str) -> None:
        # Listening begins before the run is announced, so that no command can be missed.
        if self._uplink is not None:
            self._uplink.open(self._run)
        try:
            self._run.start(task)
        except ConfigurationError:
            if self._uplink is not None:
                self._uplink.close(self._run)
            raise

    def _finish(self, status: RunStatus, reason: str | None) -> None:
        self._run.finish(status, reason)
        if self._uplink is not None:
            self._uplink.close(self._run)

    async def _run_agents(self, task: str) -> list[_Ended]:
        ended: list[_Ended] = []
        for agent in self._agents:
            failed = any(one.status is AgentStatus.FAILED for one in ended)
            if failed or self._run.stop is not None:
                ended.append(_Ended(agent.agent_id, AgentStatus.BLOCKED))
                continue
            ended.append(await self._run_agent(agent, task))
            self._share(ended[-1])
            if not self._local_enforcement:
                await self._await_command()
        return ended

    async def _run_agent(self, agent: Agent, task: str) -> _Ended:
        context = AgentContext(
            self._run,
            agent.agent_id,
            task,
            client=self._client,
            defaults=CallDefaults(
                agent.model or self._defaults.model,
                agent.provider or self._defaults.provider,
                agent.region or self._defaults.region,
            ),
            shared=self._shared,
            loop=asyncio.get_running_loop(),
        )
        try:
            output = await agent(context)
        except CarbonBudgetExceededError as exc:
            # Our own stop, or an error of that name that the agent made up or passed on.
            stopped = self._run.stop is not None and exc.run_id == self._run.run_id
            status = AgentStatus.ABORTED if stopped else AgentStatus.FAILED
            return _Ended(agent.agent_id, status, error=exc)
        except asyncio.CancelledError as exc:
            if _this_task_is_cancelled():
                raise
            inner = RuntimeError("a task it awaited was cancelled")
            inner.__cause__ = exc
            return self._failed(agent, inner)
        except Exception as exc:
            return self._failed(agent, exc)
        return _Ended(agent.agent_id, AgentStatus.COMPLETED, output)

    def _failed(self, agent: Agent, exc: Exception) -> _Ended:
        log.warning(
            "run %s: agent %s failed, the agents after it are blocked: %r",
            *(self._run.run_id, agent.agent_id, exc),
        )
        return _Ended(agent.agent_id, AgentStatus.FAILED, error=exc)

    def _share(self, ended: _Ended) -> None:
        totals = self._run.agent_totals(ended.agent_id)
        output_key, carbon_key, water_key = shared_keys(ended.agent_id)
        self._shared[output_key] = ended.output
        self._shared[carbon_key] = totals.carbon_g
        self._shared[water_key] = totals.water_ml

    async def _await_command(self) -> None:
        """Give the pipeline a moment to see the breach that we see already.

        With its command's id the run can acknowledge; without one it ends all the same.
        """
        if self._uplink is None or not self._run.awaits_command:
            return
        if not await self._uplink.flush(self._waits.flush_s):
            return
        try:
            async with asyncio.timeout(self._waits.command_s):
                # Other commands, warnings for instance, may come first.
                while (command := self._run.next_command()) is not None:
                    await asyncio.wrap_future(command)
        except TimeoutError:
            log.warning(
                "run %s is over its budget and no command came within %g s; is a worker running?",
                *(self._run.run_id, self._waits.command_s),
            )


def _this_task_is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _result(run: Run, ended: Sequence[_Ended]) -> RunResult:
    stop = run.stop
    failed = next((one for one in ended if one.status is AgentStatus.FAILED), None)
    totals = run.totals
    outputs = {one.agent_id: one.output for one in ended if one.status is AgentStatus.COMPLETED}
    if stop is not None:
        status, reason, stopped_by = RunStatus.ABORTED, stop.reason, stop.agent_id
    elif failed is not None:
        status, stopped_by = RunStatus.FAILED, failed.agent_id
        reason = f"agent {failed.agent_id} failed: {type(failed.error).__name__}: {failed.error}"
    else:
        status, reason, stopped_by = RunStatus.COMPLETED, None, None
    return RunResult(
        run_id=run.run_id,
        status=status,
        reason=reason,
        stopped_by=stopped_by,
        command_id=stop.command_id if stop else None,
        carbon_budget_g=run.budget_g,
        total_carbon_g=totals.carbon_g,
        carbon_range_g=totals.carbon_range_g,
        total_embodied_g=totals.embodied_g,
        total_water_ml=totals.water_ml,
        total_energy_wh=totals.energy_wh,
        total_tokens=totals.tokens,
        total_cost_usd=totals.cost_usd,
        agent_states=tuple(_state(run, one) for one in ended),
        outputs=outputs,
        error=failed.error if failed else None,
    )


def _state(run: Run, ended: _Ended) -> AgentState:
    totals = run.agent_totals(ended.agent_id)
    return AgentState(
        agent_id=ended.agent_id,
        status=ended.status,
        calls=totals.calls,
        tokens=totals.tokens,
        energy_wh=totals.energy_wh,
        carbon_g=totals.carbon_g,
        carbon_range_g=totals.carbon_range_g,
        water_ml=totals.water_ml,
        cost_usd=totals.cost_usd,
        output=ended.output,
        error=ended.error,
    )
