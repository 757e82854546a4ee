"""How the worker's throughput and memory go with workers, partitions, live runs and agents.

    python bench/scaling.py [--broker apache|embedded] [--events 400000] [--rounds 5]
                            [--sweeps workers partitions runs agents] [--most-runs 1000000]

One thing varies in each sweep; the others stay at 1 worker, 8 partitions, 1,000 runs, 4 agents a
run. The points of a sweep are measured in turn, round after round. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from machine import BOTH, MEASURED, THE_OTHER, Broker, NewBroker, pin, stage
from processes import new_settings, worker
from trace_events import Fleet
from traffic import Progress, by_partition, delete_topics, follow, send, send_spread

from marlin.settings import Settings
from marlin.topics import Topics

SETTLE_S = 2.0
"""Given to the first of two workers to notice that it lost half of its partitions [s]."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Point:
    """One combination; equal ones of several sweeps are measured once."""

    sweep: str = field(compare=False)
    label: str = field(compare=False)
    workers: int = 1
    partitions: int = 8
    runs: int = 1000
    agents: int = 4
    broker_cores: tuple[int, ...] = tuple(THE_OTHER)


def points(most_runs: int) -> list[Point]:
    """All of them, by sweep."""
    both, same = tuple(BOTH), tuple(MEASURED)
    return [
        Point("workers", "1, broker on the other core"),
        Point("workers", "1, broker on the same core", broker_cores=same),
        Point("workers", "2, broker on the same two cores", workers=2, broker_cores=both),
        *[Point("partitions", f"{count}", partitions=count) for count in (1, 8, 16, 64)],
        *[
            Point("runs", f"{count:,}", runs=count)
            for count in (10, 1000, 100_000, 1_000_000)
            if count <= most_runs
        ],
        *[Point("agents", f"{count}", agents=count) for count in (1, 4, 10, 100)],
    ]


async def measure(point: Point, broker: Broker, folder: Path, count: int) -> Figures:
    """Figures of one point: `count` events after every run has had its first."""
    pin(broker.process.pid, list(point.broker_cores))
    settings = await new_settings(broker, folder, partitions=point.partitions)
    topics = Topics(settings.kafka.topic_prefix)
    fleet = Fleet(runs=point.runs, agents=point.agents)
    first = 2 * point.runs  # its start and one call, for each
    events = fleet.take(first + count)
    few = point.runs > 1000
    if few:
        # The runs stay live while only a thousand others go on.
        events += Fleet(runs=1000, agents=point.agents, name="x").take(count)
    try:
        progress = await _run(point, broker, folder, settings, topics, events)
    finally:
        await delete_topics(settings)
    # Neither the beginning nor the last batches: what is under way at both ends is then alike.
    spread = progress.between(first + 0.1 * count, first + 0.9 * count)
    figures = {
        "per_s": spread.per_s,
        "cpu_us": spread.cpu_us,
        "broker_cpu_us": spread.broker_cpu_us,
        "rss_mb": progress.samples[-1].rss_bytes / 1e6,
    }
    if few:
        active = progress.between(first + 1.1 * count, first + 1.9 * count)
        figures |= {"few_active_per_s": active.per_s, "few_active_cpu_us": active.cpu_us}
    return figures


async def _run(
    point: Point,
    broker: Broker,
    folder: Path,
    settings: Settings,
    topics: Topics,
    events: list[tuple[bytes, bytes]],
) -> Progress:
    """One worker finds the events there; two must share the partitions before they begin."""
    total = len(events)
    if point.workers == 1:
        await send(settings, topics.events, events)
        events.clear()  # a gigabyte, with a million runs
        async with worker(settings, folder) as process:
            return await follow(settings, topics.carbon, total, [process], broker.process)
    spread = by_partition(events, point.partitions)
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(worker(settings, folder, cores=[core]))
            for core in BOTH[: point.workers]
        ]
        await asyncio.sleep(SETTLE_S)
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            await send_spread(settings, topics.events, spread)
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)
        return await follow(settings, topics.carbon, total, processes, broker.process)


def medians(rounds: list[Figures]) -> Figures:
    """Medians, with the lowest and highest throughput."""
    rates = [one["per_s"] for one in rounds]
    return {
        "rounds": len(rounds),
        **{name: statistics.median(one[name] for one in rounds) for name in rounds[0]},
        "per_s_low": min(rates),
        "per_s_high": max(rates),
    }


async def sweep(
    chosen: list[Point], new_broker: NewBroker, folder: Path, count: int, rounds: int
) -> dict[str, dict[str, Figures]]:
    """Every point of the chosen sweeps, in turn."""
    found: dict[Point, list[Figures]] = defaultdict(list)
    for number in range(rounds):
        unique = list(dict.fromkeys(chosen))
        for point in unique if number % 2 == 0 else unique[::-1]:
            async with new_broker() as broker:
                figures = await measure(point, broker, folder, count)
            found[point].append(figures)
            print(
                f"  {number + 1}/{rounds} {point.sweep}: {point.label}: "
                f"{figures['per_s']:,.0f} events/s",
                file=sys.stderr,
            )
    by_sweep: dict[str, dict[str, Figures]] = defaultdict(dict)
    for point in chosen:
        by_sweep[point.sweep][point.label] = medians(found[point])
    return by_sweep


def bytes_per_run(runs: dict[str, Figures]) -> float | None:
    """Memory of a live run [bytes]: the worker with the most less the one with a thousand."""
    most = max(runs, key=lambda label: int(label.replace(",", "")))
    count = int(most.replace(",", ""))
    if count <= 1000 or "1,000" not in runs:
        return None
    return (runs[most]["rss_mb"] - runs["1,000"]["rss_mb"]) * 1e6 / (count - 1000)


async def main_async(options: argparse.Namespace) -> dict[str, object]:
    chosen = [p for p in points(options.most_runs) if p.sweep in options.sweeps]
    with tempfile.TemporaryDirectory(prefix="marlin-bench-") as name:
        async with stage(options.broker, Path(name)) as new_broker:
            found = await sweep(chosen, new_broker, Path(name), options.events, options.rounds)
    return {
        "broker": options.broker,
        "events": options.events,
        "sweeps": found,
        "bytes_per_run": bytes_per_run(found["runs"]) if "runs" in found else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=("apache", "embedded"), default="apache")
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most-runs", type=int, default=1_000_000)
    parser.add_argument("--sweeps", nargs="*", default=["workers", "partitions", "runs", "agents"])
    options = parser.parse_args()
    began = time.perf_counter()
    found = asyncio.run(main_async(options))
    print(json.dumps(found | {"took_s": round(time.perf_counter() - began)}))


if __name__ == "__main__":
    main()
