"""One live run: what it spent, whether it must stop, and what the pipeline hears of it.

Threads and event loops alike may record, check and command the same run; a lock makes each step
atomic, and events leave in the order of their `seq`.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from pydantic import ValidationError

from marlin import budget
from marlin.errors import CarbonBudgetExceededError, ConfigurationError, DataError
from marlin.estimation import Estimator
from marlin.runtime.carbon_event import CarbonEvent
from marlin.runtime.client import TokenUsage
from marlin.runtime.result import RunStatus
from marlin.schemas import (
    AbortAcknowledged,
    Command,
    Event,
    Policy,
    RunFinished,
    RunStarted,
    Usage,
)
from marlin.schemas.runs import Outcome
from marlin.totals import Totals, footprint

__all__ = ["CarbonListener", "EventSink", "Run", "RunScope", "Stop"]

log = logging.getLogger("marlin.runtime")

MAX_TASK_CHARACTERS = 4096
MAX_REASON_CHARACTERS = 1024
"""Limits of the contracts; longer texts are cut, a run never fails for them."""

CarbonListener = Callable[[CarbonEvent], None]
"""Called after each model call, in the thread that recorded it. Must not block; what it raises
is logged and dropped."""


class EventSink(Protocol):
    """Where a run's events go."""

    def emit(self, event: Event) -> None:
        """Take `event`; must return at once and never raise. Called in the order of `seq`."""
        ...


