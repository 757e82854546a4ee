"""Carrying out one run: the agents in turn, the budget between them, the goodbye to Kafka."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from marlin.errors import CarbonBudgetExceededError, ConfigurationError
from marlin.runtime.agent import Agent
from marlin.runtime.client import ModelClient
from marlin.runtime.context import AgentContext, CallDefaults, shared_keys
from marlin.runtime.current import Scope
from marlin.runtime.farewell import Waits, await_command
from marlin.runtime.meter import MeteredRun
from marlin.runtime.open_calls import OPEN_CALLS
from marlin.runtime.outcome import AgentEnd, result_of
from marlin.runtime.result import AgentStatus, RunResult, RunStatus
from marlin.runtime.run import Run
from marlin.runtime.uplink import Uplink

__all__ = ["Waits", "Workflow"]

log = logging.getLogger("marlin.runtime")


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
        # What the agents' code finds as the current run.
        self._metered = MeteredRun(run, provider=defaults.provider, region=defaults.region)

    async def carry_out(self, task: str) -> RunResult:
        """Run the agents in order until one fails or the run must stop. Called once.

        Raises only what ends the program or the task (cancellation); the run is then announced
        as failed.
        """
        self._start(task)
        try:
            ended = await self._run_agents(task)
            OPEN_CALLS.settle_of(self._metered)
            await self._await_command()
        except BaseException as exc:
            OPEN_CALLS.settle_of(self._metered)
            self._finish(RunStatus.FAILED, f"interrupted: {type(exc).__name__}")
            raise
        failed = next((one for one in ended if one.status is AgentStatus.FAILED), None)
        result = result_of(self._run, ended, failed.error if failed else None)
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

    async def _run_agents(self, task: str) -> list[AgentEnd]:
        ended: list[AgentEnd] = []
        for agent in self._agents:
            failed = any(one.status is AgentStatus.FAILED for one in ended)
            if failed or self._run.stop is not None:
                ended.append(AgentEnd(agent.agent_id, AgentStatus.BLOCKED))
                continue
            ended.append(await self._run_agent(agent, task))
            self._share(ended[-1])
            if not self._local_enforcement:
                await self._await_command()
        return ended

    async def _run_agent(self, agent: Agent, task: str) -> AgentEnd:
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
        scope = Scope()
        scope.enter(self._metered, agent.agent_id)
        try:
            output = await agent(context)
        except CarbonBudgetExceededError as exc:
            return self._stopped(agent, exc)
        except asyncio.CancelledError as exc:
            if _this_task_is_cancelled():
                raise
            inner = RuntimeError("a task it awaited was cancelled")
            inner.__cause__ = exc
            return self._failed(agent, inner)
        except Exception as exc:
            return self._failed(agent, exc)
        finally:
            scope.leave()
        self._run.keep(agent.agent_id, output)
        return AgentEnd(agent.agent_id, AgentStatus.COMPLETED)

    def _stopped(self, agent: Agent, exc: CarbonBudgetExceededError) -> AgentEnd:
        # Another run's error is this agent's failure.
        if exc.run_id != self._run.run_id:
            return self._failed(agent, exc)
        self._run.give_up(exc)
        return AgentEnd(agent.agent_id, AgentStatus.ABORTED, error=exc)

    def _failed(self, agent: Agent, exc: Exception) -> AgentEnd:
        log.warning(
            "run %s: agent %s failed, the agents after it are blocked: %r",
            *(self._run.run_id, agent.agent_id, exc),
        )
        return AgentEnd(agent.agent_id, AgentStatus.FAILED, error=exc)

    def _share(self, ended: AgentEnd) -> None:
        totals = self._run.agent_totals(ended.agent_id)
        output_key, carbon_key, water_key = shared_keys(ended.agent_id)
        self._shared[output_key] = self._run.outputs.get(ended.agent_id)
        self._shared[carbon_key] = totals.carbon_g
        self._shared[water_key] = totals.water_ml

    async def _await_command(self) -> None:
        if self._uplink is not None:
            await await_command(self._run, self._uplink, self._waits)


def _this_task_is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
