"""One live run: what it spent, whether it must stop, and what the pipeline hears of it.

Threads and event loops alike may start calls, record, check and command the same run; a lock makes
each step atomic, and events leave in the order of their `seq`. Whoever is told of something (a
carbon listener, a warning's handler) is told outside the lock.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from marlin import budget
from marlin.errors import CarbonBudgetExceededError, ConfigurationError, DataError
from marlin.estimation import Estimator
from marlin.runtime.allowance import Allowance
from marlin.runtime.call import Call
from marlin.runtime.carbon_event import CarbonEvent
from marlin.runtime.forecast import CallForecaster
from marlin.runtime.forks import renew_in_children
from marlin.runtime.outgoing import Announcement, Origin, OutgoingEvent, RecordedCall
from marlin.runtime.ports import CarbonListener, EventSink, RunScope, WarningHandler
from marlin.runtime.recording import Recorder
from marlin.runtime.result import RunStatus
from marlin.runtime.stop import BudgetWarning, Stop
from marlin.runtime.sums import RunSums
from marlin.runtime.thresholds import Thresholds
from marlin.schemas import AbortAcknowledged, Command, Policy, RunFinished, RunStarted
from marlin.schemas.runs import Outcome
from marlin.tokens import TokenUsage
from marlin.totals import Totals

__all__ = [
    "FORECAST_REASON",
    "CarbonListener",
    "EventSink",
    "OutgoingEvent",
    "Run",
    "RunScope",
    "Stop",
    "WarningHandler",
]

log = logging.getLogger("marlin.runtime")

FORECAST_REASON = "carbon_budget_forecast"
"""Reason of an error that refuses a call which could not fit."""

_Told = TypeVar("_Told")

MAX_TASK_CHARACTERS = 4096
MAX_REASON_CHARACTERS = 1024
"""Limits of the contracts; longer texts are cut, a run never fails for them."""


class Run:
    """The state of one run in this process. Its `producer_id` is its own, so `seq` starts at 0."""

    def __init__(
        self,
        run_id: str,
        policy: Policy,
        estimator: Estimator,
        *,
        sink: EventSink | None = None,
        scope: RunScope | None = None,
        local_enforcement: bool = True,
        preflight: bool = True,
        listeners: tuple[CarbonListener, ...] = (),
        on_warn: WarningHandler | None = None,
    ) -> None:
        scope = scope or RunScope()
        labels = dict(scope.labels) if scope.labels else None
        self.run_id = run_id
        self.policy = policy
        self.budget_g = budget.enforced_budget_g(policy)
        """The enforced budget [gCO2e]; None where nothing is enforced."""
        self._sums = RunSums(policy)
        self.producer_id = uuid.uuid4().hex
        self._origin = Origin(run_id, self.producer_id, scope.tenant, scope.project, labels)
        self._recorder = Recorder(self._origin)
        self._estimator = estimator
        self._sink = sink
        self._local_enforcement = local_enforcement
        self._listeners = listeners
        self._on_warn = on_warn
        self._when_stopped: list[Callable[[], None]] = []
        refuses = preflight and local_enforcement and policy.action == "abort"
        self._allowance = Allowance(self.budget_g if refuses else None)
        self._forecaster = CallForecaster()
        self._outputs: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._seq = 0
        self._thresholds = Thresholds(policy)
        self._crossed_by: str | None = None
        self._stop: Stop | None = None
        self._finished: RunFinished | None = None
        self._commands: dict[str, Command] = {}
        self._unacknowledged: list[Command] = []
        self._waiters: list[Future[None]] = []
        renew_in_children(self)

    @property
    def stop(self) -> Stop | None:
        """Why this run must stop; None while it may go on."""
        return self._stop

    @property
    def spent_g(self) -> float:
        """Spent so far [gCO2e], on the policy's bound."""
        with self._lock:
            return self._sums.spent_g

    @property
    def totals(self) -> Totals:
        """What the run used so far."""
        with self._lock:
            return self._sums.totals

    @property
    def reserved_g(self) -> float:
        """What calls under way are expected to take [gCO2e], on the policy's bound."""
        with self._lock:
            return self._allowance.reserved_g

    @property
    def remaining_g(self) -> float | None:
        """What is left of the budget, calls under way not counted [gCO2e], 0 or more; None where
        nothing is enforced."""
        return None if self.budget_g is None else max(0.0, self.budget_g - self.spent_g)

    @property
    def agent_ids(self) -> tuple[str, ...]:
        """The agents that called a model so far, in the order of their first calls."""
        with self._lock:
            return tuple(self._sums.agents)

    def agent_totals(self, agent_id: str) -> Totals:
        """What an agent used so far; zeros for one that called no model."""
        with self._lock:
            return self._sums.agents.get(agent_id) or Totals()

    def keep(self, agent_id: str, output: Any) -> None:
        """Keep what an agent has produced so far: it goes into the error if the run stops."""
        with self._lock:
            self._outputs[agent_id] = output

    @property
    def outputs(self) -> dict[str, Any]:
        """What was kept, by agent."""
        with self._lock:
            return dict(self._outputs)

    def when_stopped(self, stopped: Callable[[], None]) -> None:
        """Have `stopped` called once the run must stop, in the thread that saw it first.

        Called before the run starts; `stopped` must not block or raise.
        """
        self._when_stopped.append(stopped)

    def start(self, task: str | None) -> None:
        """Announce the run. Called once, before the first `record`.

        Raises `ConfigurationError` for a run id, tenant or project that events cannot carry.
        """
        try:
            started = RunStarted(
                run_id=self.run_id,
                time=datetime.now(UTC),
                task=_text(task, MAX_TASK_CHARACTERS),
                tenant=self._origin.tenant,
                project=self._origin.project,
                policy=self.policy,
            )
        except ValidationError as exc:
            raise ConfigurationError(f"the run cannot start, nothing was sent: {exc}") from exc
        self._announce(started)

    def check(self) -> None:
        """Raise `CarbonBudgetExceededError` if the run must stop. Call it before each step."""
        if self._stop is not None:
            raise self.stop_error(self._stop)

    def stop_error(self, stop: Stop) -> CarbonBudgetExceededError:
        """The error that `stop` is raised as."""
        return CarbonBudgetExceededError(
            run_id=self.run_id,
            budget_g=self.budget_g,
            spent_g=stop.spent_g,
            spent=stop.spent,
            step=stop.step,
            agent_id=stop.agent_id,
            command_id=stop.command_id,
            reason=stop.reason,
            forecast_g=stop.forecast_g,
            partial=self.outputs,
        )

    def start_call(
        self,
        *,
        agent_id: str,
        model: str,
        provider: str,
        region: str,
        prompt_tokens: int,
        max_output_tokens: int | None = None,
    ) -> Call:
        """Ask for a model call, before it is made: check, forecast, reserve.

        What it is expected to take is reserved until the call is finished or released, so that
        calls under way at the same time cannot all slip under the budget. Raises
        `CarbonBudgetExceededError` if the run must stop, and with reason `carbon_budget_forecast`
        if the call cannot fit; the run may go on then, and a smaller call may fit.
        """
        self.check()
        by = self._estimator.coefficients(model, provider, region, datetime.now(UTC))
        with self._lock:
            expected = self._forecaster.expect(
                agent_id, model, prompt_tokens=prompt_tokens, max_output_tokens=max_output_tokens
            )
            central_g = by.footprint(expected.input_tokens, 0, 0, expected.output_tokens)[1]
            forecast_g = budget.spent_g(
                self.policy, central_g * by.carbon_low, central_g, central_g * by.carbon_high
            )
            if self._allowance.fits(self._sums.spent_g, forecast_g):
                self._allowance.reserve(forecast_g)
                refused = None
            else:
                refused = self._stop_now(FORECAST_REASON, agent_id, forecast_g=forecast_g)
        if refused is not None:
            raise self.stop_error(refused)
        return Call(
            self,
            agent_id=agent_id,
            model=model,
            provider=provider,
            region=region,
            prompt_tokens=prompt_tokens,
            forecast_g=forecast_g,
        )

    def settle(
        self, call: Call, tokens: TokenUsage, model: str, latency_s: float
    ) -> CarbonEvent | None:
        """`Call.finish`, with the time it took [s]."""
        try:
            made = self._recorder.record(
                *(tokens, call.agent_id, model, call.provider, call.region, latency_s)
            )
        except DataError:
            self.release(call)
            raise
        return self._count(made, tokens, call)

    def release(self, call: Call) -> None:
        """`Call.release`."""
        with self._lock:
            if not call.is_settled:
                self._end(call)

    def record(
        self,
        tokens: TokenUsage,
        *,
        agent_id: str,
        model: str,
        provider: str,
        region: str,
        latency_s: float | None = None,
    ) -> CarbonEvent:
        """Count one model call: estimate it, add it up, check the budget, send it.

        Never raises for a breach: the call has happened and its reply is paid for; the next
        `check` raises. Raises `DataError` for impossible counts, and counts nothing then.
        """
        made = self._recorder.record(tokens, agent_id, model, provider, region, latency_s)
        event = self._count(made, tokens, None)
        assert event is not None, "only a call that reserved can be settled before"
        return event

    def give_up(self, refusal: CarbonBudgetExceededError) -> None:
        """A refused call ended an agent: the run stops for that reason, unless it had stopped."""
        with self._lock:
            stops = self._stop is None
            if stops:
                self._stop = self._stop_now(
                    refusal.reason, refusal.agent_id, forecast_g=refusal.forecast_g
                )
        self._notify(stops, ())

    def obey(self, command: Command) -> None:
        """Take a command from the pipeline. Repeats of a `command_id` are dropped.

        Called by the command listener, in its thread, at any moment of the run's life and after.
        """
        stops = False
        warnings: Sequence[BudgetWarning] = ()
        with self._lock:
            if command.command_id in self._commands:
                return
            self._commands[command.command_id] = command
            if command.action == "abort":
                stops = self._abort(command)
            elif command.action == "pause":
                log.warning("run %s cannot pause; command %s refused", self.run_id, command)
                self._acknowledge(command, "refused")
            elif command.action == "warn":
                log.warning("run %s: %s", self.run_id, command.reason)
                # The pipeline may know of calls that other processes made for this run.
                shares = self._thresholds.named(command.reason)
                spent_g = self._sums.spent_g if command.spent_g is None else command.spent_g
                warnings = self._warnings(shares, spent_g, None)
            waiters, self._waiters = self._waiters, []
        self._notify(stops, warnings)
        for waiter in waiters:
            # A waiter that gave up is cancelled, and must not be set.
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(None)

    @property
    def awaits_command(self) -> bool:
        """Whether the pipeline will tell this run to stop for its budget and has not yet."""
        with self._lock:
            return self._awaits_command()

    def next_command(self) -> Future[None] | None:
        """Done when the next command arrives; None where no budget command is to come.

        Cancel it when no longer waiting: nothing is set on a cancelled one.
        """
        with self._lock:
            if not self._awaits_command():
                return None
            waiter: Future[None] = Future()
            self._waiters.append(waiter)
            return waiter

    def finish(self, status: RunStatus, reason: str | None) -> None:
        """End the run: acknowledge the commands it obeyed, then announce the end. Called once.

        Commands that arrive later are acknowledged as they come.
        """
        with self._lock:
            finished = RunFinished(
                run_id=self.run_id,
                time=datetime.now(UTC),
                status=status.value,
                reason=_text(reason, MAX_REASON_CHARACTERS),
            )
            for command in self._unacknowledged:
                self._acknowledge(command, "stopped")
            self._unacknowledged = []
            self._finished = finished
            self._announce(finished)

    def _count(
        self, made: RecordedCall, tokens: TokenUsage, settled: Call | None
    ) -> CarbonEvent | None:
        by = self._estimator.coefficients(made.model, made.provider, made.region, made.time)
        taken = by.ranged(
            made.input_tokens, made.cache_read_tokens, made.cache_write_tokens, made.output_tokens
        )
        with self._lock:
            if settled is not None:
                if settled.is_settled:
                    return None
                self._end(settled)
            made.seq = self._seq
            self._seq += 1
            sums = self._sums
            sums.count(made, taken)
            self._forecaster.observe(
                made.agent_id, made.model, tokens, settled.prompt_tokens if settled else None
            )
            spent_g = sums.spent_g
            warnings: Sequence[BudgetWarning] = ()
            if spent_g >= self._thresholds.next_g:
                shares = self._thresholds.reached(spent_g)
                warnings = self._warnings(shares, spent_g, made.agent_id)
            breached = budget.is_breached(spent_g, self.budget_g)
            stops = breached and self._cross(spent_g, made.agent_id)
            event = CarbonEvent(made, taken, sums.carbon_g, sums.water_ml, self.budget_g, breached)
            if self._sink is not None:
                self._sink.emit(made)
        for listener in self._listeners:
            self._tell(listener, event)
        if stops or warnings:
            self._notify(stops, warnings)
        return event

    def _end(self, call: Call) -> None:
        call.is_settled = True
        self._allowance.give_back(call.forecast_g)

    def renew_after_fork(self) -> None:
        """In a forked child: number calls as a producer of its own. By its parent's numbers, they
        would be taken for repeats of the parent's."""
        self._lock = threading.Lock()  # another thread of the parent may hold the old one for ever
        self.producer_id = uuid.uuid4().hex
        self._origin = replace(self._origin, producer_id=self.producer_id)
        self._recorder = Recorder(self._origin)
        self._seq = 0

    def _awaits_command(self) -> bool:
        if self._stop is not None and self._stop.command_id is not None:
            return False
        breached = budget.is_breached(self._sums.spent_g, self.budget_g)
        return breached and self.policy.action == "abort"

    def _warnings(
        self, shares: Sequence[float], spent_g: float, agent_id: str | None
    ) -> list[BudgetWarning]:
        for share in shares:
            log.warning("run %s has spent %g of its carbon budget", self.run_id, share)
        budget_g = self.budget_g or 0.0
        return [BudgetWarning(self.run_id, s, spent_g, budget_g, agent_id) for s in shares]

    def _cross(self, spent_g: float, agent_id: str) -> bool:
        """Take note of a breach; whether the run stops by it, now."""
        if self._crossed_by is not None:
            return False
        self._crossed_by = agent_id
        if self.policy.action == "warn":
            log.warning(
                "run %s: %s: %.6g gCO2e spent of %g by agent %s; its policy lets it go on",
                *(self.run_id, budget.REASON, spent_g, self.budget_g, agent_id),
            )
        elif self._local_enforcement and self._stop is None:
            self._stop = self._stop_now(budget.REASON, agent_id)
            return True
        return False

    def _stop_now(
        self,
        reason: str,
        agent_id: str | None,
        *,
        command_id: str | None = None,
        forecast_g: float | None = None,
    ) -> Stop:
        return Stop(
            reason=reason,
            spent_g=self._sums.spent_g,
            agent_id=agent_id,
            command_id=command_id,
            spent=self._sums.carbon_range_g,
            step=self._sums.calls,
            at=datetime.now(UTC),
            forecast_g=forecast_g,
        )

    def _abort(self, command: Command) -> bool:
        """Take an abort; whether the run stops by it, now."""
        if self._finished is not None:
            stopped = self._stop is not None
            self._acknowledge(command, "stopped" if stopped else "already_finished")
            return False
        self._unacknowledged.append(command)
        if self._stop is None:
            self._stop = self._stop_now(
                command.reason, self._crossed_by, command_id=command.command_id
            )
            return True
        if self._stop.command_id is None and self._stop.reason == command.reason:
            self._stop = replace(self._stop, command_id=command.command_id)
        return False

    def _acknowledge(self, command: Command, outcome: Outcome) -> None:
        budget_g = self.budget_g
        over_g = 0.0 if budget_g is None else self._sums.spent_g - budget_g
        stopped_at = self._finished.time if self._finished else datetime.now(UTC)
        since = command.issued_at
        if self._stop is not None and self._stop.reason == command.reason:
            since = min(since, self._stop.at)
        self._announce(
            AbortAcknowledged(
                run_id=self.run_id,
                command_id=command.command_id,
                outcome=outcome,
                stopped_at=stopped_at,
                overshoot_g=max(0.0, over_g),
                # Clocks differ: a command may seem to come from the future.
                overshoot_ms=max(0.0, (stopped_at - since).total_seconds() * 1000),
            )
        )

    def _announce(self, event: RunStarted | RunFinished | AbortAcknowledged) -> None:
        if self._sink is not None:
            self._sink.emit(Announcement(event))

    def _notify(self, stops: bool, warnings: Sequence[BudgetWarning]) -> None:
        """Tell the run's owner. Called without the lock: a handler may ask the run."""
        if stops:
            for stopped in self._when_stopped:
                stopped()
        if self._on_warn is not None:
            for warning in warnings:
                self._tell(self._on_warn, warning)

    def _tell(self, listener: Callable[[_Told], None], told: _Told) -> None:
        try:
            listener(told)
        except Exception:
            what = "carbon listener" if isinstance(told, CarbonEvent) else "warning handler"
            log.exception("a %s of run %s failed; the run goes on", what, self.run_id)


def _text(text: str | None, limit: int) -> str | None:
    # Lone surrogates cannot travel as UTF-8, and a run must not fail for its task's spelling.
    return text[:limit].encode(errors="replace").decode() if text else None