@dataclass(frozen=True, slots=True)
class RunScope:
    """Who a run belongs to; copied into each of its events."""

    tenant: str | None = None
    project: str | None = None
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run must stop."""

    reason: str
    spent_g: float
    """Spent when the stop was seen [gCO2e], on the policy's bound."""
    agent_id: str | None
    """The agent whose call crossed the budget, if one did."""
    command_id: str | None
    """The command that asked for it; None while only the local check did."""


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
        listeners: tuple[CarbonListener, ...] = (),
    ) -> None:
        self.run_id = run_id
        self.policy = policy
        self.producer_id = uuid.uuid4().hex
        self.totals = Totals()
        self._estimator = estimator
        self._sink = sink
        self._scope = scope or RunScope()
        self._local_enforcement = local_enforcement
        self._listeners = listeners
        self._agents: dict[str, Totals] = {}
        self._lock = threading.Lock()
        self._seq = 0
        self._warned: set[float] = set()
        self._crossed_by: str | None = None
        self._stop: Stop | None = None
        self._finished: RunFinished | None = None
        self._commands: dict[str, Command] = {}
        self._unacknowledged: list[Command] = []
        self._waiters: list[Future[None]] = []

    @property
    def stop(self) -> Stop | None:
        """Why this run must stop; None while it may go on."""
        return self._stop

    @property
    def spent_g(self) -> float:
        """Spent so far [gCO2e], on the policy's bound."""
        with self._lock:
            return self.totals.spent_g(self.policy)

    @property
    def budget_g(self) -> float | None:
        """The enforced budget [gCO2e]; None where nothing is enforced."""
        return budget.enforced_budget_g(self.policy)

    def agent_totals(self, agent_id: str) -> Totals:
        """What an agent used so far; zeros for one that called no model."""
        with self._lock:
            return self._agents.get(agent_id) or Totals()

    def start(self, task: str | None) -> None:
        """Announce the run. Called once, before the first `record`.

        Raises `ConfigurationError` for a run id, tenant or project that events cannot carry.
        """
        try:
            started = RunStarted(
                run_id=self.run_id,
                time=datetime.now(UTC),
                task=_text(task, MAX_TASK_CHARACTERS),
                tenant=self._scope.tenant,
                project=self._scope.project,
                policy=self.policy,
            )
        except ValidationError as exc:
            raise ConfigurationError(f"the run cannot start, nothing was sent: {exc}") from exc
        self._emit(started)

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
            agent_id=stop.agent_id,
            command_id=stop.command_id,
            reason=stop.reason,
        )

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
        with self._lock:
            usage = self._usage(tokens, agent_id, model, provider, region, latency_s)
            by = self._estimator.coefficients(model, provider, region, usage.time)
            taken = footprint(usage, by)
            self._seq += 1
            self.totals.add(usage, taken)
            self._agents.setdefault(agent_id, Totals()).add(usage, taken)
            event = CarbonEvent(
                usage=usage,
                footprint=taken,
                run_carbon_g=self.totals.carbon_g,
                run_water_ml=self.totals.water_ml,
                budget_g=self.budget_g,
                breached=self._check_budget(agent_id),
            )
            self._emit(usage)
        self._tell(event)
        return event

    def obey(self, command: Command) -> None:
        """Take a command from the pipeline. Repeats of a `command_id` are dropped.

        Called by the command listener, in its thread, at any moment of the run's life and after.
        """
        with self._lock:
            if command.command_id in self._commands:
                return
            self._commands[command.command_id] = command
            if command.action == "abort":
                self._abort(command)
            elif command.action == "pause":
                log.warning("run %s cannot pause; command %s refused", self.run_id, command)
                self._acknowledge(command, "refused")
            else:
                log.warning("run %s: %s", self.run_id, command.reason)
            waiters, self._waiters = self._waiters, []
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
            self._emit(finished)

    def _usage(
        self,
        tokens: TokenUsage,
        agent_id: str,
        model: str,
        provider: str,
        region: str,
        latency_s: float | None,
    ) -> Usage:
        try:
            return Usage(
                event_id=uuid.uuid4().hex,
                run_id=self.run_id,
                agent_id=agent_id,
                producer_id=self.producer_id,
                seq=self._seq,
                time=datetime.now(UTC),
                provider=provider,
                model=model,
                region=region,
                input_tokens=tokens.input_tokens,
                cache_read_tokens=tokens.cache_read_tokens,
                cache_write_tokens=tokens.cache_write_tokens,
                output_tokens=tokens.output_tokens,
                reasoning_tokens=tokens.reasoning_tokens,
                latency_s=latency_s,
                cost_usd=tokens.cost_usd,
                tenant=self._scope.tenant,
                project=self._scope.project,
                labels=dict(self._scope.labels) if self._scope.labels else None,
                usage_quality=tokens.quality,
            )
        except ValidationError as exc:
            raise DataError(
                f"usage of agent {agent_id} in run {self.run_id} refused and not counted: {exc}"
            ) from exc

    def _awaits_command(self) -> bool:
        if self._stop is not None and self._stop.command_id is not None:
            return False
        breached = budget.is_breached(self.totals.spent_g(self.policy), self.budget_g)
        return breached and self.policy.action == "abort"

    def _check_budget(self, agent_id: str) -> bool:
        spent_g = self.totals.spent_g(self.policy)
        for share in budget.reached_warnings(self.policy, spent_g):
            if share not in self._warned:
                self._warned.add(share)
                log.warning("run %s has spent %g of its carbon budget", self.run_id, share)
        if not budget.is_breached(spent_g, self.budget_g):
            return False
        if self._crossed_by is None:
            self._crossed_by = agent_id
            if self.policy.action == "warn":
                log.warning(
                    "run %s: %s: %.6g gCO2e spent of %g by agent %s; its policy lets it go on",
                    *(self.run_id, budget.REASON, spent_g, self.budget_g, agent_id),
                )
            elif self._local_enforcement and self._stop is None:
                self._stop = Stop(budget.REASON, spent_g, agent_id, command_id=None)
        return True

    def _abort(self, command: Command) -> None:
        if self._finished is not None:
            stopped = self._stop is not None
            self._acknowledge(command, "stopped" if stopped else "already_finished")
            return
        self._unacknowledged.append(command)
        if self._stop is None:
            spent_g = self.totals.spent_g(self.policy)
            self._stop = Stop(command.reason, spent_g, self._crossed_by, command.command_id)
        elif self._stop.command_id is None and self._stop.reason == command.reason:
            self._stop = replace(self._stop, command_id=command.command_id)

    def _acknowledge(self, command: Command, outcome: Outcome) -> None:
        budget_g = self.budget_g
        over_g = 0.0 if budget_g is None else self.totals.spent_g(self.policy) - budget_g
        stopped_at = self._finished.time if self._finished else datetime.now(UTC)
        self._emit(
            AbortAcknowledged(
                run_id=self.run_id,
                command_id=command.command_id,
                outcome=outcome,
                stopped_at=stopped_at,
                overshoot_g=max(0.0, over_g),
            )
        )

    def _emit(self, event: Event) -> None:
        if self._sink is not None:
            self._sink.emit(event)

    def _tell(self, event: CarbonEvent) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("a carbon listener of run %s failed; the run goes on", self.run_id)


def _text(text: str | None, limit: int) -> str | None:
    # Lone surrogates cannot travel as UTF-8, and a run must not fail for its task's spelling.
    return text[:limit].encode(errors="replace").decode() if text else None
