"""MeshFlow: a workflow of agents, metered, under one carbon budget."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from marlin.errors import CarbonBudgetExceededError, ConfigurationError
from marlin.estimation import Estimator, default_estimator
from marlin.runtime.agent import Agent, AgentFunction
from marlin.runtime.arguments import checked_policy, environment_settings, policy_of_budget
from marlin.runtime.client import ModelClient
from marlin.runtime.context import CallDefaults, shared_keys
from marlin.runtime.live import LiveRun
from marlin.runtime.mock import MockModelClient
from marlin.runtime.result import RunResult
from marlin.runtime.run import CarbonListener, Run, RunScope, WarningHandler
from marlin.runtime.uplink import uplink_for
from marlin.runtime.workflow import Waits, Workflow
from marlin.schemas import Policy

if TYPE_CHECKING:
    from marlin.settings import Settings

__all__ = ["MeshFlow"]

MAX_ID_CHARACTERS = 256

_Function = TypeVar("_Function", bound=AgentFunction)

_TRUE = frozenset({"1", "true", "yes", "on"})


class MeshFlow:
    """Agents that run one after the other, each counted, together within a carbon budget.

    >>> mesh = MeshFlow(carbon_budget_g=500.0, default_model="small-7b", mock=True, kafka=False)
    >>> @mesh.agent("researcher")
    ... async def researcher(ctx):
    ...     return (await ctx.call_model(f"Find facts about {ctx.task}")).text
    >>> @mesh.agent("writer")
    ... def writer(ctx):
    ...     model = "small-7b" if ctx["researcher_carbon_g"] > 0.5 else "large-70b"
    ...     return ctx.call_model_sync(ctx["researcher"], model=model).text
    >>> result = mesh.run_sync(task="tidal power")
    >>> result.status.value, [state.agent_id for state in result.agent_states]
    ('completed', ['researcher', 'writer'])

    A call that cannot fit into the budget is refused before it is made. When the budget is crossed
    all the same, the reply that crossed it is still returned and every later call is refused.
    Refused calls raise `CarbonBudgetExceededError`; an agent that lets it through ends the run as
    aborted, and the agents that had not started never run.

    Where a Kafka cluster is configured or `marlin up` runs, usage is sent there and abort commands
    are obeyed; without one, the same estimates and the same budget apply locally. Agents never
    wait for Kafka.

    Args:
        enable_environmental: False counts as always but enforces no budget.
        carbon_budget_g: budget of each run [gCO2e]; None tracks without enforcing.
        policy: the same and more in one object; instead of the two above.
        default_model: model of the calls that name none.
        provider: provider of the calls, for the estimate (`openai`, `aws`, …).
        region: cloud region or country of the calls, for the estimate.
        agents: the workflow, as `{name: function}`; more can be added later.
        model_client: calls the models. With the mock on, it is not used.
        mock: True or False; None: on where `MESHFLOW_MOCK`, `MARLIN_MOCK` or the settings say so.
        tenant, project, labels: whom the usage is for; copied into each event.
        kafka: False: purely local. True: a cluster is required. None: used where there is one.
        local_enforcement: False leaves stopping to the pipeline's commands alone.
        preflight: refuse calls whose forecast does not fit into the budget. False: only what was
            spent counts, and the call that crosses the budget is made.
        on_warn: called once for each of the policy's `warn_at` shares, in the thread that reached
            it; must not block. What it raises is logged and the run goes on.
        command_grace_s: once a breach is seen here, how long the run waits for the pipeline's
            command, so that it can acknowledge it [s].
        flush_timeout_s: longest a run waits at its end for its events to reach Kafka [s]; None:
            MARLIN_RUNTIME__FLUSH_TIMEOUT_S.
        estimator, settings: other than the defaults.

    Raises `ConfigurationError` for contradicting or impossible arguments.
    """

    def __init__(
        self,
        *,
        enable_environmental: bool | None = None,
        carbon_budget_g: float | None = None,
        policy: Policy | None = None,
        default_model: str | None = None,
        provider: str | None = None,
        region: str = "",
        agents: Mapping[str, AgentFunction] | None = None,
        model_client: ModelClient | None = None,
        mock: bool | None = None,
        tenant: str | None = None,
        project: str | None = None,
        labels: Mapping[str, str] | None = None,
        kafka: bool | None = None,
        local_enforcement: bool = True,
        preflight: bool = True,
        on_warn: WarningHandler | None = None,
        command_grace_s: float = 2.0,
        flush_timeout_s: float | None = None,
        estimator: Estimator | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._settings = settings or environment_settings()
        self.policy = _policy(policy, enable_environmental, carbon_budget_g)
        self._client = _client(model_client, mock, self._settings)
        self._defaults = CallDefaults(default_model, provider or "", region)
        self._scope = RunScope(tenant, project, labels)
        self._kafka = kafka
        self._local_enforcement = local_enforcement
        self._preflight = preflight
        self._on_warn = on_warn
        if flush_timeout_s is None:
            flush_timeout_s = self._settings.runtime.flush_timeout_s
        self._waits = Waits(command_s=command_grace_s, flush_s=flush_timeout_s)
        self._estimator = estimator or default_estimator()
        self._agents: dict[str, Agent] = {}
        self._listeners: tuple[CarbonListener, ...] = ()
        for agent_id, function in (agents or {}).items():
            self.add_agent(agent_id, function)

    def add_agent(
        self,
        agent_id: str,
        function: AgentFunction,
        *,
        model: str | None = None,
        provider: str | None = None,
        region: str | None = None,
    ) -> None:
        """Put an agent at the end of the workflow. Runs that have started do not see it.

        Raises `ConfigurationError` for an unusable or a taken name.
        """
        if not 1 <= len(agent_id) <= MAX_ID_CHARACTERS:
            raise ConfigurationError(
                f"an agent's name has 1 to {MAX_ID_CHARACTERS} characters, got {len(agent_id)}"
            )
        taken = {key: other for other in self._agents for key in shared_keys(other)}
        for key in shared_keys(agent_id):
            if key in taken:
                raise ConfigurationError(
                    f"agent {agent_id!r} would write the context key {key!r}, which belongs to "
                    f"agent {taken[key]!r}; choose another name"
                )
        self._agents[agent_id] = Agent(agent_id, function, model, provider, region)

    def agent(
        self,
        agent_id: str,
        *,
        model: str | None = None,
        provider: str | None = None,
        region: str | None = None,
    ) -> Callable[[_Function], _Function]:
        """`add_agent` as a decorator; the function stays what it was."""

        def register(function: _Function) -> _Function:
            self.add_agent(agent_id, function, model=model, provider=provider, region=region)
            return function

        return register

    def on_carbon(self, listener: CarbonListener) -> Callable[[], None]:
        """Call `listener` after each model call of runs that start from now on.

        It runs in the thread that made the call and must return quickly; what it raises is logged
        and the run goes on. Returns a function that takes it off again.
        """
        self._listeners = (*self._listeners, listener)

        def remove() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not listener)

        return remove

    async def run(
        self, task: str = "", *, run_id: str | None = None, raise_on_breach: bool = False
    ) -> RunResult:
        """Run the workflow once; runs may go on concurrently.

        Returns how the run ended, also when an agent failed or the run was stopped. With
        `raise_on_breach` a stopped run raises `CarbonBudgetExceededError` instead, after it was
        announced and flushed like any other. Raises `ConfigurationError` without agents.
        """
        result, stopped = await self._carry_out(task, run_id or uuid.uuid4().hex, ())
        if raise_on_breach and stopped is not None:
            raise stopped
        return result

    def run_sync(
        self, task: str = "", *, run_id: str | None = None, raise_on_breach: bool = False
    ) -> RunResult:
        """`run` for programs without an event loop; same promises.

        Inside a running loop (a notebook) it blocks that loop and runs in a thread of its own.
        """

        def carry_out() -> RunResult:
            return asyncio.run(self.run(task, run_id=run_id, raise_on_breach=raise_on_breach))

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return carry_out()
        with ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(carry_out).result()

    def start(self, task: str = "", *, run_id: str | None = None) -> LiveRun:
        """Start the workflow on the running event loop; gives its events as they happen."""
        chosen = run_id or uuid.uuid4().hex

        async def carry_out(listener: CarbonListener) -> RunResult:
            result, _ = await self._carry_out(task, chosen, (listener,))
            return result

        return LiveRun(chosen, carry_out)

    async def _carry_out(
        self, task: str, run_id: str, listeners: tuple[CarbonListener, ...]
    ) -> tuple[RunResult, CarbonBudgetExceededError | None]:
        if not self._agents:
            raise ConfigurationError("the workflow has no agents; add one with mesh.add_agent")
        uplink = uplink_for(self._settings, kafka=self._kafka)
        if uplink is None and not self._local_enforcement:
            raise ConfigurationError(
                "local_enforcement=False leaves stopping to Kafka, and there is no cluster: the "
                "budget would not be enforced at all; nothing was started"
            )
        run = Run(
            run_id,
            self.policy,
            self._estimator,
            sink=uplink,
            scope=self._scope,
            local_enforcement=self._local_enforcement,
            preflight=self._preflight,
            on_warn=self._on_warn,
            listeners=(*self._listeners, *listeners),
        )
        workflow = Workflow(
            tuple(self._agents.values()),
            run,
            client=self._client,
            defaults=self._defaults,
            uplink=uplink,
            local_enforcement=self._local_enforcement,
            waits=self._waits,
        )
        result = await workflow.carry_out(task)
        return result, run.stop_error(run.stop) if run.stop else None


def _policy(
    policy: Policy | None, enable_environmental: bool | None, carbon_budget_g: float | None
) -> Policy:
    if policy is None:
        return policy_of_budget(carbon_budget_g, enforce=enable_environmental is not False)
    if enable_environmental is not None or carbon_budget_g is not None:
        raise ConfigurationError(
            "give either policy=Policy(...) or enable_environmental and carbon_budget_g, not both"
        )
    return checked_policy(policy)


def _client(client: ModelClient | None, mock: bool | None, settings: Settings) -> ModelClient:
    if mock is None:
        mock = settings.mock or os.environ.get("MESHFLOW_MOCK", "").strip().lower() in _TRUE
    if mock:
        return MockModelClient()
    if client is None:
        raise ConfigurationError(
            "MeshFlow has no model client: pass model_client=..., an object with "
            "`async def complete(self, prompt, *, model) -> ModelReply`, or use the built-in mock "
            "with MESHFLOW_MOCK=1 or mock=True"
        )
    return client
