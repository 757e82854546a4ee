"""`command`: what the pipeline tells a runtime to do."""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Literal

from pydantic import Field

from marlin.schemas.base import Contract, Grams, Id, UtcTime
from marlin.schemas.runs import Action

__all__ = ["Command", "command_id"]


def command_id(run_id: str, cause: str) -> str:
    """Id of the one command of a run and cause; the same after every replay.

    `cause` is for instance `carbon_budget_exceeded` or `warn:0.8`.
    """
    return blake2b(f"{cause}\0{run_id}".encode(), digest_size=16).hexdigest()


class Command(Contract):
    """Abort, pause or warn a run, or tell operators of one that does not obey.

    At-least-once: readers keep the first of each `command_id`.
    """

    type: Literal["command"] = "command"
    command_id: Id
    run_id: Id
    action: Action | Literal["escalate"]
    """`escalate` is for operators, not for the runtime: it left its abort unacknowledged."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    budget_g: Grams | None = None
    spent_g: Grams | None = None
    """Spent when the command was issued [gCO2e], on the policy's bound."""
    caused_by: Id | None = None
    """`event_id` of the usage that crossed the line; of an `escalate`, `command_id` of the abort
    that was not acknowledged; None when an operator asked."""
    issued_at: UtcTime
