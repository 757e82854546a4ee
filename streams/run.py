"""One run's row in the run table: its totals, budget, producers and position. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple, Self

from marlin import budget
from marlin.schemas import AbortAcknowledged, Policy, RunFinished, RunStarted, Usage
from marlin.streams.sequence import SequenceWindow
from marlin.totals import Footprint, Totals

__all__ = ["OTHER_AGENTS", "Breach", "Run"]

MAX_AGENTS = 1000
"""Agents counted apart in one row; usage of further ones is summed under `OTHER_AGENTS`.
DuckDB keeps every agent: this bounds the row, not the ledger."""

MAX_PRODUCERS = 256
"""Producers whose sequence is remembered per run; beyond it the longest known is forgotten."""

OTHER_AGENTS = "(other agents)"

_NO_POLICY = Policy()


class Breach(NamedTuple):
    """A line that the run has just crossed."""

    cause: str
    """Names the command: one per run and cause, whatever is replayed."""
    is_warning: bool
    spent_g: float
    budget_g: float


class Run:
    """A run as the table holds it.

    `position` is the source offset last applied, in the `epoch` of its partition's log; an event
    at or below it changes nothing. All events of a run come from one partition, in order.
    """

    __slots__ = (
        "acknowledged",
        "agents",
        "breached",
        "duplicates",
        "epoch",
        "policy",
        "position",
        "producers",
        "run_id",
        "status",
        "totals",
        "touched_at",
        "warned",
    )

    def __init__(self, run_id: str, *, epoch: int, touched_at: datetime) -> None:
        self.run_id = run_id
        self.epoch = epoch
        self.position = -1
        self.touched_at = touched_at
        """When it was last changed or recovered, by the worker's clock; not kept in the log."""
        self.policy: Policy = _NO_POLICY
        self.status = "running"
        self.totals = Totals()
        self.agents: dict[str, Totals] = {}
        self.producers: dict[str, SequenceWindow] = {}
        self.duplicates = 0
        """Repeated events dropped [count]."""
        self.breached = False
        self.warned: list[float] = []
        self.acknowledged: str | None = None
        """Outcome of the acknowledged abort."""

    @property
    def is_finished(self) -> bool:
        """Whether `run.finished` was seen."""
        return self.status != "running"

    @property
    def lost(self) -> int:
        """Usage events that producers sent and nobody received [count]; late ones lower it."""
        return sum(end - start for p in self.producers.values() for start, end in p.gaps)

    def is_new(self, usage: Usage) -> bool:
        """Whether this usage was not counted before, by its producer's sequence number."""
        window = self.producers.get(usage.producer_id)
        if window is None:
            if len(self.producers) >= MAX_PRODUCERS:
                self.producers.pop(next(iter(self.producers)))
            window = self.producers[usage.producer_id] = SequenceWindow()
        if window.accept(usage.seq):
            return True
        self.duplicates += 1
        return False

    def count(self, usage: Usage, of: Footprint) -> None:
        """Add one call to the run and its agent."""
        self.totals.add(usage, of)
        agent = self.agents.get(usage.agent_id)
        if agent is None:
            agent_id = usage.agent_id if len(self.agents) < MAX_AGENTS else OTHER_AGENTS
            agent = self.agents.setdefault(agent_id, Totals())
        agent.add(usage, of)

    def apply_lifecycle(self, event: RunStarted | RunFinished | AbortAcknowledged) -> None:
        """Take what a lifecycle event says. Repeating one changes nothing.

        The first `run.started` sets the policy: a later one cannot lift a budget.
        """
        if isinstance(event, RunStarted):
            if self.policy is _NO_POLICY:
                self.policy = event.policy
        elif isinstance(event, RunFinished):
            self.status = event.status
        else:
            self.acknowledged = event.outcome

    def breaches(self) -> Iterator[Breach]:
        """The lines crossed since this was last asked; each is given once in a run's life."""
        limit_g = budget.enforced_budget_g(self.policy)
        if limit_g is None:
            return
        spent_g = self.totals.spent_g(self.policy)
        for share in budget.reached_warnings(self.policy, spent_g):
            if share not in self.warned:
                self.warned.append(share)
                yield Breach(budget.warn_cause(share), True, spent_g, limit_g)
        if not self.breached and budget.is_breached(spent_g, limit_g):
            self.breached = True
            yield Breach(budget.REASON, False, spent_g, limit_g)

    def dump(self) -> dict[str, Any]:
        """As JSON, for the changelog."""
        return {
            "v": 1,
            "e": self.epoch,
            "p": self.position,
            "t": self.totals.dump(),
            "a": {agent_id: totals.dump() for agent_id, totals in self.agents.items()},
            "q": {producer: window.dump() for producer, window in self.producers.items()},
            "d": self.duplicates,
            "s": self.status,
            "b": self.breached,
            "w": self.warned,
            "k": self.acknowledged,
            "y": None if self.policy is _NO_POLICY else self.policy.model_dump(),
        }

    @classmethod
    def load(cls, run_id: str, dumped: dict[str, Any], *, touched_at: datetime) -> Self:
        """What `dump` wrote, to the last digit."""
        run = cls(run_id, epoch=dumped["e"], touched_at=touched_at)
        run.position = dumped["p"]
        run.totals = Totals.load(dumped["t"])
        run.agents = {agent_id: Totals.load(t) for agent_id, t in dumped["a"].items()}
        run.producers = {name: SequenceWindow.load(q) for name, q in dumped["q"].items()}
        run.duplicates = dumped["d"]
        run.status = dumped["s"]
        run.breached = dumped["b"]
        run.warned = dumped["w"]
        run.acknowledged = dumped["k"]
        if dumped["y"] is not None:
            run.policy = Policy.model_validate(dumped["y"])
        return run
