"""The meter: `with marlin.run(...) as run:` around any code that calls models.

with marlin.run(50.0, task="a report", on_warn=print) as run:
    with run.agent("researcher"):
        response = client.chat.completions.create(...)      # metered by `marlin.instrument()`
    run.record(usage, model="small-7b")                     # or told by hand
print(run.result.environmental_summary())
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from marlin.errors import CarbonBudgetExceededError, ConfigurationError, DataError
from marlin.estimation import Estimator, default_estimator
from marlin.normalise import read
from marlin.runtime.arguments import checked_policy, environment_settings, policy_of_budget
from marlin.runtime.call import Call
from marlin.runtime.carbon_event import CarbonEvent
from marlin.runtime.current import Scope, current_agent, current_run
from marlin.runtime.farewell import Waits, await_command
from marlin.runtime.in_flight import TasksInFlight
from marlin.runtime.open_calls import OPEN_CALLS
from marlin.runtime.outcome import AgentEnd, result_of
from marlin.runtime.result import AgentStatus, RunResult
from marlin.runtime.run import Run, RunScope, WarningHandler
from marlin.runtime.stop import BudgetWarning
from marlin.runtime.uplink import Uplink, uplink_for
from marlin.schemas import Policy
from marlin.tokens import TokenUsage

if TYPE_CHECKING:
    from marlin.settings import Settings

__all__ = [
    "AgentSpan",
    "BudgetWarning",
    "Call",
    "MeteredRun",
    "current_agent",
    "current_run",
    "metering_run",
    "run",
]

MAX_ID_CHARACTERS = 256


def run(
    policy: Policy | float | None = None,
    *,
    task: str | None = None,
    tenant: str | None = None,
    project: str | None = None,
    labels: Mapping[str, str] | None = None,
    run_id: str | None = None,
    provider: str = "",
    region: str = "",
    on_warn: WarningHandler | None = None,
    preflight: bool = True,
    cancel_in_flight: bool = False,
    kafka: bool | None = None,
    estimator: Estimator | None = None,
    settings: Settings | None = None,
) -> MeteredRun:
    """A run to enter, by `with` or `async with`. Nothing is sent before it is entered.

    >>> import marlin
    >>> with marlin.run(1.0, task="a report", kafka=False) as run:
    ...     with run.agent("writer"):
    ...         event = run.record(marlin.TokenUsage(1200, 300), model="small-7b")
    >>> run.result.status.value, run.result.total_tokens, event.agent_id
    ('completed', 1500, 'writer')

    Where a Kafka cluster is configured or `marlin up` runs, usage is sent there in the background
    and abort commands are obeyed; without one, the same estimates and budget apply locally.

    Args:
        policy: the budget [gCO2e], or a `Policy`; None counts without enforcing.
        task, tenant, project, labels: what the usage is for; copied into the events.
        run_id: a name for the run; None makes one up.
        provider, region: of calls that are recorded without their own, for the estimate.
        on_warn: called once for each of the policy's `warn_at` shares, in the thread that reached
            it; must not block. What it raises is logged and the run goes on.
        preflight: refuse calls whose forecast does not fit into the budget. False: only what was
            spent counts, and the call that crosses the budget is made.
        cancel_in_flight: cancel the tasks given to `MeteredRun.watch` when the run is stopped, as
            a policy of that name says.
        kafka: False: purely local. True: a cluster is required. None: used where there is one.
        estimator, settings: other than the defaults.

    Raises `ConfigurationError` for impossible arguments.
    """
    settings = settings or environment_settings()
    if not isinstance(policy, Policy):
        policy = policy_of_budget(policy)
    if cancel_in_flight:
        policy = policy.model_copy(update={"cancel_in_flight": True})
    uplink = uplink_for(settings, kafka=kafka)
    core = Run(
        run_id or uuid.uuid4().hex,
        checked_policy(policy),
        estimator or default_estimator(),
        sink=uplink,
        scope=RunScope(tenant, project, labels),
        preflight=preflight,
        on_warn=on_warn,
    )
    return MeteredRun(
        core,
        task=task,
        provider=provider,
        region=region,
        uplink=uplink,
        waits=Waits(flush_s=settings.runtime.flush_timeout_s),
    )


class MeteredRun:
    """A run that surrounds code. Made by `run`; entered once.

    Leaving it ends the run: `completed`; `aborted` when it was stopped or a
    `CarbonBudgetExceededError` of its own comes out, which goes on to the caller; `failed` when
    another exception does. A run that was stopped by the last call of all ends as `aborted` and
    raises nothing. With a pipeline, leaving waits briefly for the command that a breach leads to
    and for the events to arrive; a plain `with` inside a running event loop does not wait, as it
    would block the loop: events are then sent in the background, and at the end of the program.
    """

    def __init__(
        self,
        core: Run,
        *,
        task: str | None = None,
        provider: str = "",
        region: str = "",
        uplink: Uplink | None = None,
        waits: Waits | None = None,
    ) -> None:
        self._core = core
        self._task = task
        self._provider = provider
        self._region = region
        self._uplink = uplink
        self._waits = waits or Waits()
        self._in_flight = TasksInFlight(core.policy.cancel_in_flight)
        self._scope = Scope()
        self._entered = False
        self._result: RunResult | None = None
        self._ends: dict[str, AgentEnd] = {}
        """How agents ended that were entered, in the order of their names' first ends."""
        core.when_stopped(self._in_flight.cancel)

    @property
    def run_id(self) -> str:
        """The run."""
        return self._core.run_id

    @property
    def spent_g(self) -> float:
        """Spent so far [gCO2e], on the policy's bound."""
        return self._core.spent_g

    @property
    def reserved_g(self) -> float:
        """What calls under way are expected to take [gCO2e]."""
        return self._core.reserved_g

    @property
    def remaining_g(self) -> float | None:
        """What is left of the budget, calls under way not counted [gCO2e], 0 or more; None where
        nothing is enforced."""
        return self._core.remaining_g

    @property
    def result(self) -> RunResult:
        """How the run ended and what it took. Raises `ConfigurationError` before its end."""
        if self._result is None:
            raise ConfigurationError(
                f"run {self.run_id} has not ended; its result is there after the `with` block"
            )
        return self._result

    def agent(self, name: str) -> AgentSpan:
        """`with run.agent("writer"):` makes an agent the current one, in this thread or task.

        Whatever is called inside finds this run and agent; so do tasks and `asyncio.to_thread`
        started inside. A thread started by hand does not inherit them: enter the agent inside the
        thread, or start it by `contextvars.copy_context().run`. Entering raises
        `CarbonBudgetExceededError` if the run must stop: the agent is blocked.
        """
        return AgentSpan(self, self._core, self._ends, name)

    def record(
        self,
        response_or_usage: object,
        *,
        model: str | None = None,
        provider: str | None = None,
        region: str | None = None,
        agent_id: str | None = None,
        latency_s: float | None = None,
    ) -> CarbonEvent:
        """Count a call that was made: a provider's response, its usage, or a `TokenUsage`.

        What is not given is taken from the response, then from the run. Never raises for a breach:
        what was used counts; the next `check` raises. Raises `DataError` where no usage or no
        model can be found, or for impossible counts, and counts nothing then.
        """
        if type(response_or_usage) is TokenUsage:
            tokens = response_or_usage
        else:
            found = read(response_or_usage)
            tokens, model = found.tokens, model or found.model
            provider = provider or self._provider or found.provider
        if not model:
            raise DataError(
                f"a call of run {self.run_id} names no model and is not counted; give `model=`"
            )
        return self._core.record(
            tokens,
            agent_id=agent_id or current_agent(self),
            model=model,
            provider=provider or self._provider,
            region=region or self._region,
            latency_s=latency_s,
        )

    def check(self) -> None:
        """Raise `CarbonBudgetExceededError` if the run must stop. Call it before costly steps."""
        self._core.check()

    def start_call(
        self,
        *,
        provider: str,
        model: str,
        prompt_tokens: int,
        max_output_tokens: int | None = None,
        region: str | None = None,
        agent_id: str | None = None,
    ) -> Call:
        """Ask for a model call, before it is made: check, forecast, reserve.

        Finish or release what it gives. Raises `CarbonBudgetExceededError` if the run must stop,
        and with reason `carbon_budget_forecast` if the call cannot fit; the run is not over its
        budget then, a smaller call may fit.
        """
        return self._core.start_call(
            agent_id=agent_id or current_agent(self),
            model=model,
            provider=provider or self._provider,
            region=region or self._region,
            prompt_tokens=prompt_tokens,
            max_output_tokens=max_output_tokens,
        )

    def watch(self, task: asyncio.Task[Any]) -> None:
        """Have `task` cancelled when the run is stopped; at once if it was.

        Only in a run whose policy has `cancel_in_flight`; otherwise this does nothing, and calls
        under way end by themselves. The task that recorded the last call is not cancelled: its
        next call raises. May be called for the task that entered the run: the run then raises
        `CarbonBudgetExceededError` in the place of the cancellation.
        """
        self._in_flight.add(task)
        if self._core.stop is not None:
            self._in_flight.cancel()

    def open(self) -> None:
        """Announce the run without making it the current one. `with` does both."""
        if self._entered:
            raise ConfigurationError(f"run {self.run_id} was entered before; make another")
        self._entered = True
        # Listening begins before the run is announced, so that no command can be missed.
        if self._uplink is not None:
            self._uplink.open(self._core)
        try:
            self._core.start(self._task)
        except ConfigurationError:
            if self._uplink is not None:
                self._uplink.close(self._core)
            raise

    def close(self, exc: BaseException | None = None) -> None:
        """End the run, by `exc` if that ended it, without waiting for the pipeline."""
        ends = dict(self._ends)
        for agent_id in self._core.agent_ids:
            if agent_id not in ends:
                ends[agent_id] = AgentEnd(agent_id, AgentStatus.COMPLETED)
        # `sys.exit()` at the end of a program is not a failure of the run around it.
        ends_well = isinstance(exc, SystemExit) and not exc.code
        self._result = result_of(self._core, tuple(ends.values()), None if ends_well else exc)
        self._core.finish(self._result.status, self._result.reason)
        if self._uplink is not None:
            self._uplink.close(self._core)

    def __enter__(self) -> Self:
        self.open()
        self._scope.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        self._scope.leave()
        OPEN_CALLS.settle_of(self)
        raised = self._judge(exc)
        if self._uplink is None or _in_event_loop() or _is_interruption(exc):
            self.close(exc)
        else:
            asyncio.run(self._say_goodbye(self._uplink, exc))
        if raised is not None:
            raise raised from exc

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        self._scope.leave()
        OPEN_CALLS.settle_of(self)
        raised = self._judge(exc)
        if self._uplink is None or (raised is None and _is_interruption(exc)):
            self.close(exc)
        else:
            await self._say_goodbye(self._uplink, exc)
        if raised is not None:
            raise raised from exc

    def _judge(self, exc: BaseException | None) -> CarbonBudgetExceededError | None:
        """What `exc` means for the run; the error to raise in its place, where there is one."""
        refusal = next(_budget_errors(exc, self.run_id), None)
        if refusal is not None:
            self._core.give_up(refusal)
        stop = self._core.stop
        if stop is None or not isinstance(exc, asyncio.CancelledError):
            return None
        return self._core.stop_error(stop) if self._in_flight.explains_cancellation() else None

    async def _say_goodbye(self, uplink: Uplink, exc: BaseException | None) -> None:
        try:
            await await_command(self._core, uplink, self._waits)
        finally:
            self.close(exc)
        await uplink.flush(self._waits.flush_s)


