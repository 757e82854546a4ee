"""What lifecycle events and commands say about a run, folded to one row per run.

Every fact has one rule for who wins, so that a run's row ends the same however the records are
split into batches: the first `run.started`, the last `run.finished`, the first acknowledgement,
the earliest abort command.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import orjson

from marlin.schemas import AbortAcknowledged, Command, Lifecycle, RunFinished, RunStarted

__all__ = ["CommandFacts", "RunFacts", "fold_commands", "fold_runs"]


@dataclass(slots=True)
class RunFacts:
    """One row of what is known of a run; None where nothing was said. Columns as in `runs`."""

    run_id: str
    task: str | None = None
    tenant: str | None = None
    project: str | None = None
    enable_environmental: bool | None = None
    carbon_budget_g: float | None = None
    warn_at: str | None = None
    bound: str | None = None
    action: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    finished_status: str | None = None
    finished_reason: str | None = None
    command_id: str | None = None
    aborted_at: datetime | None = None
    command_reason: str | None = None
    ack_outcome: str | None = None
    stopped_at: datetime | None = None
    overshoot_g: float | None = None
    overshoot_ms: float | None = None
    escalated_at: datetime | None = None

    def start(self, event: RunStarted) -> None:
        """Take the first `run.started`; a repeat says nothing new."""
        if self.started_at is not None:
            return
        self.started_at = event.time
        self.task, self.tenant, self.project = event.task, event.tenant, event.project
        policy = event.policy
        self.enable_environmental = policy.enable_environmental
        self.carbon_budget_g = policy.carbon_budget_g
        self.warn_at = orjson.dumps(policy.warn_at).decode()
        self.bound, self.action = policy.bound, policy.action

    def finish(self, event: RunFinished) -> None:
        """Take the last `run.finished`: a run that was resumed finishes again."""
        self.finished_at, self.finished_status = event.time, event.status
        self.finished_reason = event.reason

    def acknowledge(self, event: AbortAcknowledged) -> None:
        """Take the first acknowledgement; a later one only says that the run had stopped."""
        if self.ack_outcome is None:
            self.ack_outcome, self.stopped_at = event.outcome, event.stopped_at
            self.overshoot_g, self.overshoot_ms = event.overshoot_g, event.overshoot_ms

    def abort(self, command: Command) -> None:
        """Take the earliest abort command, by id among those of the same moment."""
        if self.aborted_at is None or (command.issued_at, command.command_id) < (
            self.aborted_at,
            self.command_id or "",
        ):
            self.command_id, self.aborted_at = command.command_id, command.issued_at
            self.command_reason = command.reason

    def escalate(self, command: Command) -> None:
        """Take the earliest word to operators that an abort was not acknowledged."""
        if self.escalated_at is None or command.issued_at < self.escalated_at:
            self.escalated_at = command.issued_at


@dataclass(slots=True)
class CommandFacts:
    """One row of what is known of a command. Columns as in `commands`."""

    command_id: str
    run_id: str
    action: str | None = None
    reason: str | None = None
    budget_g: float | None = None
    spent_g: float | None = None
    caused_by: str | None = None
    issued_at: datetime | None = None
    outcome: str | None = None
    stopped_at: datetime | None = None
    overshoot_g: float | None = None
    overshoot_ms: float | None = None


def fold_runs(lifecycle: Iterable[Lifecycle], commands: Iterable[Command]) -> list[RunFacts]:
    """One row per run that is spoken of. `lifecycle` in log order, without duplicates."""
    runs: dict[str, RunFacts] = {}
    for record in lifecycle:
        facts = runs.setdefault(record.run_id, RunFacts(record.run_id))
        match record.event:
            case RunStarted() as event:
                facts.start(event)
            case RunFinished() as event:
                facts.finish(event)
            case AbortAcknowledged() as event:
                facts.acknowledge(event)
    for command in commands:
        if command.action in ("abort", "escalate"):
            facts = runs.setdefault(command.run_id, RunFacts(command.run_id))
            (facts.abort if command.action == "abort" else facts.escalate)(command)
    return list(runs.values())


def fold_commands(
    lifecycle: Iterable[Lifecycle], commands: Iterable[Command]
) -> list[CommandFacts]:
    """One row per command that is spoken of: the command's first copy, its first answer."""
    rows: dict[str, CommandFacts] = {}
    for command in commands:
        known = rows.get(command.command_id)
        if known is None:
            rows[command.command_id] = CommandFacts(
                command_id=command.command_id,
                run_id=command.run_id,
                action=command.action,
                reason=command.reason,
                budget_g=command.budget_g,
                spent_g=command.spent_g,
                caused_by=command.caused_by,
                issued_at=command.issued_at,
            )
    for record in lifecycle:
        event = record.event
        if isinstance(event, AbortAcknowledged):
            row = rows.setdefault(event.command_id, CommandFacts(event.command_id, record.run_id))
            if row.outcome is None:
                row.outcome, row.stopped_at = event.outcome, event.stopped_at
                row.overshoot_g, row.overshoot_ms = event.overshoot_g, event.overshoot_ms
    return list(rows.values())
