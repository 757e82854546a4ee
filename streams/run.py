"""One run's row in the run table: its totals, budget, producers and position. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple, Protocol, Self

import orjson

from marlin import budget
from marlin.errors import StateError
from marlin.schemas import AbortAcknowledged, Policy, RunFinished, RunStarted
from marlin.streams.sequence import SequenceWindow, window_of
from marlin.totals import AgentCall, RunTotals, Totals

__all__ = ["Breach", "Run"]

MAX_PRODUCERS = 256
"""Producers whose sequence is remembered per run; beyond it the longest known is forgotten."""

_VERSION = 2
"""Of the row in the changelog."""

_NEVER = float("inf")


class UsageCall(AgentCall, Protocol):
    """What a row needs of a usage event."""

    @property
    def producer_id(self) -> str: ...
    @property
    def seq(self) -> int: ...


class Breach(NamedTuple):
    """A line that the run has just crossed."""

    cause: str
    """Names the command: one per run and cause, whatever is replayed."""
    is_warning: bool
    spent_g: float
    budget_g: float


class _Terms(NamedTuple):
    """A policy and its JSON. Equal ones are one object: a million runs share a few."""

    policy: Policy
    dumped: orjson.Fragment | None


_NO_TERMS = _Terms(Policy(), None)


@lru_cache(maxsize=4096)
def _terms(policy_json: bytes) -> _Terms:
    return _Terms(Policy.model_validate_json(policy_json), orjson.Fragment(policy_json))


class Run(RunTotals):
    """A run as the table holds it.

    `position` is the source offset last applied, in the `epoch` of its partition's log; an event
    at or below it changes nothing. All events of a run come from one partition, in order.
    """

    __slots__ = (
        "_terms",
        "acknowledged",
        "breached_at",
        "duplicates",
        "epoch",
        "escalated",
        "position",
        "producers",
        "run_id",
        "status",
        "touched_at",
        "warned",
        "watch_g",
    )

    def __init__(self, run_id: str, *, epoch: int, touched_at: datetime) -> None:
        super().__init__()
        self.run_id = run_id
        self.epoch = epoch
        self.position = -1
        self.touched_at = touched_at
        """When it was last changed or recovered, by the worker's clock; not kept in the log."""
        self._terms = _NO_TERMS
        self.status = "running"
        self.watch_g = _NEVER
        """Spending of so much crosses a line, the next one [gCO2e]."""
        self.producers: dict[str, SequenceWindow] = {}
        self.duplicates = 0
        """Repeated events dropped [count]."""
        self.breached_at: datetime | None = None
        """When the budget's breach was seen, by the worker's clock."""
        self.warned: tuple[float, ...] = ()
        self.acknowledged: str | None = None
        """Outcome of the acknowledged abort."""
        self.escalated = False
        """Whether operators were told that its abort stays unacknowledged."""

    @property
    def policy(self) -> Policy:
        """What `run.started` declared; no budget before it."""
        return self._terms.policy

    @property
    def is_finished(self) -> bool:
        """Whether `run.finished` was seen."""
        return self.status != "running"

    @property
    def spent_g(self) -> float:
        """What counts against the budget [gCO2e]."""
        return budget.spent_g(self.policy, self.carbon_g_low, self.carbon_g, self.carbon_g_high)

    @property
    def lost(self) -> int:
        """Usage events that producers sent and nobody received [count]; late ones lower it."""
        return sum(end - start for p in self.producers.values() for start, end in p.gaps)

    def is_new(self, call: UsageCall) -> bool:
        """Whether this usage was not counted before, by its producer's sequence number."""
        window = self.producers.get(call.producer_id)
        if window is None:
            if len(self.producers) >= MAX_PRODUCERS:
                self.producers.pop(next(iter(self.producers)))
            window = self.producers[call.producer_id] = window_of(call.producer_id)()
        if window.accept(call.seq):
            return True
        self.duplicates += 1
        return False

    def apply_lifecycle(self, event: RunStarted | RunFinished | AbortAcknowledged) -> None:
        """Take what a lifecycle event says. Repeating one changes nothing.

        The first `run.started` sets the policy: a later one cannot lift a budget.
        """
        if isinstance(event, RunStarted):
            if self._terms is _NO_TERMS:
                self._terms = _terms(orjson.dumps(event.policy.model_dump()))
                self._watch()
        elif isinstance(event, RunFinished):
            self.status = event.status
        else:
            self.acknowledged = event.outcome

    def breaches(self, now: datetime) -> Iterator[Breach]:
        """The lines crossed since this was last asked; each is given once in a run's life."""
        limit_g = budget.enforced_budget_g(self.policy)
        if limit_g is None:
            return
        spent_g = self.spent_g
        for share in budget.reached_warnings(self.policy, spent_g):
            if share not in self.warned:
                self.warned = (*self.warned, share)
                yield Breach(budget.warn_cause(share), True, spent_g, limit_g)
        if self.breached_at is None and budget.is_breached(spent_g, limit_g):
            self.breached_at = now
            yield Breach(budget.REASON, False, spent_g, limit_g)
        self._watch()

    def dump(self) -> bytes:
        """The row's value in the changelog."""
        row = (
            *(_VERSION, self.epoch, self.position, self.status, self.calls),
            *(self.energy_wh, self.carbon_g, self.carbon_g_low, self.carbon_g_high, self.water_ml),
            *(self.duplicates, self.breached_at, self.warned, self.acknowledged),
            self.escalated,
            self._terms.dumped,
            {agent_id: agent.dump() for agent_id, agent in self.agents.items()},
            {producer: window.dump() for producer, window in self.producers.items()},
        )
        return orjson.dumps(row, option=orjson.OPT_UTC_Z)

    @classmethod
    def load(cls, run_id: str, row: list[Any], *, touched_at: datetime) -> Self:
        """What `dump` wrote, to the last digit. Raises `StateError` for another version's row."""
        if row[0] != _VERSION:
            raise StateError(
                f"the run table holds a row of format {row[0]}, this worker reads {_VERSION}: "
                "let the Marlin that wrote it finish its runs first"
            )
        run = cls(run_id, epoch=row[1], touched_at=touched_at)
        run.position, run.status, run.calls = row[2:5]
        run.energy_wh, run.carbon_g, run.carbon_g_low, run.carbon_g_high, run.water_ml = row[5:10]
        run.duplicates, breached_at, warned, run.acknowledged, run.escalated = row[10:15]
        policy, agents, producers = row[15:]
        run.breached_at = datetime.fromisoformat(breached_at) if breached_at else None
        run.warned = tuple(warned)
        if policy is not None:
            run._terms = _terms(orjson.dumps(policy))
        run.agents = {intern(agent_id): Totals.load(t) for agent_id, t in agents.items()}
        run.producers = {name: window_of(name).load(q) for name, q in producers.items()}
        run._watch()
        return run

    def _new_agent(self, agent_id: str) -> Totals:
        # A million runs share the names of a few agents.
        return super()._new_agent(intern(agent_id))

    def _watch(self) -> None:
        limit_g = budget.enforced_budget_g(self.policy)
        if limit_g is None:
            return
        lines_g = [limit_g * share for share in self.policy.warn_at if share not in self.warned]
        if self.breached_at is None:
            lines_g.append(limit_g)
        self.watch_g = min(lines_g, default=_NEVER)