class AgentSpan:
    """What `MeteredRun.agent` gives: an agent at work, entered once."""

    def __init__(self, run: MeteredRun, core: Run, ends: dict[str, AgentEnd], name: str) -> None:
        if not 1 <= len(name) <= MAX_ID_CHARACTERS:
            raise ConfigurationError(
                f"an agent's name has 1 to {MAX_ID_CHARACTERS} characters, got {len(name)}"
            )
        self.name = name
        self._run = run
        self._core = core
        self._ends = ends
        self._scope = Scope()

    @property
    def output(self) -> Any:
        """What the agent has produced so far; None before anything was set.

        Set it as often as there is something new: it is in the run's result and, if the run is
        stopped, in the error's `partial`.
        """
        return self._core.outputs.get(self.name)

    @output.setter
    def output(self, output: Any) -> None:
        self._core.keep(self.name, output)

    def __enter__(self) -> Self:
        try:
            self._core.check()
        except CarbonBudgetExceededError:
            # An agent that had run before and is entered again has not been blocked as a whole.
            self._ends.setdefault(self.name, AgentEnd(self.name, AgentStatus.BLOCKED))
            raise
        self._scope.enter(self._run, self.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        self._scope.leave()
        self._ends[self.name] = AgentEnd(
            self.name, self._status(exc), exc if isinstance(exc, Exception) else None
        )

    def _status(self, exc: BaseException | None) -> AgentStatus:
        if exc is None:
            return AgentStatus.COMPLETED
        refused = next(_budget_errors(exc, self._core.run_id), None) is not None
        cancelled = self._core.stop is not None and isinstance(exc, asyncio.CancelledError)
        return AgentStatus.ABORTED if refused or cancelled else AgentStatus.FAILED


def metering_run() -> MeteredRun:
    """The run that a call counts for: the current one, else this process's ambient run.

    The ambient run has no budget. It is made when first needed and ends with the program.
    """
    return current_run() or _ambient.get()


class _AmbientRun:
    """One run per process, for the calls outside any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: MeteredRun | None = None
        self._process = 0

    def get(self) -> MeteredRun:
        process = os.getpid()
        with self._lock:
            # A forked child inherits the object; as one producer both would number calls alike.
            if self._run is None or self._process != process:
                self._run, self._process = run(task="calls outside any run"), process
                self._run.open()
            return self._run

    def end(self) -> None:
        if self._run is not None and self._process == os.getpid():
            OPEN_CALLS.settle_of(self._run)
            self._run.close()
            self._run = None


_ambient = _AmbientRun()
atexit.register(_ambient.end)


def _budget_errors(exc: BaseException | None, run_id: str) -> Iterator[CarbonBudgetExceededError]:
    """The budget errors of this run in `exc`, which may be a group of a task group."""
    if isinstance(exc, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", exc)
        for inner in group.exceptions:
            yield from _budget_errors(inner, run_id)
    elif isinstance(exc, CarbonBudgetExceededError) and exc.run_id == run_id:
        yield exc


def _is_interruption(exc: BaseException | None) -> bool:
    return exc is not None and not isinstance(exc, Exception)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
