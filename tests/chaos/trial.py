"""One trial: a load, a fleet, mayhem, and the reckoning."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from chaos.comparison import Accounts, differences, gather
from chaos.fleet import Fleet
from chaos.ledger import Ledger, record_load
from chaos.mayhem import Broker, Mayhem
from chaos.sending import Sender
from marlin.broker.cluster import create_topics
from marlin.settings import Settings

__all__ = ["Report", "Trial", "run_trial"]

CATCH_UP_S = 240.0
ABORT_DEADLINE_S = 5.0
"""Longest that the fleet, left in peace, may take to be done [s]."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What to try."""

    seed: int
    seconds: float
    runs: int
    calls: int
    workers: int = 2
    sinks: int = 1
    """More than one needs settings with a lake."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it."""

    trial: Trial
    differences: list[str]
    done: Counter[str]
    kills: int
    crashes: list[str]
    events: int
    repeated_sends: int
    repeated_outputs: int

    def __str__(self) -> str:
        acts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.done.items()))
        return (
            f"seed {self.trial.seed}: {self.events} usage events of {self.trial.runs} runs, "
            f"{self.repeated_sends} sent again, {self.repeated_outputs} published again; "
            f"{self.kills} kills ({acts}); {len(self.crashes)} ended by themselves; "
            f"{len(self.differences)} differences"
        )


async def run_trial(
    trial: Trial, settings: Settings, folder: Path, *, broker: Broker | None = None
) -> Report:
    """Send a load through a fleet under mayhem, let it catch up, and compare everything.

    `broker` is restarted too, where it survives that.
    """
    # Nobody acknowledges: each aborted run is to be escalated, once.
    worker = settings.worker.model_copy(update={"abort_deadline_s": ABORT_DEADLINE_S})
    settings = settings.model_copy(update={"worker": worker})
    ledger = record_load(seed=trial.seed, runs=trial.runs, calls=trial.calls)
    await create_topics(settings)
    fleet = Fleet(settings, folder)
    mayhem = Mayhem(
        fleet,
        seed=trial.seed,
        session_timeout_s=settings.worker.session_timeout_s,
        broker=broker,
    )
    sender = Sender(settings, ledger, seconds=trial.seconds, seed=trial.seed)
    try:
        for _ in range(trial.workers):
            fleet.add_worker()
        for _ in range(trial.sinks):
            fleet.add_sink()
        sending = asyncio.create_task(sender.send())
        await mayhem.run(until=sending.done)
        await sending
        await _catch_up(ledger, settings, fleet)
        fleet.stop()
    finally:
        fleet.kill()
    accounts = await gather(settings, sql=trial.sinks > 0)
    return Report(
        trial=trial,
        differences=differences(ledger, accounts, sql=trial.sinks > 0, escalated=True),
        done=mayhem.done,
        kills=mayhem.kills,
        crashes=fleet.crashes,
        events=ledger.calls,
        repeated_sends=sender.repeated,
        repeated_outputs=accounts.repeated_outputs,
    )


async def _catch_up(ledger: Ledger, settings: Settings, fleet: Fleet) -> None:
    """Until the run table says what the ledger says, or time is up: then the comparison tells."""
    if not fleet.workers:
        fleet.add_worker()
    loop = asyncio.get_running_loop()
    until = loop.time() + CATCH_UP_S
    while loop.time() < until:
        fleet.supervise()
        accounts: Accounts = await gather(settings, sql=False)
        if not differences(ledger, accounts, sql=False, escalated=True):
            return
        await asyncio.sleep(2.0)
