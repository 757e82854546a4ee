"""The events of every benchmark: calls of the public Azure LLM traces, as runtimes send them.

Token counts and times are those of the trace files (`azure_llm_trace_2023_*.csv`, by time); where
these are absent, they are drawn from log-normal distributions of like medians and spread.
The mapping to events is `marlin.replay`'s. The same arguments always give the same bytes.
"""

from __future__ import annotations

import functools
import itertools
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from marlin.replay import Message, Spread, TraceRow, read_trace
from marlin.schemas import Policy, RunStarted, dump

__all__ = ["TRACES", "Fleet", "synthetic_rows", "trace_rows"]

TRACES = Path(
    os.environ.get("BENCH_TRACES") or Path(__file__).resolve().parents[1] / "../shared/data"
)
"""Folder with the traces' CSV files."""

MODELS = (
    ("gpt-4o", "openai", "US"),
    ("gpt-4o-mini", "", ""),
    ("claude-sonnet-4", "", "SE"),
    ("qwen3-32b", "", "DE"),
)
"""Model, provider and region of four fleets. With them an event takes 228 bytes in
the mean."""

BUDGET_G = 1e9
"""Every run has a budget, so that it is checked at each event; none of them reaches it [gCO2e]."""

_SYNTHETIC_ROWS = 28_000
_SYNTHETIC_START = datetime(2023, 11, 16, 18, 15, tzinfo=UTC)


@functools.cache
def trace_rows(folder: Path = TRACES) -> list[TraceRow]:
    """All calls of the traces in `folder` by time, or synthetic ones where it has none."""
    rows: list[TraceRow] = []
    for path in sorted(folder.glob("azure_llm_trace_2023_*.csv")):
        with path.open("rb") as file:
            rows += [row for row in read_trace(file) if isinstance(row, TraceRow)]
    return sorted(rows) or synthetic_rows()


def synthetic_rows(count: int = _SYNTHETIC_ROWS) -> list[TraceRow]:
    """An hour of calls like those of the traces: medians of 1,046 tokens in and 90 out."""
    chance = random.Random(20231116)
    step = timedelta(hours=1) / count
    return [
        TraceRow(
            _SYNTHETIC_START + number * step,
            min(8_000, 1 + int(chance.lognormvariate(6.95, 0.9))),
            min(2_000, 1 + int(chance.lognormvariate(4.5, 1.0))),
        )
        for number in range(count)
    ]


class Fleet:
    """Runs of agents that call models as the traces' users did, round robin over the runs.

    Each run begins with a `run.started` that sets its budget. Run ids are new with every `name`.
    """

    def __init__(
        self, *, runs: int, agents: int = 4, name: str = "", budget_g: float | None = BUDGET_G
    ) -> None:
        self._rows = itertools.cycle(trace_rows())
        self._policy = Policy(carbon_budget_g=budget_g, warn_at=(0.8,))
        spreads: list[Spread] = []
        for number, (model, provider, region) in enumerate(MODELS):
            share = len(range(number, runs, len(MODELS)))
            if share:
                spreads.append(
                    Spread(
                        f"{name}{'abcd'[number]}",
                        model=model,
                        provider=provider,
                        region=region,
                        runs=share,
                        agents=agents,
                    )
                )
        self._turns = itertools.cycle(spreads)
        self._events = self._make()

    def take(self, count: int) -> list[tuple[bytes, bytes]]:
        """The next `count` events, as keys and values of Kafka records."""
        return list(itertools.islice(self._events, count))

    def _make(self) -> Iterator[tuple[bytes, bytes]]:
        for spread, row in zip(self._turns, self._rows, strict=False):
            for message in spread.messages(row):
                yield self._record(message)

    def _record(self, message: Message) -> tuple[bytes, bytes]:
        value = message.value
        if message.tokens is None:
            started = RunStarted(run_id=message.run_id, time=message.time, policy=self._policy)
            value = dump(started)
        # A copy: orjson's results keep four times their size in memory.
        return message.run_id.encode(), bytes(memoryview(value))
