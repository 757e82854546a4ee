"""A recorded load of known sums: what is sent, and what must come out of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from marlin.reconcile import Account
from marlin.schemas import Policy, RunStarted, Usage

__all__ = ["Ledger", "record_load"]

_MODELS = ("small-7b", "medium-13b", "large-70b", "gpt-4o", "claude-sonnet-4", "nobody-knows-70b")
_REGIONS = ("us-east-1", "eu-west-1", "ap-southeast-1", "unheard-of-1")
_AGENTS = ("planner", "researcher", "writer", "critic", "editor")
_START = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(slots=True)
class Ledger:
    """Events in the order each run sends them, and the sums they must lead to."""

    events: list[RunStarted | Usage] = field(default_factory=list[RunStarted | Usage])
    account: Account = field(default_factory=Account)
    budgets_g: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def calls(self) -> int:
        """Usage events, without the duplicates that producers add."""
        return self.account.total.calls

    def add(self, usage: Usage) -> None:
        """Record one call."""
        self.events.append(usage)
        self.account.add(usage)


def record_load(*, seed: int, runs: int, calls: int) -> Ledger:
    """`calls` calls of `runs` runs, interleaved; every fifth run has a budget it breaches."""
    rng = random.Random(seed)
    ledger = Ledger()
    names = [f"chaos-{seed}-{n:05d}" for n in range(runs)]
    for index, run_id in enumerate(names):
        budget_g = 0.02 if index % 5 == 0 else 1e9
        ledger.budgets_g[run_id] = budget_g
        policy = Policy(carbon_budget_g=budget_g, warn_at=(0.5,) if index % 10 == 0 else ())
        ledger.events.append(RunStarted(run_id=run_id, time=_START, policy=policy))
    for number, run_id in enumerate(_order(rng, names, calls)):
        sums = ledger.account.runs.get(run_id)
        ledger.add(_usage(rng, run_id, seq=sums.calls if sums else 0, number=number))
    return ledger


def _order(rng: random.Random, names: list[str], calls: int) -> Iterator[str]:
    # Every run has at least two calls; then chance, so that some runs are busy and some idle.
    yield from names
    yield from names
    for _ in range(calls - 2 * len(names)):
        yield names[min(int(rng.expovariate(3.0) * len(names)), len(names) - 1)]


def _usage(rng: random.Random, run_id: str, *, seq: int, number: int) -> Usage:
    return Usage(
        event_id=f"{run_id}-{seq}",
        run_id=run_id,
        agent_id=rng.choice(_AGENTS),
        producer_id="chaos",
        seq=seq,
        time=_START + timedelta(milliseconds=number),
        provider="openai",
        model=rng.choice(_MODELS),
        region=rng.choice(_REGIONS),
        input_tokens=rng.randrange(1, 9000),
        cache_read_tokens=rng.randrange(3) * 512,
        output_tokens=rng.randrange(1, 2500),
    )
