"""A run's life: started, finished, and the acknowledgement of an abort."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from marlin.schemas.base import Contract, Fraction, Grams, Id, Label, NonNegative, UtcTime

__all__ = [
    "AbortAcknowledged",
    "Action",
    "Bound",
    "Outcome",
    "Policy",
    "RunFinished",
    "RunStarted",
]

Bound = Literal["low", "central", "high"]
"""Which end of the estimate's range counts against the budget."""

Action = Literal["abort", "pause", "warn"]
"""What a breach asks the runtime to do."""

Outcome = Literal["stopped", "already_finished", "refused"]
"""What the runtime did with a command."""


class Policy(Contract):
    """A run's carbon budget, as runtimes declare it and as it travels in `run.started`."""

    enable_environmental: bool = True
    """False: the run is metered, its budget is not enforced."""
    carbon_budget_g: Grams | None = None
    """Budget [gCO2e]; a breach is spending *more* than it. None: track without enforcing."""
    warn_at: Annotated[tuple[Fraction, ...], Field(max_length=8, strict=False)] = ()
    """Shares of the budget at which a warning is published, once each."""
    bound: Bound = "central"
    action: Action = "abort"
    cancel_in_flight: bool = False
    """Whether a stopped run's tasks under way are cancelled, not only its next calls refused."""


class RunStarted(Contract):
    """A run begins. Sent before its first usage, so that its budget counts from the first call."""

    type: Literal["run.started"] = "run.started"
    run_id: Id
    time: UtcTime
    task: Annotated[str, Field(max_length=4096)] | None = None
    tenant: Label | None = None
    project: Label | None = None
    # Made without its validator, which then is not built before somebody needs it.
    policy: Policy = Policy.model_construct()


class RunFinished(Contract):
    """A run ended, however it did."""

    type: Literal["run.finished"] = "run.finished"
    run_id: Id
    time: UtcTime
    status: Literal["completed", "aborted", "failed"]
    reason: Annotated[str, Field(max_length=1024)] | None = None


class AbortAcknowledged(Contract):
    """A runtime obeyed (or could not obey) a command."""

    type: Literal["abort.acknowledged"] = "abort.acknowledged"
    run_id: Id
    command_id: Id
    outcome: Outcome
    stopped_at: UtcTime
    overshoot_g: Grams
    """What the run spent beyond its budget until it stopped [gCO2e]."""
    overshoot_ms: NonNegative | None = None
    """From the command, or from the breach where the runtime saw it first, to `stopped_at` [ms]."""
