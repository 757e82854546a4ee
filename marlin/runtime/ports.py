"""What a run is connected to: where its events go, who is told, whom it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from marlin.runtime.carbon_event import CarbonEvent
from marlin.runtime.outgoing import OutgoingEvent
from marlin.runtime.stop import BudgetWarning

__all__ = ["CarbonListener", "EventSink", "RunScope", "WarningHandler"]

CarbonListener = Callable[[CarbonEvent], None]
"""Called after each model call, in the thread that recorded it. Must not block; what it raises
is logged and dropped."""

WarningHandler = Callable[[BudgetWarning], None]
"""Called once per `warn_at` share, in the thread that reached it. Must not block; what it raises
is logged and dropped."""


class EventSink(Protocol):
    """Where a run's events go."""

    def emit(self, event: OutgoingEvent) -> None:
        """Take `event`; must return at once and never raise. Called in the order of `seq`."""
        ...


@dataclass(frozen=True, slots=True)
class RunScope:
    """Who a run belongs to; copied into each of its events."""

    tenant: str | None = None
    project: str | None = None
    labels: Mapping[str, str] | None = None
