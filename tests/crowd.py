"""Many calls of one run at once, near its budget: what pre-flight is for."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from marlin.errors import CarbonBudgetExceededError
from marlin.runtime.meter import MeteredRun, run
from marlin.tokens import TokenUsage

MODEL, REGION = "large-70b", "us-east-1"
CALLS = 200
WARM_UP_CALLS = 64
ROOM_CALLS = 20
"""Calls of average size that the budget leaves room for."""
PROMPT_TOKENS = 500


@dataclass
class Crowd:
    """What became of it."""

    budget_g: float
    spent_g: float = 0.0
    made: int = 0
    refused: int = 0
    errors_g: list[float] = field(default_factory=list[float])
    """What each call took more than it reserved [gCO2e]; negative for less."""

    @property
    def overshoot_g(self) -> float:
        """Spent beyond the budget [gCO2e]."""
        return max(0.0, self.spent_g - self.budget_g)

    @property
    def largest_error_g(self) -> float:
        """The largest amount by which one call took more than its forecast [gCO2e]."""
        return max(0.0, *self.errors_g, 0.0)


def outputs(seed: int, count: int = CALLS) -> list[int]:
    """Output lengths [tokens], log-normal: the mean is 1.13 times the median, the longest is about
    four times that, as conversations have it."""
    chance = random.Random(seed)
    return [max(1, round(chance.lognormvariate(5.0, 0.5))) for _ in range(count)]


def near_budget(preflight: bool, seed: int) -> tuple[MeteredRun, Crowd]:
    """A run that has a history, and a budget with room for `ROOM_CALLS` more."""
    history = [TokenUsage(PROMPT_TOKENS, n) for n in outputs(seed + 1_000_000, WARM_UP_CALLS)]
    probe = run(kafka=False, region=REGION)
    spent_g = [probe.record(usage, model=MODEL).carbon_g for usage in history]
    budget_g = sum(spent_g) * (1 + ROOM_CALLS / WARM_UP_CALLS)
    crowded = run(budget_g, kafka=False, region=REGION, preflight=preflight)
    for usage in history:
        crowded.record(usage, model=MODEL)
    return crowded, Crowd(budget_g)


class _Call:
    def __init__(self, metered: MeteredRun, crowd: Crowd, output_tokens: int) -> None:
        self._metered, self._crowd = metered, crowd
        self._usage = TokenUsage(PROMPT_TOKENS, output_tokens)
        self._call = None

    def start(self) -> None:
        try:
            self._call = self._metered.start_call(
                provider="", model=MODEL, prompt_tokens=PROMPT_TOKENS
            )
        except CarbonBudgetExceededError:
            self._crowd.refused += 1

    def end(self) -> None:
        if self._call is None:
            return
        event = self._call.finish(self._usage)
        assert event is not None
        self._crowd.made += 1
        self._crowd.errors_g.append(event.carbon_g - self._call.forecast_g)


def from_threads(preflight: bool, seed: int, lengths: Sequence[int] | None = None) -> Crowd:
    """Each call in a thread of its own; none ends before all have asked."""
    metered, crowd = near_budget(preflight, seed)
    calls = [_Call(metered, crowd, n) for n in lengths or outputs(seed)]
    together = threading.Barrier(len(calls))

    def work(call: _Call) -> None:
        together.wait()
        call.start()
        together.wait()
        call.end()

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    crowd.spent_g = metered.spent_g
    return crowd


async def from_tasks(preflight: bool, seed: int, lengths: Sequence[int] | None = None) -> Crowd:
    """Each call in a task of its own; they end in the order of their lengths, others ask while
    they are under way."""
    metered, crowd = near_budget(preflight, seed)

    async def work(number: int, output_tokens: int) -> None:
        call = _Call(metered, crowd, output_tokens)
        for _ in range(number % 7):
            await asyncio.sleep(0)
        call.start()
        for _ in range(output_tokens // 10):
            await asyncio.sleep(0)
        call.end()

    await asyncio.gather(*(work(*pair) for pair in enumerate(lengths or outputs(seed))))
    crowd.spent_g = metered.spent_g
    return crowd
