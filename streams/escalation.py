"""Aborts that nobody acknowledges: when a runtime counts as deaf, and what is said of it. Pure.

A runtime acknowledges its abort when its run has stopped. One that was killed, never heard the
command or does not obey it leaves the run unacknowledged; past its deadline that is told once, by
a command that is for operators and alerts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol, TypeVar

from marlin import budget
from marlin.schemas import Command, Policy, command_id

__all__ = ["REASON", "Commanded", "Unanswered", "awaits_answer", "escalation"]

REASON = "abort_unacknowledged"


class Commanded(Protocol):
    """What is asked of a run."""

    @property
    def run_id(self) -> str: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def spent_g(self) -> float: ...
    @property
    def breached_at(self) -> datetime | None:
        """When its budget's command was issued; None before."""
        ...

    @property
    def acknowledged(self) -> str | None:
        """Outcome of the acknowledged abort."""
        ...

    @property
    def is_finished(self) -> bool: ...
    @property
    def escalated(self) -> bool: ...


_Run = TypeVar("_Run", bound=Commanded)


def awaits_answer(run: Commanded) -> bool:
    """Whether `run` was told to abort, and neither answered nor ended nor was escalated.

    A run that has ended without an answer spends nothing any more: it is not escalated.
    """
    return (
        run.breached_at is not None
        and run.policy.action == "abort"
        and run.acknowledged is None
        and not run.is_finished
        and not run.escalated
    )


def escalation(run: Commanded, *, now: datetime) -> Command:
    """The one escalation of `run`: its id is the same whenever and by whomever it is made."""
    return Command(
        command_id=command_id(run.run_id, REASON),
        run_id=run.run_id,
        action="escalate",
        reason=REASON,
        budget_g=budget.enforced_budget_g(run.policy),
        spent_g=run.spent_g,
        caused_by=command_id(run.run_id, budget.REASON),
        issued_at=now,
    )


class Unanswered:
    """The runs of a partition that were told to abort. Most answer within milliseconds, so they
    are few; looking through them never reads the whole table."""

    def __init__(self) -> None:
        self._run_ids: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._run_ids)

    def add(self, run: Commanded) -> None:
        """Take note of `run` if it awaits an answer."""
        if awaits_answer(run):
            self._run_ids[run.run_id] = None

    def overdue(self, runs: Mapping[str, _Run], *, commanded_until: datetime) -> list[_Run]:
        """Those commanded at or before then, in the order they were noted. `runs` is the table;
        who has left it, or awaits nothing any more, is forgotten."""
        waiting = [run for name in self._run_ids if (run := runs.get(name)) and awaits_answer(run)]
        self._run_ids = dict.fromkeys(run.run_id for run in waiting)
        return [run for run in waiting if run.breached_at and run.breached_at <= commanded_until]
